import Base
import Codec
import Messages
import Metadata
import Ring

/// What a cluster has agreed on, on the node that hosts its metadata: the map, what is staged, earlier layouts and the
/// nodes. Changes are made one after the other: on a copy, which is written by compare-and-swap, and stands once that
/// is on disk. Belongs to the cluster's loop.
final class RingKeeper: MetadataClient, @unchecked Sendable {
  struct Draft {
    var ledger = RingLedger()
    /// Without their loads.
    var relays: [NodeID: ClusterRelay] = [:]
  }
  typealias Work = (inout Draft) throws(Fault) -> Void
  typealias Done = (Result<Draft, Fault>) -> Void

  private let store: any MetadataStore
  private(set) var now = Draft()
  /// Revision of the metadata at which `relays` changed last.
  private(set) var directory: UInt64 = 0
  /// Called when a change stands.
  var onChange: (() -> Void)?
  private var rows: [[UInt8]: (value: [UInt8], modified: UInt64)] = [:]
  private var queue: [(work: Work, done: Done)] = []
  private var isWriting = false
  private var waiting: [UInt64: (MetadataAnswer) -> Void] = [:]
  private var lastToken: UInt64 = 0
  private var history: [UInt64: [UInt8]] = [:]

  init(store: any MetadataStore) { self.store = store }

  /// Reads what is there. `done` with what a damaged row says, or nil.
  func load(_ done: @escaping (Fault?) -> Void) {
    var found: [MetadataEntry] = []
    func next(from key: [UInt8]) {
      ask(.get(MetadataRange(from: key, to: []), limit: 0)) { [self] answer in
        guard case .got(let entries, let more, _) = answer else {
          return done(Fault(.unavailable, "the cluster's metadata does not answer: \(answer)"))
        }
        found += entries
        if more, let last = entries.last { return next(from: last.key + [0]) }
        let fault = take(found)
        done(fault)
      }
    }
    next(from: [])
  }

  private func take(_ entries: [MetadataEntry]) -> Fault? {
    do throws(Fault) {
      now = try RingRows.draft(entries)
    } catch {
      return error
    }
    rows = [:]
    for entry in entries where RingRows.isOurs(entry.key) {
      rows[entry.key] = (entry.value, entry.modified)
      if entry.key.starts(with: RingRows.relay) { directory = max(directory, entry.modified) }
    }
    return nil
  }

  /// Makes a change after those before it. What `work` throws is the answer, and nothing has changed.
  func change(_ work: @escaping Work, _ done: @escaping Done) {
    if queue.count >= Limits.metadataQueue {
      return done(.failure(Fault(.unavailable, "too many changes of the ring wait")))
    }
    queue.append((work, done))
    advance()
  }

  private func advance() {
    while !isWriting, !queue.isEmpty {
      let (work, done) = queue.removeFirst()
      var draft = now
      do throws(Fault) {
        try work(&draft)
        write(draft, done)
      } catch {
        done(.failure(error))
      }
    }
  }

  private func write(_ draft: Draft, _ done: @escaping Done) {
    let wanted = RingRows.rows(draft, history: &history)
    var transaction = MetadataTransaction(success: [])
    func put(_ key: [UInt8], _ operation: MetadataOperation) {
      transaction.compares.append(
        MetadataCompare(key, .equal, .modified(rows[key]?.modified ?? 0)))
      transaction.success.append(operation)
    }
    for (key, value) in wanted where rows[key]?.value != value {
      put(key, .put(key: key, value: value, lease: 0))
    }
    for key in rows.keys where wanted[key] == nil { put(key, .delete(.key(key))) }
    if transaction.success.isEmpty {
      now = draft
      return done(.success(draft))
    }
    isWriting = true
    ask(.transact(transaction)) { [self] answer in
      isWriting = false
      receive(answer, draft, wanted, done)
      advance()
    }
  }

  private func receive(
    _ answer: MetadataAnswer, _ draft: Draft, _ wanted: [[UInt8]: [UInt8]], _ done: Done
  ) {
    switch answer {
    case .transacted(succeeded: true, _, let revision):
      for (key, value) in wanted where rows[key]?.value != value {
        rows[key] = (value, revision)
        if key.starts(with: RingRows.relay) { directory = revision }
      }
      for key in rows.keys where wanted[key] == nil {
        rows[key] = nil
        if key.starts(with: RingRows.relay) { directory = revision }
      }
      now = draft
      onChange?()
      done(.success(draft))
    case .transacted:
      done(.failure(Fault(.conflict, "the ring was changed elsewhere meanwhile")))
    case .failed(let fault):
      done(.failure(Fault(.unavailable, "the cluster's metadata: \(fault)")))
    default: done(.failure(Fault(.internal)))
    }
  }

