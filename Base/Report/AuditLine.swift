internal import Base
internal import Glibc

/// The form of an audit line: fixed members in a fixed order, `hash` last, so that the hashed part is
/// a plain prefix: everything before `,"hash":"`.
enum AuditLine {
  private static let hashMark = Array(",\"hash\":\"".utf8)
  private static let ending = Array("\"}".utf8)

  /// The hashed part.
  static func body(
    sequence: UInt64, time: String, _ entry: AuditEntry, previous: String
  ) -> [UInt8] {
    var out = Array("{\"sequence\":\(sequence),\"time\":\"\(time)\",\"actor\":".utf8)
    JsonText.append(string: entry.actor, to: &out)
    out += Array(",\"action\":".utf8)
    JsonText.append(string: entry.action, to: &out)
    out += Array(",\"subject\":".utf8)
    JsonText.append(string: entry.subject, to: &out)
    out += Array(",\"outcome\":".utf8)
    JsonText.append(string: entry.outcome, to: &out)
    out += Array(",\"previous\":\"\(previous)\"".utf8)
    return out
  }

  static func line(_ body: [UInt8], _ hash: String) -> [UInt8] {
    body + hashMark + Array(hash.utf8) + ending + [UInt8(ascii: "\n")]
  }

  struct Parts {
    var body: [UInt8]
    var hash: String
    var previous: String
    var sequence: UInt64
    var action: String
  }

  /// nil when the line is not one of ours.
  static func parse(_ line: [UInt8]) -> Parts? {
    let tail = hashMark.count + 64 + ending.count
    guard line.count > tail, Array(line.suffix(ending.count)) == ending else { return nil }
    let body = Array(line.dropLast(tail))
    let hash = Array(line[(line.count - ending.count - 64)..<(line.count - ending.count)])
    guard Array(line[body.count..<(body.count + hashMark.count)]) == hashMark,
      let sequence = number(in: body, after: "{\"sequence\":"),
      let action = text(in: body, after: ",\"action\":\""),
      body.count > 65, body.last == UInt8(ascii: "\"")
    else { return nil }
    return Parts(
      body: body, hash: String(decoding: hash, as: UTF8.self),
      previous: String(decoding: body[(body.count - 65)..<(body.count - 1)], as: UTF8.self),
      sequence: sequence, action: action)
  }

  private static func number(in body: [UInt8], after mark: String) -> UInt64? {
    guard body.starts(with: mark.utf8) else { return nil }
    let digits = body.dropFirst(mark.utf8.count).prefix { (0x30...0x39).contains($0) }
    return UInt64(String(decoding: digits, as: UTF8.self))
  }

  private static func text(in body: [UInt8], after mark: String) -> String? {
    let wanted = Array(mark.utf8)
    var at = 0
    while at + wanted.count <= body.count {
      if Array(body[at..<(at + wanted.count)]) == wanted {
        let value = body[(at + wanted.count)...].prefix { $0 != UInt8(ascii: "\"") }
        return String(decoding: value, as: UTF8.self)
      }
      at += 1
    }
    return nil
  }
}

/// Where a chain goes on: found in the last bytes of the file, a window at a time.
enum AuditTail {
  static func read(_ descriptor: Int32) -> (sequence: UInt64, hash: String, tornBytes: Int) {
    let size = Int(lseek(descriptor, 0, SEEK_END))
    var window = 64 << 10
    while true {
      let length = min(size, window)
      guard length > 0 else { return (0, AuditLog.genesis, 0) }
      var bytes = [UInt8](repeating: 0, count: length)
      let n = pread(descriptor, &bytes, length, off_t(size - length))
      guard n == length else { return (0, AuditLog.genesis, 0) }
      let torn = bytes.count - (bytes.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? 0)
      for line in bytes.dropLast(torn).split(separator: UInt8(ascii: "\n")).reversed() {
        if let parts = AuditLine.parse(Array(line)) { return (parts.sequence, parts.hash, torn) }
      }
      if length == size { return (0, AuditLog.genesis, torn) }
      window *= 4
    }
  }
}
