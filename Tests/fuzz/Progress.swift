import Glibc

/// What a child tells its parent, in a page that both see: also when the child is no more.
struct Progress {
  /// The input in hand; the number of inputs done; those accepted; most memory in KiB.
  enum Word: Int { case current, done, accepted, peak }
  static let descriptor: Int32 = 3
  private static let size = 4096
  private let words: UnsafeMutablePointer<UInt64>

  /// Maps `descriptor`, a file of at least one page.
  init?(_ descriptor: Int32) {
    let page = mmap(nil, Progress.size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
    guard let page, page != MAP_FAILED else { return nil }
    words = page.assumingMemoryBound(to: UInt64.self)
  }

  subscript(_ word: Word) -> UInt64 {
    get { words[word.rawValue] }
    nonmutating set { words[word.rawValue] = newValue }
  }

  func close() { munmap(words, Progress.size) }

  /// A file without a name for one child, -1 when there is none.
  static func file() -> Int32 {
    var template = Array("/tmp/posthouse-fuzz-XXXXXX".utf8CString)
    let fd = mkstemp(&template)
    guard fd >= 0 else { return -1 }
    unlink(template)
    guard ftruncate(fd, off_t(size)) == 0, fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 else { return -1 }
    return fd
  }
}

func monotonicSeconds() -> Double {
  var t = timespec()
  clock_gettime(CLOCK_MONOTONIC, &t)
  return Double(t.tv_sec) + Double(t.tv_nsec) / 1e9
}
