#if LIBFUZZER
  import Base
  import Glibc

  /// libFuzzer's own loop over one decoder, guided by coverage. Its `main` stays out: ours is there.
  @_silgen_name("LLVMFuzzerRunDriver")
  private func runDriver(
    _ count: UnsafeMutablePointer<Int32>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
    _ callback: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
  ) -> Int32

  nonisolated(unsafe) private var guided: any FuzzTarget = TextTarget()

  enum LibFuzzer {
    /// `fuzz --libfuzzer DECODER [libFuzzer's arguments]`.
    static func run(_ type: any FuzzTarget.Type) -> Int32 {
      guided = type.init()
      let own = ["fuzz"] + CommandLine.arguments.dropFirst(3)
      var arguments: [UnsafeMutablePointer<CChar>?] = own.map { strdup($0) } + [nil]
      var count = Int32(own.count)
      return arguments.withUnsafeMutableBufferPointer { all in
        var start: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = all.baseAddress
        return runDriver(&count, &start) { bytes, n in
          let input = UnsafeRawBufferPointer(start: bytes, count: n)
          var seed: UInt64 = 0xcbf2_9ce4_8422_2325
          for byte in input { seed = (seed ^ UInt64(byte)) &* 0x100_0000_01b3 }
          var random = FuzzRandom(seed)
          do throws(Finding) {
            _ = try guided.run(input, origin: 0, &random)
          } catch {
            Child.say(error.text)
            abort()
          }
          return 0
        }
      }
    }

  }
#endif
