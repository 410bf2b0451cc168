/// A text that must never be shown: keys, tokens, invites. Every way of printing it gives `[secret]`;
/// `reveal` hands it to the one place that needs it.
public struct Secret: Sendable, CustomStringConvertible, CustomDebugStringConvertible,
  CustomReflectable
{
  private let text: String
  public init(_ text: String) { self.text = text }

  public func reveal() -> String { text }

  public var description: String { Secret.mask }
  public var debugDescription: String { Secret.mask }
  public var customMirror: Mirror { Mirror(self, children: []) }

  static let mask = "[secret]"
}
