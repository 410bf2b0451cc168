import Base
import Loop
import Metadata
import Report
import Store

/// The metadata of the cluster on this node's own disk. Belongs to the cluster's loop.
final class EmbeddedMetadata: MetadataStore, @unchecked Sendable {
  private let store: Store
  private let loop: EventLoop
  private let log: Log
  private var engine: MetadataEngine
  private var effects: [MetadataEffect] = []
  private var isRunning = false
  weak var client: (any MetadataClient)?

  /// Reads the rows; `damaged` when they do not fit together.
  init(store: Store, loop: EventLoop, log: Log) throws(Fault) {
    self.store = store
    self.loop = loop
    self.log = log
    let rows = try store.rows(.meta, prefix: [UInt8(ascii: "m")])
    guard let engine = MetadataEngine(rows: rows, at: loop.now.monotonic, into: &effects) else {
      throw Fault(.damaged, "the cluster's metadata in \(store.path) does not fit together")
    }
    self.engine = engine
  }

  func begin(_ request: MetadataRequest, token: UInt64) {
    engine.receive(request, token: token, at: loop.now.monotonic, into: &effects)
    run()
  }

  func cancel(token: UInt64) { engine.receiveCancel(token: token) }

  private func run() {
    if isRunning { return }
    isRunning = true
    defer { isRunning = false }
    while !effects.isEmpty {
      let now = effects
      effects = []
      for effect in now { carry(out: effect) }
    }
  }

  private func carry(out effect: MetadataEffect) {
    switch effect {
    case .answer(let token, let answer): client?.receive(answer, token: token)
    case .write(let set):
      store.submit(set, synced: true) { [self] result in
        loop.post { [self] in receive(result) }
      }
    case .wake(let at):
      let wait = max(0, (at - loop.now.monotonic).nanoseconds)
      loop.schedule(after: Interval(nanoseconds: wait)) { [weak self] in
        guard let self else { return }
        engine.receiveTick(at: self.loop.now.monotonic, into: &effects)
        run()
      }
    }
  }

  private func receive(_ result: CommitResult) {
    switch result {
    case .success: engine.receiveWritten(at: loop.now.monotonic, into: &effects)
    case .failure(let fault):
      log.error("the cluster's metadata cannot be written", ["why": .of(fault)])
      engine.receiveWriteFailed(at: loop.now.monotonic, into: &effects)
    }
    run()
  }
}
