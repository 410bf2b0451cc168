/// A SLIM name as it is routed: the hashes of three components and the id of one instance. Family A has ids of 64
/// bits (`idHigh` is 0 there); NULL, "any instance", is all ones in both halves in both families.
@frozen public struct SlimName: Hashable, Sendable {
  public var c0: UInt64
  public var c1: UInt64
  public var c2: UInt64
  public var idHigh: UInt64
  public var idLow: UInt64

  @inlinable public init(
    c0: UInt64, c1: UInt64, c2: UInt64, idHigh: UInt64 = .max, idLow: UInt64 = .max
  ) {
    self.c0 = c0
    self.c1 = c1
    self.c2 = c2
    self.idHigh = idHigh
    self.idLow = idLow
  }

  /// Stands for every instance under the prefix.
  @inlinable public var isAny: Bool { idHigh & idLow == .max }

  /// The same prefix with the id NULL.
  @inlinable public var any: SlimName { SlimName(c0: c0, c1: c1, c2: c2) }

  @inlinable public static func == (a: SlimName, b: SlimName) -> Bool {
    (a.c2 ^ b.c2) | (a.idLow ^ b.idLow) | (a.c1 ^ b.c1) | (a.c0 ^ b.c0) | (a.idHigh ^ b.idHigh) == 0
  }

  // One word for the hasher in place of five: folded multiplications under keys of this process, because peers
  // choose names and could otherwise choose many that collide.
  public func hash(into hasher: inout Hasher) {
    let keys = Self.keys
    let prefix = fold(c0 ^ keys.0, c1 ^ keys.1)
    let instance = fold(c2 ^ keys.2, idLow ^ keys.3)
    hasher.combine(fold(prefix ^ idHigh ^ keys.1, instance ^ keys.0))
  }

  /// From the seed of `Hasher`: secret, another in each process.
  private static let keys = (key(1), key(2), key(3), key(4))

  private static func key(_ number: UInt64) -> UInt64 {
    var hasher = Hasher()
    hasher.combine(number)
    return UInt64(bitPattern: Int64(hasher.finalize()))
  }
}

/// Both halves of a product in one word.
private func fold(_ a: UInt64, _ b: UInt64) -> UInt64 {
  let product = a.multipliedFullWidth(by: b)
  return product.high ^ product.low
}
