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
    var groups: [Group] = []
    /// Where the next answer begins, among local ones and among the others.
    var localCursor = 0
    var otherCursor = 0
  }

  private var numbers: [String: UInt32] = [:]
  private(set) var lists: [List] = []
  private var free: [UInt32] = []

  var keys: Int { numbers.count }

  /// The list of a skill with a tag; lengths keep different ones apart.
  static func key(_ skill: String, _ tag: Skill.Tag) -> String {
    "\(skill.utf8.count).\(tag.key.utf8.count).\(skill)\(tag.key)\(tag.value)"
  }

  func find(_ key: String) -> Int? { numbers[key].map { Int($0) } }

  func count(_ list: Int) -> Int { lists[list].groups.reduce(0) { $0 + $1.members.count } }

  mutating func setCursors(_ list: Int, local: Int, other: Int) {
    lists[list].localCursor = local
    lists[list].otherCursor = other
  }

  mutating func insert(_ key: String, group: UInt32, entry: UInt32) -> Place {
    let list: UInt32
    if let known = numbers[key] {
      list = known
    } else {
      if let reused = free.popLast() {
        list = reused
      } else {
        list = UInt32(lists.count)
        lists.append(List())
      }
      lists[Int(list)].key = key
      numbers[key] = list
    }
    let position: Int
    if let at = lists[Int(list)].groups.firstIndex(where: { $0.number == group }) {
      position = lists[Int(list)].groups[at].members.count
      lists[Int(list)].groups[at].members.append(entry)
    } else {
      position = 0
      // Groups in the order of their numbers: the answer does not depend on who came first.
      let at =
        lists[Int(list)].groups.firstIndex { $0.number > group } ?? lists[Int(list)].groups.count
      lists[Int(list)].groups.insert(Group(number: group, members: [entry]), at: at)
    }
    return Place(list: list, position: UInt32(position))
  }

  /// Returns the entry that took the place, when one did.
  mutating func remove(_ place: Place, group: UInt32) -> UInt32? {
    let list = Int(place.list)
    guard let at = lists[list].groups.firstIndex(where: { $0.number == group }) else {
      preconditionFailure("an entry stands in its group's list")
    }
    let last = lists[list].groups[at].members.removeLast()
    if Int(place.position) < lists[list].groups[at].members.count {
      lists[list].groups[at].members[Int(place.position)] = last
      return last
    }
    if lists[list].groups[at].members.isEmpty {
      lists[list].groups.remove(at: at)
      if lists[list].groups.isEmpty { forget(list) }
    }
    return nil
  }

  private mutating func forget(_ list: Int) {
    numbers.removeValue(forKey: lists[list].key)
    lists[list] = List()
    free.append(UInt32(list))
  }
}
