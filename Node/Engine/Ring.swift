/// A queue in one array, its room used again: amortised constant cost at both ends.
/// SAFETY: the `count` slots from `head` on hold elements, so they are unwrapped without a test.
struct Ring<Element> {
  private var slots: ContiguousArray<Element?> = []
  private var head = 0
  private(set) var count = 0

  var isEmpty: Bool { count == 0 }

  private func place(_ i: Int) -> Int { (head &+ i) & (slots.count &- 1) }

  subscript(i: Int) -> Element {
    @inline(__always) _read {
      precondition(i >= 0 && i < count, "ring index out of bounds")
      yield unsafe slots[place(i)].unsafelyUnwrapped
    }
    set {
      precondition(i >= 0 && i < count, "ring index out of bounds")
      slots[place(i)] = newValue
    }
  }

  var first: Element? { count == 0 ? nil : slots[head] }
  var last: Element? { count == 0 ? nil : slots[place(count - 1)] }

  mutating func append(_ element: Element) {
    if count == slots.count { grow() }
    slots[place(count)] = element
    count &+= 1
  }

  @discardableResult
  mutating func removeFirst() -> Element {
    precondition(count > 0, "removed from an empty ring")
    let element = unsafe slots[head].unsafelyUnwrapped
    slots[head] = nil
    head = (head &+ 1) & (slots.count &- 1)
    count &-= 1
    return element
  }

  @discardableResult
  mutating func removeLast() -> Element {
    precondition(count > 0, "removed from an empty ring")
    let at = place(count - 1)
    let element = unsafe slots[at].unsafelyUnwrapped
    slots[at] = nil
    count &-= 1
    return element
  }

  mutating func removeAll() {
    slots = []
    head = 0
    count = 0
  }

  private mutating func grow() {
    var wider = ContiguousArray<Element?>(repeating: nil, count: max(8, slots.count * 2))
    for i in 0..<count { wider[i] = slots[place(i)] }
    slots = wider
    head = 0
  }
}

extension Array where Element == UInt8 {
  /// `withUnsafeBytes` that keeps the type of the error.
  func borrowBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E) -> R {
    let result: Result<R, E> = unsafe withUnsafeBytes { bytes in
      do throws(E) { return try unsafe .success(body(bytes)) } catch { return .failure(error) }
    }
    return try result.get()
  }
}
