internal import Report

/// Jobs for a fixed number of threads, first come first served.
final class WorkQueue: Sendable {
  private struct State {
    var jobs: [@Sendable () -> Void] = []
    var taken = 0
    var stopping = false
  }
  private let state = Lock(State())
  private let signal = Signal()
  private let threads = Lock<[WorkerThread]>([])

  init(named name: String, threads count: Int) {
    threads.withLock { threads in
      for index in 0..<count {
        threads.append(
          WorkerThread(named: "store-\(name)-\(index)") { [state, signal] in
            while let job = WorkQueue.next(state, signal) { job() }
          })
      }
    }
  }

  /// After `stop` the job is dropped.
  func add(_ job: @escaping @Sendable () -> Void) {
    let added = state.withLock { state in
      if state.stopping { return false }
      state.jobs.append(job)
      return true
    }
    if added { signal.raise() }
  }

  private static func next(_ state: Lock<State>, _ signal: Signal) -> (@Sendable () -> Void)? {
    while true {
      signal.wait()
      let (job, ended) = state.withLock { state -> ((@Sendable () -> Void)?, Bool) in
        guard state.taken < state.jobs.count else { return (nil, state.stopping) }
        let job = state.jobs[state.taken]
        state.taken += 1
        // Moving the rest down once in a while keeps each take cheap.
        if state.taken >= 64 && state.taken * 2 >= state.jobs.count {
          state.jobs.removeFirst(state.taken)
          state.taken = 0
        }
        return (job, false)
      }
      if let job { return job }
      if ended {
        // Passed on, so that the next thread sees it too.
        signal.raise()
        return nil
      }
    }
  }

  /// Runs what is queued, then ends the threads.
  func stop() {
    let first = state.withLock { state in
      defer { state.stopping = true }
      return !state.stopping
    }
    guard first else { return }
    signal.raise()
    let all = threads.withLock { threads in
      defer { threads = [] }
      return threads
    }
    for thread in all { thread.join() }
  }
}
