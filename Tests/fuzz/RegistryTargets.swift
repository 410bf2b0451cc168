import Base
import Registry

/// Rows of the registry, and registrations as they come over the wire.
struct RegistryTarget: FuzzTarget {
  static let name = "registry"
  static let wantedShare = 10_000
  /// A byte (0: a row, 1: a registration, 2: a discovery), then the bytes.
  let corpus: [[UInt8]]

  private static let registration = Registration(
    peerID: "12D3KooWExample",
    skills: [
      Skill(
        id: "echo", description: "says it again", tags: [.init("lang", "de"), .init("v", "2")]),
      Skill(id: "sum"),
    ], name: "Echo", description: "an agent")

  init() {
    let body = RegistryTarget.registration.encoded()
    let stamp = Stamp(version: 9, origin: "relay", incarnation: 3, sequence: 7)
    let live = Record(stamp: stamp, isProved: true, registeredAt: 5, source: "up", body: body)
    let dead = Record.tombstone("p", stamp, registeredAt: 5)
    corpus = [
      [0] + live.row, [0] + dead.row, [1] + body.array(),
      [2, 10, 4, 101, 99, 104, 111, 18, 6, 10, 1, 97, 18, 1, 98, 24, 5, 32, 1],
    ]
  }

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    guard let kind = input.first else { return false }
    let rest = UnsafeRawBufferPointer(rebasing: input[1...])
    switch kind {
    case 0:
      guard let record = try? Record(row: rest) else { return false }
      try check(record.row == Array(rest), "a row that changes: \(record)")
      return true
    case 1:
      guard let read = try? Registration(decoding: rest) else { return false }
      guard (try? read.check()) != nil else { return true }
      let bytes = read.encoded()
      let again = try? Registration(decoding: bytes.array())
      try check(again == read && again?.encoded() == bytes, "a registration that changes: \(read)")
      var registry = Registry(settings: RegistrySettings(relayID: "r"), at: Self.now)
      registry.finishLoading(at: Self.now)
      guard (try? registry.receiveRegister(read, at: Self.now)) != nil else {
        throw Finding("a registration in order is refused")
      }
      for skill in read.skills {
        let wanted = Discovery(skill: skill.id, tags: skill.tags)
        try check(
          registry.discover(wanted, at: Self.now) == [read.peerID], "\(skill) is not found")
      }
      return true
    default:
      return (try? Discovery(decoding: rest, alwaysOthers: false)) != nil
    }
  }

  private static let now = Now(
    monotonic: Instant(nanoseconds: 1), wall: Instant(nanoseconds: 1_800_000_000_000_000_000))
}
