import Codec
import Slim

/// The routes that messages from other loops used last, by their name's hashes.
struct SlimRouteCache {
  private static let size = 256
  private var routes = [SlimRoute?](repeating: nil, count: size)

  @inline(__always)
  mutating func find(_ message: borrowing SlimMessage, _ router: borrowing SlimRouter) -> SlimRoute?
  {
    let name = message.course.destination
    let at = Int(truncatingIfNeeded: (name.c2 ^ name.idLow) & UInt64(Self.size - 1))
    if let known = routes[at], known.isCurrent, known.name == name,
      known.family == message.course.family
    {
      return known
    }
    let found = router.route(message.course.family, name)
    routes[at] = found
    return found
  }
}
