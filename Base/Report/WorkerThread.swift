internal import CSys
internal import Glibc

/// A running thread of ours. Join it before what it uses goes away.
public struct WorkerThread: Sendable {
  private let handle: pthread_t

  /// Starts a thread called `name` (at most 15 bytes are shown by the kernel).
  public init(named name: String, _ body: @escaping @Sendable () -> Void) {
    let start = Unmanaged.passRetained(ThreadStart(name: name, body: body))
    var made = pthread_t()
    let failed = pthread_create(&made, nil, runThread, start.toOpaque())
    precondition(failed == 0, "thread \(name) not started: errno \(failed)")
    handle = made
  }

  /// Waits for the end of the thread. Call it once, from another thread.
  public func join() { pthread_join(handle, nil) }
}

private final class ThreadStart {
  let name: String
  let body: @Sendable () -> Void
  init(name: String, body: @escaping @Sendable () -> Void) {
    self.name = name
    self.body = body
  }
}

private func runThread(_ raw: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
  guard let raw else { return nil }
  let start = Unmanaged<ThreadStart>.fromOpaque(raw).takeRetainedValue()
  sys_name_thread(String(decoding: start.name.utf8.prefix(15), as: UTF8.self))
  // Signals belong to the thread that asked for them, never to a worker.
  var all = sigset_t()
  sigfillset(&all)
  pthread_sigmask(SIG_BLOCK, &all, nil)
  start.body()
  return nil
}

/// A counting semaphore: how one thread wakes another that has no epoll.
public final class Signal: @unchecked Sendable {
  private let semaphore: UnsafeMutablePointer<sem_t>

  public init() {
    semaphore = .allocate(capacity: 1)
    precondition(sem_init(semaphore, 0, 0) == 0, "semaphore not made")
  }

  deinit {
    sem_destroy(semaphore)
    semaphore.deallocate()
  }

  public func raise() { sem_post(semaphore) }

  public func wait() {
    while sem_wait(semaphore) != 0 && errno == EINTR {}
  }

  /// False when `milliseconds` passed first.
  public func wait(milliseconds: Int) -> Bool {
    var until = timespec()
    clock_gettime(CLOCK_REALTIME, &until)
    until.tv_sec += milliseconds / 1000
    until.tv_nsec += (milliseconds % 1000) * 1_000_000
    if until.tv_nsec >= 1_000_000_000 {
      until.tv_sec += 1
      until.tv_nsec -= 1_000_000_000
    }
    while sem_timedwait(semaphore, &until) != 0 {
      if errno != EINTR { return false }
    }
    return true
  }
}
