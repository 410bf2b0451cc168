/// Names in the order of their UTF-8. Appended unsorted while rows are loaded, then settled once.
struct SortedNames {
  private var names: [String] = []
  private var settled = true

  var count: Int { names.count }

  private static func precedes(_ a: String, _ b: String) -> Bool {
    a.utf8.lexicographicallyPrecedes(b.utf8)
  }

  mutating func append(_ name: String) {
    names.append(name)
    settled = false
  }

  mutating func settle() {
    if !settled { names.sort(by: Self.precedes) }
    settled = true
  }

  /// The first place whose name is not before `name`.
  func place(of name: String) -> Int {
    precondition(settled, "names are looked up before they are sorted")
    var low = 0
    var high = names.count
    while low < high {
      let middle = (low + high) / 2
      if Self.precedes(names[middle], name) { low = middle + 1 } else { high = middle }
    }
    return low
  }

  private func holds(_ name: String, at place: Int) -> Bool {
    place < names.count && names[place].utf8.elementsEqual(name.utf8)
  }

  mutating func insert(_ name: String) {
    let place = place(of: name)
    if !holds(name, at: place) { names.insert(name, at: place) }
  }

  mutating func remove(_ name: String) {
    let place = place(of: name)
    if holds(name, at: place) { names.remove(at: place) }
  }

  mutating func removeAll() {
    names.removeAll()
    settled = true
  }

  /// Up to `limit` names after `after` that begin with `prefix`.
  func list(prefix: String, after: String, limit: Int) -> [String] {
    var place = place(of: prefix)
    if !after.isEmpty {
      let next = self.place(of: after)
      place = max(place, holds(after, at: next) ? next + 1 : next)
    }
    var out: [String] = []
    while place < names.count, out.count < limit, names[place].utf8.starts(with: prefix.utf8) {
      out.append(names[place])
      place += 1
    }
    return out
  }
}
