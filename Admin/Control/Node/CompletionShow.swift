internal import Base
internal import Settings

enum CompletionShow: Command {
  static let form = CommandForm(
    "completion", "A completion script.", arguments: [CommandArgument("SHELL")],
    examples: ["posthouse completion bash > /etc/bash_completion.d/posthouse"])

  static func run(_ call: Call) throws(Fault) {
    guard call.word(0) == "bash" else {
      throw Fault(.usage, "there is completion for bash, not for \(call.word(0))")
    }
    call.renderer.show(.text(bash(ControlProgram.syntax), member: "script"))
  }

  /// First words, second words of each group, then options.
  static func bash(_ syntax: CommandSyntax) -> String {
    var groups: [(String, [String])] = []
    for form in syntax.commands {
      let second = form.path.count > 1 ? [form.path[1]] : []
      if let at = groups.firstIndex(where: { $0.0 == form.path[0] }) {
        groups[at].1 += second
      } else {
        groups.append((form.path[0], second))
      }
    }
    var cases = ""
    for (word, seconds) in groups where !seconds.isEmpty {
      cases += "      \(word)) words=\"\(seconds.joined(separator: " "))\" ;;\n"
    }
    var forms = ""
    for form in syntax.commands {
      let names = (form.options + syntax.options).map(\.name).joined(separator: " ")
      forms += "      \"\(form.name)\"*) words=\"\(names) --help\" ;;\n"
    }
    return """
      # bash completion for posthouse
      _posthouse() {
        local current="${COMP_WORDS[COMP_CWORD]}" words=""
        if [[ "$current" == -* ]]; then
          case "${COMP_WORDS[*]:1:2}" in
      \(forms)      *) words="--help" ;;
          esac
        elif [[ "${COMP_WORDS[COMP_CWORD-1]}" == "-o" || "${COMP_WORDS[COMP_CWORD-1]}" == "--output" ]]; then
          words="\(OutputForm.allCases.map(\.rawValue).joined(separator: " "))"
        elif [[ $COMP_CWORD -eq 1 ]]; then
          words="\(groups.map(\.0).joined(separator: " "))"
        elif [[ $COMP_CWORD -eq 2 ]]; then
          case "${COMP_WORDS[1]}" in
      \(cases)    esac
        fi
        COMPREPLY=($(compgen -W "$words" -- "$current"))
      }
      complete -o default -F _posthouse posthouse
      """
  }
}
