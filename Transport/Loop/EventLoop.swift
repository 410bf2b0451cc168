public import Base
internal import CSys
internal import Report
internal import Synchronization

/// Something with a descriptor on a loop. Registered sources are kept alive by their loop.
open class EventSource: @unchecked Sendable {
  public unowned(unsafe) final let loop: EventLoop
  /// On the loop's list of things to flush.
  public internal(set) final var isDirty = false
  final var index = -1

  public init(loop: EventLoop) { self.loop = loop }

  /// Epoll events arrived.
  open func receiveReady(_ mask: UInt32) {}
  /// Called once at the end of a turn after `markDirty`.
  open func flush() {}
  /// The budget of the last turn was used up; go on reading.
  open func readOn() {}
  /// The turn is over and answers have left: acknowledge what was read and not answered.
  open func acknowledge() {}
  /// The loop ends: give up the descriptor.
  open func receiveLoopStopped() {}

  @inline(__always) public final func markDirty() {
    if isDirty { return }
    isDirty = true
    loop.addDirty(self)
  }
}

/// One thread, one epoll set. Everything registered here runs only on that thread; `post`, `stop` and
/// `isCurrent` may be called from any.
///
/// A turn: events, due timers, posts; then `onTurnEnd`; then one flush of every dirty source.
public final class EventLoop: @unchecked Sendable {
  public let index: Int
  /// Both clocks, read once per turn.
  public private(set) var now: Now
  /// Called after everything of a turn is handled and before sources are flushed, and again when a flush
  /// has made new work. May itself make sources dirty; must be cheap when there is nothing to do.
  public var onTurnEnd: (() -> Void)?

