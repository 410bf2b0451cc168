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

  /// True when the process has been told to end and `next` has not yet said so.
  public var endIsPending: Bool { sys_signal_is_pending() != 0 }

  /// Asks this process to end, as SIGTERM from outside would.
  public static func terminateSelf() { sys_signal_terminate() }
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

/// Keys, tokens and messages pass through memory; a core dump of this process shall hold none of them.
/// False when the kernel cannot do it.
@discardableResult public func leaveMemoryOutOfCoreDumps() -> Bool { sys_dump_no_memory() == 0 }

/// Memory that was used once is used again rather than given back: a memtable's blocks come and go many times a minute,
/// and the kernel clears every page of a block that it hands out anew, at a cost of up to 5 us a KiB.
/// First thing in `main`.
public func keepMemoryForReuse() { sys_keep_memory() }

/// Crashes end the process at once, without the runtime's backtrace: it shows what registers point at, and
/// where threads mask its signal, as RocksDB's do, it never ends, so nothing starts the node again.
public func leaveCrashesToTheKernel() { sys_plain_crashes() }

/// Ends the process.
public func endProcess(_ code: Int32) -> Never { sys_exit(code) }
