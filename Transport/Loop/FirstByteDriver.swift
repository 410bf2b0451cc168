internal import Base

/// Hands a connection to the driver that its first byte asks for.
public final class FirstByteDriver: ConnectionDriver {
  private let choose: (UInt8) -> ConnectionDriver
  private var timer = TimerID.none

  public init(_ choose: @escaping (UInt8) -> ConnectionDriver) { self.choose = choose }

  public override func receiveOpened() {
    timer = connection.loop.schedule(after: .seconds(Int64(Limits.headTimeoutSeconds))) {
      [unowned self] in
      TransportCounts.shared.headTimeouts.increment()
      connection.close("nothing came in time")
    }
  }

  public override func receiveBytes(_ bytes: UnsafeRawBufferPointer) {
    let connection = connection!
    connection.loop.cancel(timer)
    let next = choose(bytes[0])
    connection.replaceDriver(next)
    next.receiveOpened()
    next.receiveBytes(bytes)
  }

  public override func receiveClosed(_ reason: String) { connection.loop.cancel(timer) }
}
