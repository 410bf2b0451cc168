internal import Base

/// Who offers a skill, or (in a second index) a skill with a tag: entry numbers by skill and group (the home of the entry), so
/// that an origin is hidden without touching its entries, and local ones come first.
struct SkillIndex: Sendable {
  /// Where an entry stands, kept with the entry.
  struct Place: Sendable, Equatable {
    /// The highest bit: in the index of tags.
    var list: UInt32
    var position: UInt32
    static let tagBit: UInt32 = 1 << 31
  }
  struct Group: Sendable {
    var number: UInt32
    var members: [UInt32]
  }
  struct List: Sendable {
    var key = ""
    /// Group 0, which most answers come from.
    var local: [UInt32] = []
    /// Where the next answer begins, among local ones and among the others.
    var localCursor: UInt32 = 0
    var otherCursor: UInt32 = 0
    /// The other groups by their numbers: the answer does not depend on who came first.
    var others: [Group] = []

    var isEmpty: Bool { local.isEmpty && others.isEmpty }
    var count: Int { others.reduce(local.count) { $0 + $1.members.count } }
  }

  private var numbers: NumberTable
  private(set) var lists: [List] = []
  private var free: [UInt32] = []

  init(seed: UInt64) { numbers = NumberTable(seed: seed) }

  var keys: Int { numbers.count }

  /// The list of a skill with a tag; lengths keep different ones apart.
  static func key(_ skill: String, _ tag: Skill.Tag) -> String {
    "\(skill.utf8.count).\(tag.key.utf8.count).\(skill)\(tag.key)\(tag.value)"
  }

  /// By its bytes: on the wire an accent and a letter with one are two names.
  func find(_ key: String) -> Int? { find(key, numbers.hash(key)).map { Int($0) } }

  private func find(_ key: String, _ hash: UInt64) -> UInt32? {
    numbers.find(hash) { isSameText(lists[Int($0)].key, key) }
  }

  mutating func setCursors(_ list: Int, local: Int, other: Int) {
    lists[list].localCursor = UInt32(truncatingIfNeeded: local)
    lists[list].otherCursor = UInt32(truncatingIfNeeded: other)
  }

  mutating func insert(_ key: String, group: UInt32, entry: UInt32) -> Place {
    let hash = numbers.hash(key)
    let list: UInt32
    if let known = find(key, hash) {
      list = known
    } else {
      if let reused = free.popLast() {
        list = reused
      } else {
        list = UInt32(lists.count)
        lists.append(List())
      }
      lists[Int(list)].key = key
      numbers.insert(hash, list)
    }
    return Place(list: list, position: UInt32(add(entry, to: Int(list), group)))
  }

  /// - Returns: its position.
  private mutating func add(_ entry: UInt32, to list: Int, _ group: UInt32) -> Int {
    if group == 0 {
      lists[list].local.append(entry)
      return lists[list].local.count - 1
    }
    if let at = lists[list].others.firstIndex(where: { $0.number == group }) {
      lists[list].others[at].members.append(entry)
      return lists[list].others[at].members.count - 1
    }
    let at = lists[list].others.firstIndex { $0.number > group } ?? lists[list].others.count
    lists[list].others.insert(Group(number: group, members: [entry]), at: at)
    return 0
  }

  /// Returns the entry that took the place, when one did.
  mutating func remove(_ place: Place, group: UInt32) -> UInt32? {
    let list = Int(place.list)
    let moved: UInt32?
    if group == 0 {
      moved = SkillIndex.remove(place.position, &lists[list].local)
    } else {
      guard let at = lists[list].others.firstIndex(where: { $0.number == group }) else {
        preconditionFailure("an entry stands in its group's list")
      }
      moved = SkillIndex.remove(place.position, &lists[list].others[at].members)
      if lists[list].others[at].members.isEmpty { lists[list].others.remove(at: at) }
    }
    if lists[list].isEmpty { forget(list) }
    return moved
  }

  private static func remove(_ position: UInt32, _ members: inout [UInt32]) -> UInt32? {
    let last = members.removeLast()
    if position == members.count { return nil }
    members[Int(position)] = last
    return last
  }

  private mutating func forget(_ list: Int) {
    numbers.remove(numbers.hash(lists[list].key), UInt32(list))
    lists[list] = List()
    free.append(UInt32(list))
  }
}

/// Whether two texts are the same bytes; `==` would take an accent and a letter with one for one.
@inline(__always) func isSameText(_ a: String, _ b: String) -> Bool {
  let isSame = unsafe a.utf8.withContiguousStorageIfAvailable { x in
    unsafe b.utf8.withContiguousStorageIfAvailable { y in
      unsafe sameBytes(UnsafeRawBufferPointer(x), UnsafeRawBufferPointer(y))
    }
  }
  return (isSame ?? nil) ?? a.utf8.elementsEqual(b.utf8)
}
