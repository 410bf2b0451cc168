public import Base
internal import CSys

/// A bounded-by-its-user queue from a loop to a thread that waits: for command line tools and benches.
public final class Handoff<Element: Sendable>: @unchecked Sendable {
  private let gate = sys_gate_new()
  private var items: [Element] = []
  private var head = 0
  private var ended = false

  public init() {}
  deinit { sys_gate_free(gate) }

  public var count: Int {
    sys_gate_lock(gate)
    defer { sys_gate_unlock(gate) }
    return items.count - head
  }

  public func put(_ element: Element) {
    sys_gate_lock(gate)
    items.append(element)
    sys_gate_signal(gate)
    sys_gate_unlock(gate)
  }

  /// Nothing more will come; waiting takers get nil once the queue is empty.
  public func end() {
    sys_gate_lock(gate)
    ended = true
    sys_gate_signal(gate)
    sys_gate_unlock(gate)
  }

  public enum Taken { case element(Element), ended, timedOut }

  /// Waits for the next element. nil timeout: for ever.
  public func take(timeout: Interval? = nil) -> Taken {
    let until = timeout.map { sys_monotonic_ns() &+ $0.nanoseconds } ?? Int64.max
    sys_gate_lock(gate)
    defer { sys_gate_unlock(gate) }
    while true {
      if head < items.count {
        let element = items[head]
        head += 1
        if head == items.count {
          items.removeAll(keepingCapacity: true)
          head = 0
        } else if head > 1024 {
          items.removeFirst(head)
          head = 0
        }
        return .element(element)
      }
      if ended { return .ended }
      if sys_gate_wait(gate, until) != 0, head == items.count, !ended { return .timedOut }
    }
  }
}

extension EventLoop {
  /// Runs `work` on the loop and waits for its result. Not on the loop itself.
  public func call<R: Sendable>(_ work: @escaping @Sendable () -> R) -> R? {
    precondition(!isCurrent, "a loop cannot wait for itself")
    let answer = Handoff<R>()
    post {
      answer.put(work())
      answer.end()
    }
    if case .element(let result) = answer.take(timeout: .seconds(30)) { return result }
    return nil
  }
}
