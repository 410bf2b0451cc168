/// What a decoder did that it must not.
struct Finding: Error {
  var text: String
  init(_ text: String) { self.text = text }
}

/// One decoder under test: valid inputs to start from, and what must hold for every input.
protocol FuzzTarget {
  static var name: String { get }
  /// At least this share of inputs must be accepted, in millionths: fewer would prove little.
  static var wantedShare: Int { get }
  init()
  /// Valid inputs, made by the encoders where there are some.
  var corpus: [[UInt8]] { get }
  /// Pieces of the format.
  var words: [[UInt8]] { get }
  /// Decodes; true when the input was accepted. `origin` is the seed it was made from. The bytes die
  /// with the call.
  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool
}

extension FuzzTarget {
  static var wantedShare: Int { 1_000 }
  var words: [[UInt8]] { [] }

  func check(_ holds: Bool, _ text: @autoclosure () -> String) throws(Finding) {
    if !holds { throw Finding(text()) }
  }

  /// What ends in a checksum: half of the inputs are damaged by the disk or the wire, half have a checksum that fits what
  /// nobody wrote. `seal` puts it behind the bytes.
  func half(
    of input: UnsafeRawBufferPointer, _ random: inout FuzzRandom, sumBytes: Int = 4,
    sealed seal: ([UInt8]) -> [UInt8]
  ) -> (bytes: [UInt8], isSealed: Bool) {
    let isSealed = random.oneIn(2)
    let bytes = Array(input)
    if !isSealed || bytes.count < sumBytes { return (bytes, isSealed) }
    return (seal(bytes.dropLast(sumBytes)), isSealed)
  }
}

/// Every decoder, in the order they are run.
var fuzzTargets: [any FuzzTarget.Type] {
  [
    ProtobufTarget.self, SlimTarget.self, SlimATarget.self, SlimBTarget.self, FrameTarget.self,
    DeframerTarget.self, Http1Target.self,
    HttpTextTarget.self, JWTTarget.self, SignedJWTTarget.self, FlatJSONTarget.self,
    CredentialTarget.self, MLSTarget.self, TomlTarget.self, RecordTarget.self, StateRowTarget.self,
    EngineTarget.self, TokenRowTarget.self, HeadMarkTarget.self, TextTarget.self,
    RingTarget.self, MemberPacketTarget.self, LinkTarget.self, MoveTarget.self, RegistryTarget.self,
  ]
}

/// Faulty on purpose: `--self-check` sees that each fault is noticed.
var plantedTargets: [any FuzzTarget.Type] {
  [
    PlantedTrap.self, PlantedOverread.self, PlantedHang.self, PlantedMemory.self, PlantedWrong.self,
  ]
}
