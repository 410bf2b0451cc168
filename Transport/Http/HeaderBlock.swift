internal import CNghttp2

/// Header fields ready to be sent. One that lives for ever (`lasting`) is sent without being copied.
public final class HeaderBlock: @unchecked Sendable {
  let fields: UnsafeMutablePointer<nghttp2_nv>
  let count: Int
  private let text: UnsafeMutablePointer<UInt8>

  /// Names in lower case, pseudo fields first. `lasting`: the caller never lets go of it.
  public init(_ list: [(String, String)], lasting: Bool = false) {
    count = list.count
    fields = .allocate(capacity: max(count, 1))
    let total = list.reduce(0) { $0 + $1.0.utf8.count + $1.1.utf8.count }
    text = .allocate(capacity: max(total, 1))
    var at = 0
    let noCopy = NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue | NGHTTP2_NV_FLAG_NO_COPY_VALUE.rawValue
    for (i, (name, value)) in list.enumerated() {
      let start = at
      for byte in name.utf8 {
        text[at] = byte
        at += 1
      }
      let middle = at
      for byte in value.utf8 {
        text[at] = byte
        at += 1
      }
      (fields + i).initialize(
        to: nghttp2_nv(
          name: text + start, value: text + middle, namelen: middle - start, valuelen: at - middle,
          flags: lasting ? UInt8(noCopy) : 0))
    }
  }

  deinit {
    fields.deallocate()
    text.deallocate()
  }
}
