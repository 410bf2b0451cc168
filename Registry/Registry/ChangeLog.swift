/// The records of one origin in the order of its changes: what a peer with an older vector lacks.
///
/// Only appended to; a record that changes again stands once more at the end, and where it stood is
/// skipped and in time swept out. 16 bytes an element.
struct ChangeLog: Sendable {
  struct Element: Sendable {
    var sequence: UInt64
    var entry: UInt32
  }
  private(set) var elements: [Element] = []
  /// Records that stand here, each once.
  private(set) var count = 0

  /// Usually the highest sequence so far; a repair may bring an older one.
  mutating func add(_ sequence: UInt64, _ entry: UInt32) {
    let element = Element(sequence: sequence, entry: entry)
    if let last = elements.last, last.sequence > sequence {
      elements.insert(element, at: index(after: sequence))
    } else {
      elements.append(element)
    }
    count += 1
  }

  /// One record less. `isCurrent`: whether an element is where its record stands now.
  mutating func remove(_ isCurrent: (Element) -> Bool) {
    count -= 1
    if elements.count > 1024, elements.count > count * 2 { elements.removeAll { !isCurrent($0) } }
  }

  mutating func removeAll() {
    elements = []
    count = 0
  }

  /// Where what comes after this sequence begins.
  func index(after sequence: UInt64) -> Int {
    var (low, high) = (0, elements.count)
    while low < high {
      let middle = (low + high) / 2
      if elements[middle].sequence <= sequence { low = middle + 1 } else { high = middle }
    }
    return low
  }
}