  private struct Inbox {
    var posts: [@Sendable () -> Void] = []
    var woken = false
    var ended = false
  }
  private let inbox = Lock(Inbox())
  private let epoll: Int32
  private let wakeup: Int32
  private var timers = TimerHeap()
  private var dirty: [EventSource] = []
  private var flushing: [EventSource] = []
  private var readers: [EventSource] = []
  private var unacknowledged: [EventSource] = []
  private var sources: [EventSource?] = []
  private var freePlaces: [Int] = []
  /// Sources closed in this turn: events of the same batch may still name them.
  private var graveyard: [EventSource] = []
  private var stopping = false
  private var threadID: UInt64 = 0
  private let worked = Atomic<Int64>(0)
  private let finished = Handoff<Void>()
  /// The loop's one read buffer and the memory lent to connections that write.
  let readBuffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 64)
  var spareOutput = OutputBuffer()

  private init(index: Int) throws(SocketError) {
    self.index = index
    epoll = sys_epoll_create()
    wakeup = sys_eventfd()
    now = EventLoop.readClocks()
    if epoll < 0 || wakeup < 0 { throw SocketError("no descriptor left for an event loop") }
    // 0 names the wake-up; sources are their place + 1.
    _ = sys_epoll_ctl(epoll, EPOLL_CTL_ADD, wakeup, EPOLLIN.rawValue, 0)
  }

  deinit {
    readBuffer.deallocate()
    sys_close(epoll)
    sys_close(wakeup)
  }

  /// Makes a loop and runs it on a thread of its own.
  public static func start(index: Int, name: String = "loop") throws(SocketError) -> EventLoop {
    let loop = try EventLoop(index: index)
    let held = Unmanaged.passRetained(loop)
    let e = sys_thread_start(
      { argument in
        Unmanaged<EventLoop>.fromOpaque(argument!).takeRetainedValue().run()
        return nil
      }, held.toOpaque(), "\(name)-\(index)")
    if e != 0 {
      held.release()
      throw SocketError("starting a loop thread", -e)
    }
    return loop
  }

  private static func readClocks() -> Now {
    Now(
      monotonic: Instant(nanoseconds: sys_monotonic_ns()), wall: Instant(nanoseconds: sys_wall_ns())
    )
  }

  /// True on the loop's own thread.
  public var isCurrent: Bool { inbox.withLock { _ in threadID } == sys_thread_id() }

  /// Runs `work` on the loop, in order of posting. Dropped once the loop has ended.
  public func post(_ work: @escaping @Sendable () -> Void) {
    let wake = inbox.withLock { box -> Bool in
      if box.ended { return false }
      box.posts.append(work)
      if box.woken { return false }
      box.woken = true
      return true
    }
    if wake { sys_wake(wakeup) }
  }

  /// Ends the loop after the turn it is in; its sources are closed.
  public func stop() { post { self.stopping = true } }

  /// Waits until the loop has ended. Not on the loop itself.
  public func join() {
    precondition(!isCurrent, "a loop cannot wait for itself")
    _ = finished.take()
  }

  /// Runs `work` once after at least `after`; resolution one turn, at best 1 ms.
  @discardableResult
  public func schedule(after: Interval, _ work: @escaping () -> Void) -> TimerID {
    timers.insert(due: (now.monotonic + after).nanoseconds, work)
  }

  public func cancel(_ id: TimerID) { timers.cancel(id) }

  // MARK: sources

  /// Starts watching; true unless the kernel refuses.
  func register(_ source: EventSource, descriptor: Int32, events: UInt32) -> Bool {
    let place: Int
    if let free = freePlaces.popLast() {
      place = free
      sources[place] = source
    } else {
      place = sources.count
      sources.append(source)
    }
    source.index = place
    if sys_epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, events, UInt64(place) + 1) == 0 {
      return true
    }
    unregister(source)
    return false
  }

  /// Takes a descriptor out of the epoll set that other processes hold too: closing it here would not,
  /// and its events would come on (epoll(7), question 6).
  func forget(descriptor: Int32) {
    _ = sys_epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, 0, 0)
  }

  /// Stops watching. The caller closes the descriptor, which takes it out of the epoll set.
  func unregister(_ source: EventSource) {
    guard source.index >= 0 else { return }
    sources[source.index] = nil
    // Reused only after this turn: the batch at hand may hold events with this place.
    retired.append(source.index)
    source.index = -1
    graveyard.append(source)
  }
  private var retired: [Int] = []

  func watch(_ source: EventSource, descriptor: Int32, events: UInt32) {
    guard source.index >= 0 else { return }
    _ = sys_epoll_ctl(epoll, EPOLL_CTL_MOD, descriptor, events, UInt64(source.index) + 1)
  }

  func addDirty(_ source: EventSource) { dirty.append(source) }
  func addAcknowledgement(_ source: EventSource) { unacknowledged.append(source) }
  func addReader(_ source: EventSource) { readers.append(source) }

  /// Nanoseconds spent in turns so far, waiting left out. From any thread.
  public var workedNanoseconds: Int64 { worked.load(ordering: .relaxed) }

  // MARK: the turn

  private func run() {
    inbox.withLock { _ in threadID = sys_thread_id() }
    let room = 256
    let events = UnsafeMutablePointer<epoll_event>.allocate(capacity: room)
    defer { events.deallocate() }
    while !stopping {
      let n = sys_epoll_wait(epoll, events, Int32(room), waitMilliseconds())
      precondition(n >= 0, "epoll_wait failed with \(n)")
      now = EventLoop.readClocks()
      readOnPending()
      var i = 0
      while i < Int(n) {
        dispatch(events + i)
        i &+= 1
      }
      runTimers()
      endTurn()
      let spent = sys_monotonic_ns() &- now.monotonic.nanoseconds
      worked.store(worked.load(ordering: .relaxed) &+ spent, ordering: .relaxed)
    }
    shutDown()
    finished.end()
  }

  private func dispatch(_ event: UnsafePointer<epoll_event>) {
    let name = sys_event_data(event)
    if name == 0 {
      sys_wake_clear(wakeup)
      runPosts()
    } else if let source = sources[Int(name) - 1] {
      source.receiveReady(sys_event_mask(event))
    }
  }

  private func waitMilliseconds() -> Int32 {
    if !dirty.isEmpty || !readers.isEmpty { return 0 }
    guard let due = timers.next else { return -1 }
    let left = due &- sys_monotonic_ns()
    if left <= 0 { return 0 }
    return Int32(clamping: (left &+ 999_999) / 1_000_000)
  }

  private func readOnPending() {
    if readers.isEmpty { return }
    let list = readers
    readers.removeAll(keepingCapacity: true)
    for source in list { source.readOn() }
  }

  private func runPosts() {
    let list = inbox.withLock { box -> [@Sendable () -> Void] in
      let taken = box.posts
      box.posts = []
      box.woken = false
      return taken
    }
    for work in list { work() }
  }

  private func runTimers() {
    let time = now.monotonic.nanoseconds
    while let work = timers.pop(due: time) { work() }
  }

  private func endTurn() {
    // A flush reports what left, which may make more to send: a few rounds, then events again.
    var rounds = 0
    while true {
      onTurnEnd?()
      if dirty.isEmpty || rounds == 8 { break }
      rounds += 1
      swap(&dirty, &flushing)
      for source in flushing {
        source.isDirty = false
        source.flush()
      }
      flushing.removeAll(keepingCapacity: true)
    }
    if !unacknowledged.isEmpty {
      for source in unacknowledged { source.acknowledge() }
      unacknowledged.removeAll(keepingCapacity: true)
    }
    if !graveyard.isEmpty { graveyard.removeAll(keepingCapacity: graveyard.count < 256) }
    if !retired.isEmpty {
      freePlaces.append(contentsOf: retired)
      retired.removeAll(keepingCapacity: true)
    }
  }

  private func shutDown() {
    for source in sources { source?.receiveLoopStopped() }
    let rest = inbox.withLock { box -> [@Sendable () -> Void] in
      box.ended = true
      let taken = box.posts
      box.posts = []
      return taken
    }
    for work in rest { work() }
    onTurnEnd = nil
    timers.removeAll()
    sources.removeAll()
    dirty.removeAll()
    readers.removeAll()
    unacknowledged.removeAll()
    graveyard.removeAll()
  }
}
