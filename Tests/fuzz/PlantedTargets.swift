import Glibc

// Decoders that are wrong on purpose: a net without them in it has not been tried.

protocol PlantedTarget: FuzzTarget {
  static func harm(_ input: UnsafeRawBufferPointer) throws(Finding)
}

extension PlantedTarget {
  var corpus: [[UInt8]] { [[UInt8](repeating: 7, count: 32)] }
  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    if input.count >= 2, input[1] == 0xff { try Self.harm(input) }
    return true
  }
}

struct PlantedTrap: PlantedTarget {
  static let name = "planted-trap"
  static func harm(_ input: UnsafeRawBufferPointer) {
    precondition(input.isEmpty, "planted")
  }
}

struct PlantedOverread: PlantedTarget {
  static let name = "planted-overread"
  static func harm(_ input: UnsafeRawBufferPointer) throws(Finding) {
    // Bounds are not checked in release builds: only the fence notices.
    let past = input.baseAddress!.load(fromByteOffset: input.count, as: UInt8.self)
    if past == 1 { throw Finding("not reached") }
  }
}

struct PlantedHang: PlantedTarget {
  static let name = "planted-hang"
  static func harm(_ input: UnsafeRawBufferPointer) { while getppid() >= 0 { usleep(1_000) } }
}

struct PlantedMemory: PlantedTarget {
  static let name = "planted-memory"
  static func harm(_ input: UnsafeRawBufferPointer) {
    // What trusting a declared length of 512 MiB does.
    let room = mmap(nil, 512 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    guard let room, room != MAP_FAILED else { fatalError("no memory") }
    munmap(room, 512 << 20)
  }
}

struct PlantedWrong: PlantedTarget {
  static let name = "planted-wrong"
  static func harm(_ input: UnsafeRawBufferPointer) throws(Finding) { throw Finding("planted") }
}
