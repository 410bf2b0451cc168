/// The command line of `fuzz`.
struct Options {
  var decoder = "all"
  var count: UInt64 = 100_000
  /// Seconds for each decoder at most; 0: no bound.
  var seconds = 0
  var seed: UInt64 = 1
  var jobs = 2
  /// One input only, to replay it.
  var at: UInt64?
  var hangSeconds = 10
  var selfCheck = false
  /// This process is the one that may die.
  var isChild = false
  var showHelp = false
  var list = false
  /// Seconds of libFuzzer, in a build for it.
  var libFuzzer = false

  static let help = """
    usage: fuzz [--decoder NAME|all] [--count N] [--seconds S] [--seed N] [--jobs N]
                [--at NUMBER] [--hang-seconds S] [--self-check] [--list]

    Feeds mutated inputs to the decoders, each in a process of its own. The same seed makes the same
    inputs. Exit code: 0 all passed, 1 a decoder failed, 2 usage.

      --decoder NAME    one decoder (fuzz --list); default all
      --count N         inputs for each decoder; default 100000
      --seconds S       stop a decoder after S seconds
      --seed N          default 1
      --jobs N          decoders at a time; default 2
      --at NUMBER       run input NUMBER alone, in this process, and show it
      --hang-seconds S  an input that takes longer is a hang; default 10
      --self-check      run decoders with planted faults; each must be noticed
      --list            names of the decoders
    """

  /// nil when it is not understood.
  init?(_ arguments: [String]) {
    var rest = arguments.dropFirst()
    func number(_ text: String?) -> UInt64? {
      text.flatMap { UInt64($0.filter { $0 != "_" && $0 != "," }) }
    }
    while let name = rest.popFirst() {
      switch name {
      case "--help", "-h": showHelp = true
      case "--list": list = true
      case "--self-check": selfCheck = true
      case "--child": isChild = true
      case "--libfuzzer":
        libFuzzer = true
        guard let name = rest.popFirst() else { return nil }
        decoder = name
        return
      case "--decoder":
        guard let name = rest.popFirst() else { return nil }
        decoder = name
      case "--count", "--inputs":
        guard let n = number(rest.popFirst()) else { return nil }
        count = n
      case "--seconds":
        guard let n = number(rest.popFirst()), n < 1 << 30 else { return nil }
        seconds = Int(n)
      case "--seed":
        guard let n = number(rest.popFirst()) else { return nil }
        seed = n
      case "--jobs":
        guard let n = number(rest.popFirst()), (1...64).contains(n) else { return nil }
        jobs = Int(n)
      case "--at":
        guard let n = number(rest.popFirst()) else { return nil }
        at = n
      case "--hang-seconds":
        guard let n = number(rest.popFirst()), (1...3600).contains(n) else { return nil }
        hangSeconds = Int(n)
      default: return nil
      }
    }
  }

  /// The decoders that are asked for; nil for an unknown name.
  var targets: [any FuzzTarget.Type]? {
    if decoder == "all" { return selfCheck ? plantedTargets : fuzzTargets }
    let found = (fuzzTargets + plantedTargets).filter { $0.name == decoder }
    return found.isEmpty ? nil : found
  }
}
