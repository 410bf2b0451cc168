public import Base
internal import CSys

/// A blocking connection to a Unix socket over which lines of text and listening sockets come: for the
/// start of a program, never on a loop.
public final class DescriptorLine {
  private let descriptor: Int32
  private var kept: [UInt8] = []

  public init(connectingTo path: String) throws(SocketError) {
    descriptor = sys_connect_unix(path)
    if descriptor < 0 { throw SocketError("connecting to \(path)", descriptor) }
  }

  deinit { sys_close(descriptor) }

  /// A line, without its end; short, so that it leaves in one piece.
  public func send(_ line: String) throws(SocketError) {
    let bytes = Array((line + "\n").utf8)
    let n = bytes.withUnsafeBytes { sys_send(descriptor, $0.baseAddress, $0.count) }
    guard n == bytes.count else { throw SocketError("sending", Int32(clamping: min(n, -1))) }
  }

  /// The next line and the sockets that came with it; nil when the peer has closed.
  public func receive(
    within limit: Interval
  ) throws(SocketError) -> (line: String, sockets: [ListenSocket])? {
    let end = sys_monotonic_ns() &+ limit.nanoseconds
    var sockets: [ListenSocket] = []
    while true {
      if let at = kept.firstIndex(of: UInt8(ascii: "\n")) {
        defer { kept.removeFirst(at + 1) }
        return (String(decoding: kept[..<at], as: UTF8.self), sockets)
      }
      guard kept.count < Self.longestLine else { throw SocketError("the answer has no end") }
      let left = (end &- sys_monotonic_ns()) / 1_000_000
      let ready = left <= 0 ? 0 : sys_wait_readable(descriptor, Int32(clamping: left))
      if ready == 0 { throw SocketError("no answer within \(limit.nanoseconds / 1_000_000) ms") }
      if ready < 0 { throw SocketError("waiting", ready) }
      guard try take(&sockets) else { return nil }
    }
  }

  static let longestLine = 4096

  private func take(_ sockets: inout [ListenSocket]) throws(SocketError) -> Bool {
    var room = [UInt8](repeating: 0, count: 1024)
    var numbers = [Int32](repeating: -1, count: Int(SYS_MAXIMUM_DESCRIPTORS.rawValue))
    var count: Int32 = 0
    let n = room.withUnsafeMutableBytes {
      sys_recv_descriptors(descriptor, $0.baseAddress, $0.count, &numbers, &count)
    }
    // All are owned from here on, whatever one of them turns out to be.
    var wrong: SocketError?
    for number in numbers.prefix(Int(count)) {
      do {
        sockets.append(try ListenSocket(adopting: number))
      } catch {
        wrong = error
      }
    }
    if let wrong { throw wrong }
    if n == 0 { return false }
    if n < 0, sys_is_again(n) == 0 { throw SocketError("receiving", Int32(clamping: n)) }
    if n > 0 { kept.append(contentsOf: room.prefix(n)) }
    return true
  }
}

extension Connection {
  /// Sends a short text and the sockets with it, at once, past the output queue (which must be empty).
  /// False when the socket does not take it whole or one of the sockets is closed.
  public func sendNow(_ text: String, with sockets: [ListenSocket] = []) -> Bool {
    let copies = sockets.compactMap { $0.duplicate() }
    defer { for copy in copies { sys_close(copy) } }
    guard isOpen, output.isEmpty, copies.count == sockets.count else { return false }
    let bytes = Array(text.utf8)
    let n = bytes.withUnsafeBytes {
      sys_send_descriptors(number, $0.baseAddress, $0.count, copies, Int32(copies.count))
    }
    return n == bytes.count
  }
}
