internal import Base

/// Names a timer of one loop. Stale ids are harmless.
public struct TimerID: Sendable, Hashable {
  var slot: Int32
  var generation: UInt32
  public static let none = TimerID(slot: -1, generation: 0)
}

/// A binary heap of timers, each knowing its place: cancelling costs log n, nothing lingers.
struct TimerHeap {
  private struct Slot {
    var generation: UInt32 = 0
    /// Index in the heap, or -1 when free.
    var place: Int32 = -1
    var due: Int64 = 0
    var action: (() -> Void)?
  }
  private var slots: [Slot] = []
  private var free: [Int32] = []
  private var heap: [Int32] = []

  var count: Int { heap.count }
  /// Due time of the first, or nil.
  var next: Int64? { heap.isEmpty ? nil : slots[Int(heap[0])].due }

  mutating func insert(due: Int64, _ action: @escaping () -> Void) -> TimerID {
    let s: Int32
    if let reused = free.popLast() {
      s = reused
    } else {
      s = Int32(slots.count)
      slots.append(Slot())
    }
    slots[Int(s)].due = due
    slots[Int(s)].action = action
    heap.append(s)
    slots[Int(s)].place = Int32(heap.count - 1)
    rise(heap.count - 1)
    return TimerID(slot: s, generation: slots[Int(s)].generation)
  }

  mutating func cancel(_ id: TimerID) {
    guard id.slot >= 0, Int(id.slot) < slots.count,
      slots[Int(id.slot)].generation == id.generation, slots[Int(id.slot)].place >= 0
    else { return }
    remove(at: Int(slots[Int(id.slot)].place))
  }

  /// Takes the first timer that is due.
  mutating func pop(due now: Int64) -> (() -> Void)? {
    guard let first = heap.first, slots[Int(first)].due <= now else { return nil }
    let action = slots[Int(first)].action
    remove(at: 0)
    return action
  }

  mutating func removeAll() {
    while !heap.isEmpty { remove(at: heap.count - 1) }
  }

  private mutating func remove(at index: Int) {
    let s = Int(heap[index])
    let last = heap.removeLast()
    if index < heap.count {
      heap[index] = last
      slots[Int(last)].place = Int32(index)
      rise(index)
      sink(Int(slots[Int(last)].place))
    }
    slots[s].action = nil
    slots[s].place = -1
    slots[s].generation &+= 1
    free.append(Int32(s))
  }

  private mutating func swap(_ a: Int, _ b: Int) {
    heap.swapAt(a, b)
    slots[Int(heap[a])].place = Int32(a)
    slots[Int(heap[b])].place = Int32(b)
  }

  private func due(_ index: Int) -> Int64 { slots[Int(heap[index])].due }

  private mutating func rise(_ start: Int) {
    var i = start
    while i > 0, due(i) < due((i - 1) / 2) {
      swap(i, (i - 1) / 2)
      i = (i - 1) / 2
    }
  }

  private mutating func sink(_ start: Int) {
    var i = start
    while true {
      var least = i
      for child in [2 * i + 1, 2 * i + 2] where child < heap.count && due(child) < due(least) {
        least = child
      }
      if least == i { return }
      swap(i, least)
      i = least
    }
  }
}
