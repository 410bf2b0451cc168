internal import CSys

/// The signals a node answers to, taken one by one on the main thread.
public struct Signals: Sendable {
  public enum Kind: Sendable { case terminate, interrupt, hangUp }

  /// Blocks them in this thread and in all that it starts later: first thing in `main`.
  public init() { sys_signals_block() }

  /// Waits for the next one.
  public func next() -> Kind {
    switch sys_signal_wait() {
    case 1: .hangUp
    case 2: .interrupt
    default: .terminate
    }
  }
}

/// The standard streams, unbuffered.
public enum StandardStream: Int32, Sendable {
  case output = 1
  case error = 2

  /// False when the other end is gone.
  @discardableResult public func write(_ text: String) -> Bool {
    var text = text
    return text.withUTF8 { sys_write_all(rawValue, $0.baseAddress, $0.count) == 0 }
  }
}

/// Ends the process.
public func endProcess(_ code: Int32) -> Never { sys_exit(code) }
