import Glibc

/// `fuzz`: mutated inputs for every decoder.
@main struct Program {
  static func main() { exit(run()) }

  private static func run() -> Int32 {
    guard let options = Options(CommandLine.arguments) else {
      Child.say(Options.help)
      return 2
    }
    if options.showHelp {
      print(Options.help)
      return 0
    }
    if options.list {
      for type in fuzzTargets { print(type.name) }
      return 0
    }
    guard let targets = options.targets else {
      Child.say(
        "no decoder \(options.decoder); there are: "
          + fuzzTargets.map { $0.name }.joined(separator: " "))
      return 2
    }
    #if LIBFUZZER
      if options.libFuzzer { return LibFuzzer.run(targets[0]) }
    #endif
    if options.isChild { return Child.run(options, targets[0]) }
    if let number = options.at { return Child.replay(options, targets[0], number) }
    let parent = Parent(options, targets)
    parent.run()
    if options.selfCheck { return judge(parent.verdicts) }
    let failed = parent.verdicts.filter { !$0.passed }.map(\.name)
    print(
      failed.isEmpty
        ? "PASS: \(parent.verdicts.count) decoders, seed \(options.seed)"
        : "FAIL: \(failed.joined(separator: " "))")
    return failed.isEmpty ? 0 : 1
  }

  /// Planted faults: each must have been noticed as what it is.
  private static func judge(_ verdicts: [Parent.Verdict]) -> Int32 {
    let signs = [
      "planted-trap": "DIED of signal", "planted-overread": "DIED of signal 11",
      "planted-hang": "HANG",
      "planted-memory": "DIED of signal", "planted-wrong": "WRONG",
    ]
    let missed = verdicts.filter { v in
      v.passed || !(signs[v.name].map { v.line.contains($0) } ?? false)
    }
    print(
      missed.isEmpty
        ? "PASS: all \(verdicts.count) planted faults were noticed"
        : "FAIL: not noticed: \(missed.map(\.name).joined(separator: " "))")
    return missed.isEmpty ? 0 : 1
  }
}
