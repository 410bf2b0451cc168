internal import Glibc

/// Where output goes and confirmations come from: the process's descriptors, or a test's record.
public protocol Terminal: Sendable {
  var isOutputTerminal: Bool { get }
  var isErrorTerminal: Bool { get }
  var isInputTerminal: Bool { get }
  /// False when nobody reads any more.
  func write(output: String) -> Bool
  func write(error: String)
  /// One line without its end; nil at the end of the input.
  func readLine() -> String?
}

/// stdin, stdout and stderr of the process.
public struct ProcessTerminal: Terminal {
  public init() {
    // A reader that went away (`posthouse channel tail c | head`) is no reason to die by a signal.
    _ = signal(SIGPIPE, SIG_IGN)
  }
  public var isOutputTerminal: Bool { isatty(1) == 1 }
  public var isErrorTerminal: Bool { isatty(2) == 1 }
  public var isInputTerminal: Bool { isatty(0) == 1 }
  public func write(output: String) -> Bool { send(1, output) }
  public func write(error: String) { _ = send(2, error) }
  public func readLine() -> String? { Swift.readLine() }

  private func send(_ descriptor: Int32, _ text: String) -> Bool {
    let bytes = Array(text.utf8)
    var done = 0
    while done < bytes.count {
      let n = unsafe bytes.withUnsafeBytes {
        unsafe Glibc.write(descriptor, $0.baseAddress! + done, $0.count - done)
      }
      if n > 0 {
        done += n
      } else if errno != EINTR {
        return false
      }
    }
    return true
  }
}
