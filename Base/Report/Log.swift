/// How much a line matters. A logger writes its own level and what is above.
public enum LogLevel: UInt8, Sendable, Comparable, CaseIterable {
  case debug, info, warn, error

  public static func < (a: LogLevel, b: LogLevel) -> Bool { a.rawValue < b.rawValue }
  public var name: String {
    switch self {
    case .debug: "debug"
    case .info: "info"
    case .warn: "warn"
    case .error: "error"
    }
  }
  public init?(name: String) {
    guard let level = LogLevel.allCases.first(where: { $0.name == name }) else { return nil }
    self = level
  }
}

/// The form of a line.
public enum LogFormat: Sendable {
  /// One JSON object a line.
  case json
  /// For people at a terminal.
  case text(color: Bool)
}

/// The value of a field. A `Secret` prints as `[secret]`, whatever the format.
public enum LogValue: Sendable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByBooleanLiteral, ExpressibleByFloatLiteral, ExpressibleByStringInterpolation
{
  case string(String)
  case int(Int64)
  case double(Double)
  case bool(Bool)
  case secret(Secret)

  public init(stringLiteral value: String) { self = .string(value) }
  public init(integerLiteral value: Int64) { self = .int(value) }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(floatLiteral value: Double) { self = .double(value) }

  public static func of(_ value: some BinaryInteger) -> LogValue { .int(Int64(clamping: value)) }
  public static func of(_ value: some CustomStringConvertible) -> LogValue {
    .string(value.description)
  }
}

public typealias LogFields = KeyValuePairs<String, LogValue>

/// A structured logger: a level, standing fields, and the queue of its writer. A value; copies share
/// the writer. A call formats one line and hands it over; it never waits for the terminal or the disk.
public struct Log: Sendable {
  public let minimum: LogLevel
  private let format: LogFormat
  private let writer: LogWriter
  /// Fields of every line of this logger, already in the line's form.
  private var standing: [UInt8] = []

  public init(minimum: LogLevel, format: LogFormat, writer: LogWriter) {
    self.minimum = minimum
    self.format = format
    self.writer = writer
  }

  /// A logger that writes nothing, for tests and tools.
  public static let silent = Log(
    minimum: .error, format: .json, writer: LogWriter { _ in })

  /// The same logger with more standing fields.
  public func with(_ fields: LogFields) -> Log {
    var copy = self
    appendFields(fields, to: &copy.standing)
    return copy
  }

  public func debug(
    _ message: @autoclosure () -> String, _ fields: @autoclosure () -> LogFields = [:]
  ) {
    if minimum <= .debug { write(.debug, message(), fields()) }
  }
  public func info(
    _ message: @autoclosure () -> String, _ fields: @autoclosure () -> LogFields = [:]
  ) {
    if minimum <= .info { write(.info, message(), fields()) }
  }
  public func warn(
    _ message: @autoclosure () -> String, _ fields: @autoclosure () -> LogFields = [:]
  ) {
    if minimum <= .warn { write(.warn, message(), fields()) }
  }
  public func error(
    _ message: @autoclosure () -> String, _ fields: @autoclosure () -> LogFields = [:]
  ) {
    write(.error, message(), fields())
  }

  /// Lines that found the queue full since the start.
  public var droppedLines: Int { writer.droppedLines }

  /// Waits until everything handed over so far is written, at most `milliseconds`.
  @discardableResult public func flush(milliseconds: Int = 2_000) -> Bool {
    writer.flush(milliseconds: milliseconds)
  }

  private func write(_ level: LogLevel, _ message: String, _ fields: LogFields) {
    var line: [UInt8] = []
    line.reserveCapacity(160)
    switch format {
    case .json:
      line.append(contentsOf: Array("{\"time\":\"".utf8))
      line.append(contentsOf: Timestamp.text(Timestamp.now()).utf8)
      line.append(contentsOf: Array("\",\"level\":\"".utf8))
      line.append(contentsOf: level.name.utf8)
      line.append(contentsOf: Array("\",\"message\":".utf8))
      JsonText.append(string: message, to: &line)
      line.append(contentsOf: standing)
      appendFields(fields, to: &line)
      line.append(UInt8(ascii: "}"))
    case .text(let color):
      let time = Timestamp.text(Timestamp.now())
      line.append(contentsOf: time.dropFirst(11).dropLast(1).utf8)
      line.append(contentsOf: Log.mark(level, color).utf8)
      appendPrintable(message, to: &line)
      line.append(contentsOf: standing)
      appendFields(fields, to: &line)
    }
    line.append(UInt8(ascii: "\n"))
    writer.submit(line)
  }

  private static func mark(_ level: LogLevel, _ color: Bool) -> String {
    let word =
      switch level {
      case .debug: " debug "
      case .info: " info  "
      case .warn: " warn  "
      case .error: " error "
      }
    guard color else { return word }
    let tint =
      switch level {
      case .debug: "2"
      case .info: "32"
      case .warn: "33"
      case .error: "31"
      }
    return "\u{1b}[\(tint)m\(word)\u{1b}[0m"
  }

  private func appendFields(_ fields: LogFields, to line: inout [UInt8]) {
    for (name, value) in fields {
      switch format {
      case .json:
        line.append(UInt8(ascii: ","))
        JsonText.append(string: name, to: &line)
        line.append(UInt8(ascii: ":"))
        appendJson(value, to: &line)
      case .text:
        line.append(UInt8(ascii: " "))
        line.append(contentsOf: name.utf8)
        line.append(UInt8(ascii: "="))
        appendText(value, to: &line)
      }
    }
  }

  private func appendJson(_ value: LogValue, to line: inout [UInt8]) {
    switch value {
    case .string(let text): JsonText.append(string: text, to: &line)
    case .int(let number): line.append(contentsOf: String(number).utf8)
    case .double(let number):
      // JSON has no NaN and no infinity.
      line.append(contentsOf: (number.isFinite ? "\(number)" : "null").utf8)
    case .bool(let flag): line.append(contentsOf: (flag ? "true" : "false").utf8)
    case .secret: JsonText.append(string: Secret.mask, to: &line)
    }
  }

  private func appendText(_ value: LogValue, to line: inout [UInt8]) {
    switch value {
    case .string(let text):
      let plain = text.utf8.allSatisfy { $0 > 0x20 && $0 != 0x22 && $0 != 0x5c && $0 < 0x7f }
      if plain && !text.isEmpty {
        line.append(contentsOf: text.utf8)
      } else {
        JsonText.append(string: text, to: &line)
      }
    case .int(let number): line.append(contentsOf: String(number).utf8)
    case .double(let number): line.append(contentsOf: "\(number)".utf8)
    case .bool(let flag): line.append(contentsOf: (flag ? "true" : "false").utf8)
    case .secret: line.append(contentsOf: Secret.mask.utf8)
    }
  }

  /// A message may quote what a peer sent: control bytes never reach a terminal as they are.
  private func appendPrintable(_ text: String, to line: inout [UInt8]) {
    for scalar in text.unicodeScalars {
      if scalar.value < 0x20 || (0x7f..<0xa0).contains(scalar.value) {
        line.append(UInt8(ascii: "?"))
      } else {
        line.append(contentsOf: String(scalar).utf8)
      }
    }
  }
}