  // MARK: the store

  private func ask(_ request: MetadataRequest, _ done: @escaping (MetadataAnswer) -> Void) {
    lastToken += 1
    waiting[lastToken] = done
    store.begin(request, token: lastToken)
  }

  func receive(_ answer: MetadataAnswer, token: UInt64) {
    waiting.removeValue(forKey: token)?(answer)
  }
}

/// Keys of the metadata:
///
///     ring/map                the current map
///     ring/staged             u8 copies, 0: as they are · u64 version a revert goes to, or 0 · nodes
///     ring/history/VERSION    16 hex digits; a map
///     relay/NODE              16 hex digits; a node, as `ClusterRelay` without its load
enum RingRows {
  static let map = Array("ring/map".utf8)
  static let staged = Array("ring/staged".utf8)
  static let past = Array("ring/history/".utf8)
  static let relay = Array("relay/".utf8)

  static func isOurs(_ key: [UInt8]) -> Bool {
    key == map || key == staged || key.starts(with: past) || key.starts(with: relay)
  }

  static func rows(
    _ draft: RingKeeper.Draft, history: inout [UInt64: [UInt8]]
  ) -> [[UInt8]: [UInt8]] {
    var out: [[UInt8]: [UInt8]] = [:]
    let ledger = draft.ledger
    if ledger.current.version > 0 { out[map] = ledger.current.encoded }
    if let nodes = ledger.staged {
      out[staged] =
        [UInt8(ledger.stagedReplicas ?? 0)] + bigEndianBytes(ledger.reverting ?? 0)
        + RingNode.encode(nodes)
    }
    var kept: [UInt64: [UInt8]] = [:]
    for old in ledger.history {
      let bytes = history[old.version] ?? old.encoded
      kept[old.version] = bytes
      out[past + Text.hex(bigEndianBytes(old.version)).utf8] = bytes
    }
    history = kept
    for (id, shown) in draft.relays {
      var bare = shown
      bare.load = nil
      out[relay + id.description.utf8] = bare.encoded()
    }
    return out
  }

  static func draft(_ entries: [MetadataEntry]) throws(Fault) -> RingKeeper.Draft {
    var draft = RingKeeper.Draft()
    var current = RingMap()
    var nodes: [RingNode]?
    var (copies, reverting) = (0, UInt64(0))
    var history: [RingMap] = []
    do {
      for entry in entries {
        if entry.key == map {
          current = try RingMap(entry.value)
        } else if entry.key == staged, entry.value.count > 9 {
          copies = Int(entry.value[0])
          reverting = UInt64(bigEndianBytes: entry.value[1..<9])
          nodes = try RingNode.decode(Array(entry.value.dropFirst(9)))
        } else if entry.key.starts(with: past) {
          history.append(try RingMap(entry.value))
        } else if entry.key.starts(with: relay) {
          let shown = try ClusterRelay(decoding: entry.value)
          draft.relays[NodeID(shown.nodeID)] = shown
        }
      }
    } catch {
      throw Fault(.damaged, "a row of the cluster's metadata cannot be read (\(error))")
    }
    draft.ledger = RingLedger(
      current: current, staged: nodes, stagedReplicas: copies > 0 ? copies : nil,
      history: history.sorted { $0.version < $1.version },
      reverting: reverting > 0 ? reverting : nil)
    return draft
  }
}

extension Fault {
  init(_ error: RingError) {
    switch error {
    case .conflict(let current):
      self.init(
        .conflict, "the ring is at version \(current) now; look at the plan again, then apply that")
    case .noNode: self.init(.badRequest, "no node would take slots")
    case .badNodes(let text): self.init(.badRequest, text)
    case .nothingStaged: self.init(.conflict, "nothing is staged")
    case .wouldLose(let slots):
      self.init(
        .notConfirmed,
        "the archive of \(slots) slots is only on nodes that are gone: say --allow-loss")
    case .unknownVersion: self.init(.notFound, "no such version of the ring is remembered")
    case .noSuchMove: self.init(.conflict, "the map asks for no such move")
    }
  }
}

/// Runs what throws `RingError` where a `Fault` is thrown.
@discardableResult
func asFault<T>(_ work: () throws(RingError) -> T) throws(Fault) -> T {
  do throws(RingError) {
    return try work()
  } catch {
    throw Fault(error)
  }
}
