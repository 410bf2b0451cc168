import Base
import Loop
import Report
import Settings
import Store

/// The running node's side of a takeover, on a connection to its admin socket. It offers its sockets to
/// whoever asks, serves on, and drains once they are taken.
final class TakeoverDriver: ConnectionDriver, @unchecked Sendable {
  private unowned let node: NodeHost
  private var seen: [UInt8] = []
  private var hasOffered = false

  init(_ node: NodeHost) { self.node = node }

  override func receiveBytes(_ bytes: UnsafeRawBufferPointer) {
    unsafe seen.append(contentsOf: bytes)
    while let end = seen.firstIndex(of: UInt8(ascii: "\n")) {
      let line = String(decoding: seen[..<end], as: UTF8.self)
      seen.removeFirst(end + 1)
      guard answer(line) else {
        unsafe connection.close("takeover refused")
        return
      }
    }
    if seen.count > TakeoverDriver.longestLine { unsafe connection.close("no line of a takeover") }
  }

  private static let longestLine = 64

  private func answer(_ line: String) -> Bool {
    switch line {
    case TakeoverWords.hello: return offer()
    case TakeoverWords.take: return handOver()
    default: return false
    }
  }

  private func offer() -> Bool {
    guard node.readiness.isServing else { return false }
    let listeners = node.listeners.named
    let offer = TakeoverOffer(
      process: ProcessFacts.identifier, format: Store.format,
      directory: TakeoverOffer.identity(node.settings.data), sockets: listeners.map(\.name))
    hasOffered = true
    return unsafe connection.sendNow(offer.line + "\n", with: listeners.map(\.listener.socket))
  }

  private func handOver() -> Bool {
    guard hasOffered else { return false }
    let order = DrainOrder(
      .successor, grace: node.settings.drain, why: "another node takes over")
    guard node.requestDrain(order) else { return false }
    // Whoever connects from here on waits for the successor: the word goes out when no listener accepts any more.
    let home = unsafe connection.loop
    let waiting = Countdown(node.listeners.named.count) { [self] in
      home.post { [self] in
        if unsafe connection.isOpen { _ = unsafe connection.sendNow(TakeoverWords.taken + "\n") }
      }
    }
    for (_, listener) in node.listeners.named { listener.stopAccepting { waiting.receive() } }
    return true
  }
}

/// Calls back when so many others have.
private final class Countdown: Sendable {
  private let left: Lock<Int>
  private let done: @Sendable () -> Void
  init(_ count: Int, _ done: @escaping @Sendable () -> Void) {
    left = Lock(count)
    self.done = done
    if count == 0 { done() }
  }
  func receive() {
    let isLast = left.withLock { left in
      left -= 1
      return left == 0
    }
    if isLast { done() }
  }
}
