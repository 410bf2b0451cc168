/// A reference to an object that something else keeps alive for as long as this one is used. Using it counts nothing:
/// on a path that is taken a million times a second, counting costs a quarter of the time.
///
/// SAFETY: who makes one says beside it what keeps the object alive.
@safe public struct Borrowed<Object: AnyObject> {
  @usableFromInline let reference: Unmanaged<Object>

  @inlinable public init(_ object: Object) {
    unsafe reference = Unmanaged.passUnretained(object)
  }

  /// The object must not outlive the closure.
  @inlinable @inline(__always)
  public func with<R>(_ body: (Object) -> R) -> R {
    unsafe reference._withUnsafeGuaranteedRef(body)
  }
}
