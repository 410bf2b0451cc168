internal import Base

extension MetadataEngine {
  struct Outcome {
    var succeeded: Bool
    var results: [MetadataResult] = []
    var changes: [MetadataChange] = []
    var state: [StateChange] = []
  }

  /// What a transaction would do to the state as it is. Reads see what the operations before them wrote.
  func evaluate(_ transaction: MetadataTransaction) throws(MetadataFault) -> Outcome {
    try check(transaction)
    let succeeded = transaction.compares.allSatisfy(state.holds)
    var outcome = Outcome(succeeded: succeeded)
    var next = state
    let revision = state.revision + 1
    for operation in succeeded ? transaction.success : transaction.failure {
      switch operation {
      case .get(let range, let limit):
        let found = next.get(range, limit: limit)
        outcome.results.append(.got(found.entries, more: found.more))
      case .put(let key, let value, let lease):
        if lease != 0, state.leases[lease] == nil { throw .noLease }
        let before = next[key]
        if before == nil, next.entries.count >= Limits.metadataKeys { throw .full }
        let entry = MetadataEntry(
          key: key, value: value, created: before?.created ?? revision, modified: revision,
          version: (before?.version ?? 0) + 1, lease: lease)
        next.put(entry)
        outcome.state.append(.put(entry))
        outcome.changes.append(.put(entry))
        outcome.results.append(.put)
      case .delete(let range):
        let keys = next.keys(in: range)
        for key in keys {
          next.delete(key)
          outcome.state.append(.delete(key))
          outcome.changes.append(.deleted(key: key, revision: revision))
        }
        outcome.results.append(.deleted(keys.count))
      }
    }
    return outcome
  }

  private func check(_ transaction: MetadataTransaction) throws(MetadataFault) {
    let counts = [
      transaction.compares.count, transaction.success.count, transaction.failure.count,
    ]
    if counts.contains(where: { $0 > Limits.metadataOperations }) {
      throw .outOfBounds("more than \(Limits.metadataOperations) operations")
    }
    var bytes = 0
    for operation in transaction.success + transaction.failure {
      guard case .put(let key, let value, _) = operation else { continue }
      if key.isEmpty || key.count > Limits.metadataKeyBytes {
        throw .outOfBounds("a key of \(key.count) bytes")
      }
      bytes += key.count + value.count
    }
    if bytes > Limits.metadataWriteBytes { throw .outOfBounds("\(bytes) bytes in a transaction") }
    for list in [transaction.success, transaction.failure] where writesTwice(list) {
      throw .keyTwice
    }
  }

  private func writesTwice(_ list: [MetadataOperation]) -> Bool {
    var keys: Set<[UInt8]> = []
    for case .put(let key, _, _) in list where !keys.insert(key).inserted { return true }
    for case .delete(let range) in list where keys.contains(where: range.contains) { return true }
    return false
  }
}
