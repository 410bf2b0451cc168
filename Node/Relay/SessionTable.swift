import Base

/// The sessions of one loop, found by index; an id of an ended session finds nothing.
struct SessionTable {
  private var slots: [Session?] = []
  /// The SLIM streams among them, found without counting: `slots` and `buried` hold their sessions.
  private var streams: [Place] = []
  /// Sessions that ended in this turn: something further up may be at work on them still.
  private var buried: [Session] = []
  private var generations: [UInt32] = []
  private var free: [Int] = []
  private(set) var count = 0
  private let loop: Int

  private struct Place {
    var id: SessionID
    var stream: Borrowed<SlimStream>?
  }

  init(loop: Int) { self.loop = loop }

  mutating func nextID() -> SessionID {
    let index: Int
    if let reused = free.popLast() {
      index = reused
    } else {
      index = slots.count
      slots.append(nil)
      generations.append(0)
      streams.append(Place(id: SessionID(0), stream: nil))
    }
    let id = SessionID(loop: loop, generation: generations[index], index: index)
    streams[index] = Place(id: id, stream: nil)
    return id
  }

  mutating func insert(_ session: Session) {
    slots[session.id.index] = session
    count += 1
  }

  mutating func remove(_ id: SessionID) {
    guard id.index < slots.count, slots[id.index]?.id == id else { return }
    if let ended = slots[id.index] { buried.append(ended) }
    slots[id.index] = nil
    streams[id.index].stream = nil
    generations[id.index] = (generations[id.index] &+ 1) & 0xff_ffff
    free.append(id.index)
    count -= 1
  }

  /// The session speaks SLIM, as its first message told.
  mutating func note(_ stream: SlimStream, of id: SessionID) {
    guard id.index < streams.count, streams[id.index].id == id else { return }
    streams[id.index].stream = Borrowed(stream)
  }

  /// Valid until the turn ends.
  @inline(__always) func stream(_ id: SessionID) -> Borrowed<SlimStream>? {
    let index = id.index
    guard index < streams.count, streams[index].id == id else { return nil }
    return streams[index].stream
  }

  /// The turn ends: what has ended may go.
  mutating func endTurn() {
    if !buried.isEmpty { buried.removeAll(keepingCapacity: buried.count < 256) }
  }

  @inline(__always) func find(_ id: SessionID) -> Session? {
    let index = id.index
    guard index < slots.count, let session = slots[index], session.id == id else { return nil }
    return session
  }

  func forEach(_ body: (Session) -> Void) {
    for case let session? in slots { body(session) }
  }
}
