internal import Base

/// Answers of several nodes to one list request as one.
public enum TokenLists {
  /// Each answer is a page in the order of names that begins after the same name; so is the result, with at most
  /// `limit` rows (0 or less: `Limits.listRows`). A name that two nodes list (its tenant is moving) comes once. nil: not lists
  /// of one kind.
  public static func merge(_ replies: [TokenReply], limit asked: Int) -> TokenReply? {
    let limit = asked <= 0 ? Limits.listRows : min(asked, Limits.listRows)
    switch replies.first {
    case .tenants:
      var pages: [([TenantView], String)] = []
      for reply in replies {
        guard case .tenants(let list, let next) = reply else { return nil }
        pages.append((list, next))
      }
      let (rows, next) = merge(pages, limit) { $0.org }
      return .tenants(rows, next: next)
    case .channels:
      var pages: [([ChannelView], String)] = []
      for reply in replies {
        guard case .channels(let list, let next) = reply else { return nil }
        pages.append((list, next))
      }
      let (rows, next) = merge(pages, limit) { $0.name }
      return .channels(rows, next: next)
    case .grantsDropped:
      var sum = 0
      for reply in replies {
        guard case .grantsDropped(let count) = reply else { return nil }
        sum += count
      }
      return .grantsDropped(sum)
    default: return nil
    }
  }

  private static func merge<Row>(
    _ pages: [([Row], String)], _ limit: Int, name: (Row) -> String
  ) -> ([Row], String) {
    func precedes(_ a: String, _ b: String) -> Bool { a.utf8.lexicographicallyPrecedes(b.utf8) }
    // Past the end of a page that goes on, another page's rows are not the next ones.
    let ends = pages.compactMap { $0.1.isEmpty ? nil : $0.1 }
    let end = ends.min(by: precedes)
    var rows: [Row] = []
    for row in pages.flatMap(\.0).sorted(by: { precedes(name($0), name($1)) }) {
      if let last = rows.last, name(last) == name(row) { continue }
      if let end, precedes(end, name(row)) { break }
      rows.append(row)
    }
    let isCut = rows.count > limit
    rows = Array(rows.prefix(limit))
    return (rows, isCut ? name(rows.last!) : end ?? "")
  }
}
