import Base

/// The sessions of one loop, found by index; an id of an ended session finds nothing.
struct SessionTable {
  private var slots: [Session?] = []
  private var generations: [UInt32] = []
  private var free: [Int] = []
  private(set) var count = 0
  private let loop: Int

  init(loop: Int) { self.loop = loop }

  mutating func nextID() -> SessionID {
    let index: Int
    if let reused = free.popLast() {
      index = reused
    } else {
      index = slots.count
      slots.append(nil)
      generations.append(0)
    }
    return SessionID(loop: loop, generation: generations[index], index: index)
  }

  mutating func insert(_ session: Session) {
    slots[session.id.index] = session
    count += 1
  }

  mutating func remove(_ id: SessionID) {
    guard id.index < slots.count, slots[id.index]?.id == id else { return }
    slots[id.index] = nil
    generations[id.index] = (generations[id.index] &+ 1) & 0xff_ffff
    free.append(id.index)
    count -= 1
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
