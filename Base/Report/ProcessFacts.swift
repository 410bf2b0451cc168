internal import Base
internal import Glibc

/// What the kernel says about this process, read at each scrape.
public enum ProcessFacts {
  /// Registers the `process_*` metrics every Prometheus client has.
  public static func register(in metrics: Metrics) {
    let started = Double(Timestamp.now().nanoseconds) / 1e9
    metrics.gauge("process_start_time_seconds", "Start of the process, seconds since 1970.") {
      started
    }
    metrics.gauge("process_resident_memory_bytes", "Resident memory of the process.") {
      Double(residentBytes())
    }
    metrics.gauge("process_open_fds", "Open file descriptors.") { Double(openDescriptors()) }
    metrics.gauge("process_max_fds", "Limit of open file descriptors.") {
      Double(descriptorLimit())
    }
    metrics.counter("process_cpu_seconds_total", "User and system CPU time in seconds.") {
      cpuSeconds()
    }
  }

  /// The process's id.
  public static var identifier: Int { Int(getpid()) }

  /// 0 when the kernel does not say.
  public static func residentBytes() -> Int {
    let fields = read("/proc/self/statm").split(separator: UInt8(ascii: " "))
    guard fields.count > 1, let pages = Int(String(decoding: fields[1], as: UTF8.self)) else {
      return 0
    }
    return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
  }

  public static func openDescriptors() -> Int {
    guard let directory = opendir("/proc/self/fd") else { return 0 }
    defer { closedir(directory) }
    var count = 0
    while readdir(directory) != nil { count += 1 }
    // Less `.`, `..` and the descriptor of this very listing.
    return max(0, count - 3)
  }

  public static func descriptorLimit() -> UInt64 {
    var limit = rlimit()
    return getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0
      ? UInt64(limit.rlim_cur) : 0
  }

  public static func cpuSeconds() -> Double {
    var usage = rusage()
    guard getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else { return 0 }
    func seconds(_ t: timeval) -> Double { Double(t.tv_sec) + Double(t.tv_usec) / 1e6 }
    return seconds(usage.ru_utime) + seconds(usage.ru_stime)
  }

  private static func read(_ path: String) -> [UInt8] {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return [] }
    defer { close(descriptor) }
    var buffer = [UInt8](repeating: 0, count: 4_096)
    let n = Glibc.read(descriptor, &buffer, buffer.count)
    return n > 0 ? Array(buffer[..<n]) : []
  }
}

/// Device and inode of what is at `path`: the same text for the same file, however it is named. nil when
/// nothing is there.
public func fileIdentity(_ path: String) -> String? {
  var facts = stat()
  return stat(path, &facts) == 0 ? "\(facts.st_dev):\(facts.st_ino)" : nil
}
