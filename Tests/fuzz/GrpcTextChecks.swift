import Base
import Grpc

enum GrpcTextChecks {
  static func percentSurvives(_ text: String) -> Bool {
    _ = GrpcText.percentDecode(text)
    let encoded = GrpcText.percentEncode(text)
    return encoded.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7f }
      && GrpcText.percentDecode(encoded).utf8.elementsEqual(text.utf8)
  }

  /// In nanoseconds.
  static func timeout(_ bytes: UnsafeRawBufferPointer) -> Int64? {
    GrpcText.timeout(bytes)?.nanoseconds
  }
}
