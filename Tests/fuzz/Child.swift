import Base
import Glibc

/// Runs the inputs of one decoder in this process, which may die of it.
enum Child {
  /// Bytes of address space above what the process starts with: an input is at most 64 KiB, and no
  /// decoder may ask for thousands of times as much.
  private static let addressBytes = 256 << 20
  /// KiB of memory at most: a leak of a few bytes an input is over it in ten million inputs.
  private static let residentKiB = 200 << 10

  enum Exit { static let finding: Int32 = 3, memory: Int32 = 4 }

  static func run(_ options: Options, _ type: any FuzzTarget.Type) -> Int32 {
    inputs(options, type)
  }

  private static func inputs<T: FuzzTarget>(_ options: Options, _ type: T.Type) -> Int32 {
    guard let progress = Progress(Progress.descriptor) else {
      say("no progress page: run without --child")
      return 1
    }
    limitMemory()
    var target = T()
    let corpus = target.corpus
    var mutator = Mutator(corpus: corpus, words: target.words)
    let fence = FencedBuffer(size: Mutator.limit)
    let end = options.seconds > 0 ? monotonicSeconds() + Double(options.seconds) : .infinity
    var accepted: UInt64 = 0
    var number: UInt64 = 0
    while number < options.count {
      progress[.current] = number
      do throws(Finding) {
        if try one(&target, &mutator, fence, corpus.count, options.seed, number) { accepted &+= 1 }
      } catch {
        say(error.text)
        return Exit.finding
      }
      number &+= 1
      if number & 0x3ff == 0 {
        progress[.done] = number
        progress[.accepted] = accepted
        progress[.peak] = peakKiB()
        if progress[.peak] > UInt64(residentKiB) {
          say("more than \(residentKiB >> 10) MiB of memory after \(number) inputs")
          return Exit.memory
        }
        if monotonicSeconds() > end { break }
      }
    }
    progress[.done] = number
    progress[.accepted] = accepted
    progress[.peak] = peakKiB()
    return 0
  }

  /// Input `number`: made from seed, decoder and number alone.
  @inline(__always)
  private static func one<T: FuzzTarget>(
    _ target: inout T, _ mutator: inout Mutator, _ fence: FencedBuffer, _ seeds: Int,
    _ seed: UInt64,
    _ number: UInt64, show: Bool = false
  ) throws(Finding) -> Bool {
    var random = FuzzRandom(seed: seed, decoder: T.name, number: number)
    let origin = random.below(seeds)
    mutator.make(from: origin, &random)
    let input = fence.place(mutator.bytes, atStart: random.oneIn(4))
    if show {
      say("\(T.name), input \(number) of seed \(seed), \(input.count) bytes: \(Text.hex(input))")
    }
    return try target.run(input, origin: origin, &random)
  }

  /// Runs one input again, here.
  static func replay(_ options: Options, _ type: any FuzzTarget.Type, _ number: UInt64) -> Int32 {
    func open<T: FuzzTarget>(_: T.Type) -> Int32 {
      limitMemory()
      var target = T()
      var mutator = Mutator(corpus: target.corpus, words: target.words)
      let fence = FencedBuffer(size: Mutator.limit)
      do throws(Finding) {
        let seeds = target.corpus.count
        let accepted = try one(&target, &mutator, fence, seeds, options.seed, number, show: true)
        say(accepted ? "accepted" : "refused")
        return 0
      } catch {
        say(error.text)
        return 1
      }
    }
    return open(type)
  }

  private static func limitMemory() {
    var text = [CChar](repeating: 0, count: 128)
    let fd = Glibc.open("/proc/self/statm", O_RDONLY)
    guard fd >= 0 else { return }
    let n = read(fd, &text, text.count - 1)
    close(fd)
    guard n > 0 else { return }
    let pages = text.prefix(n).prefix { $0 != 0x20 }.reduce(0) { $0 * 10 + Int($1 - 0x30) }
    let bytes = rlim_t(pages * 4096 + addressBytes)
    // The sanitizers map terabytes: they have bounds of their own.
    guard pages < 1 << 24 else { return }
    var limit = rlimit(rlim_cur: bytes, rlim_max: bytes)
    setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
  }

  private static func peakKiB() -> UInt64 {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return UInt64(usage.ru_maxrss)
  }

  static func say(_ text: String) {
    var line = text + "\n"
    line.withUTF8 { _ = write(2, $0.baseAddress, $0.count) }
  }
}
