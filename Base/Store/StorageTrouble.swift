public import Base
internal import CRocksDB

/// What a RocksDB error means for us. Its codes do not leave this room; its text names the file.
enum StorageTrouble: Equatable {
  /// No room for more data: refuse and go on.
  case space(String)
  /// A checksum or a structure is wrong.
  case damaged(String)
  /// A sync or another system call failed: what is on disk is unknown.
  case fatal(String)

  init(_ text: String) {
    let space = text.contains("No space left on device") || text.contains("Disk quota exceeded")
    // A sync that ran out of space has lost pages all the same: only appends may be refused.
    let syncing =
      text.contains("fsync") || text.contains("fdatasync") || text.contains("sync_file_range")
    if space && !syncing {
      self = .space(text)
    } else if text.hasPrefix("Corruption") || text.contains("block checksum mismatch") {
      self = .damaged(text)
    } else {
      self = .fatal(text)
    }
  }

  /// For the answer to a read or an open.
  var fault: Fault {
    switch self {
    case .space(let text): Fault(.diskFull, text)
    case .damaged(let text): Fault(.damaged, StorageTrouble.naming(text))
    case .fatal(let text): Fault(.internal, text)
    }
  }

  /// Puts the name of the damaged file in front, when the text has one.
  static func naming(_ text: String) -> String {
    let words = text.split { $0 == " " || $0 == ":" || $0 == "," }
    for word in words {
      guard let name = word.split(separator: "/").last else { continue }
      if name.hasSuffix(".sst") || name.hasSuffix(".log") || name.hasPrefix("MANIFEST-") {
        return "file \(name) is damaged: \(text)"
      }
    }
    return text
  }
}

/// Calls a RocksDB function that reports by an allocated C string.
func checked<R>(
  _ call: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> R
) throws(RocksError) -> R {
  var text: UnsafeMutablePointer<CChar>?
  let result = call(&text)
  if let text {
    defer { rocksdb_free(text) }
    throw RocksError(text: String(cString: text))
  }
  return result
}

struct RocksError: Error {
  var text: String
  var fault: Fault { StorageTrouble(text).fault }
}

extension UnsafeRawBufferPointer {
  /// As C's `const char *`. An empty buffer has no address; C never follows it then.
  var chars: UnsafePointer<CChar>? { baseAddress?.assumingMemoryBound(to: CChar.self) }
}

extension Store {
  /// The name of the file that a `.damaged` fault is about, if it tells one.
  public static func damagedFile(_ fault: Fault) -> String? {
    let words = fault.detail.split(separator: " ")
    guard
      let at = words.indices.dropLast(2).first(where: { i in
        words[i] == "file" && words[i + 2] == "is"
      })
    else { return nil }
    return String(words[at + 1])
  }
}
