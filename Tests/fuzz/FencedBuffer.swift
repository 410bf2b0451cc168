import Glibc

/// Memory between two pages that nobody may touch. An input stands against one of them, so that a
/// decoder which reads a byte past its end, or before its start, dies at once.
struct FencedBuffer {
  private static let page = 4096
  private let inside: UnsafeMutableRawPointer
  private let size: Int

  init(size: Int) {
    self.size = (size + FencedBuffer.page - 1) / FencedBuffer.page * FencedBuffer.page
    let whole = mmap(
      nil, self.size + 2 * FencedBuffer.page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
      -1, 0)
    guard let whole, whole != MAP_FAILED else { fatalError("no memory for the input") }
    inside = whole + FencedBuffer.page
    guard mprotect(whole, FencedBuffer.page, PROT_NONE) == 0,
      mprotect(inside + self.size, FencedBuffer.page, PROT_NONE) == 0
    else { fatalError("the input cannot be fenced") }
  }

  /// The bytes against the fence behind (or, `atStart`, the one before).
  func place(_ bytes: UnsafeRawBufferPointer, atStart: Bool) -> UnsafeRawBufferPointer {
    precondition(bytes.count <= size, "an input of \(bytes.count) bytes")
    let to = atStart ? inside : inside + size - bytes.count
    if let from = bytes.baseAddress { to.copyMemory(from: from, byteCount: bytes.count) }
    return UnsafeRawBufferPointer(start: to, count: bytes.count)
  }
}
