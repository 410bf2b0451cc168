import Base
import Crypto
import Loop
import Report
import Ring
import Settings
import Token

// One set of signing keys for the cluster. The host of the metadata has it, the others fetch it and keep a copy in
// their own file, so that they verify whoever is away. A new key is first known to all and signs then.
extension ClusterTokens {
  /// A node that does not fetch an announced key for so long gets it when it is back; until then it refuses what the new key
  /// signs.
  static let patience = Interval.seconds(10)

  private var keyHost: NodeID { host.standing.value.host }
  private var path: String { node.settings.data + "/" + SigningKeys.fileName }

  func tickKeys() {
    let keys = node.signing.value
    if keyHost == .none { return }
    guard keyHost == host.own else { return fetchKeys() }
    if keys.edition == 0 {
      adopt(keys.founding())
      return
    }
    hasKeys.value = true
    guard keys.next != nil else { return }
    if announcedAt == .zero { announcedAt = loop.now.monotonic }
    let late = others.filter { editions[$0] ?? 0 != keys.edition }
    if !late.isEmpty, loop.now.monotonic - announcedAt < ClusterTokens.patience { return }
    if !late.isEmpty {
      node.log.warn(
        "a new signing key is used though not all nodes have it", ["without": .of(late.count)])
    }
    activate(keys)
  }

  private func activate(_ keys: SigningKeys) {
    announcedAt = .zero
    let next = keys.activating()
    guard adopt(next) else { return answer(.failure(Fault(.internal, "the key file"))) }
    node.log.info("a new key signs tokens", ["kid": .of(next.current.kid)])
    answer(.success(next.current.kid))
    tellKeysChanged()
  }

  private func answer(_ result: Result<String, Fault>) {
    let waiting = rotations
    rotations = []
    for reply in waiting { reply(result) }
  }

  private func tellKeysChanged() {
    for peer in others {
      host.calls.call(peer, "KeysChanged", [], timeout: .seconds(1), on: loop) { _ in }
    }
  }

  /// On disk, then used.
  @discardableResult
  private func adopt(_ keys: SigningKeys) -> Bool {
    do throws(Fault) {
      try keys.save(path: path)
    } catch {
      node.log.error("signing keys cannot be kept", ["why": .of(error)])
      return false
    }
    node.signing.value = keys
    authority.rotateSigningKey(keys.set)
    hasKeys.value = true
    return true
  }

  /// This node knows the map. Waits until it has the cluster's keys, or for a while. Not on a loop.
  func waitForKeys(_ goOn: () -> Bool) {
    loop.post { [self] in openBook() }
    let end = Timestamp.now() + ClusterTokens.patience
    while !hasKeys.value, Timestamp.now() < end, goOn() { pauseThread(.milliseconds(10)) }
    if !hasKeys.value {
      node.log.error("the cluster's signing keys cannot be had: tokens of other nodes are refused")
    }
  }

  // MARK: a new key

  /// Has the cluster sign with a new key; `reply` gets its kid once it signs.
  func rotate(_ reply: @escaping @Sendable (Result<String, Fault>) -> Void) {
    let keyHost = keyHost
    guard keyHost == host.own else {
      if keyHost == .none {
        return reply(.failure(Fault(.unavailable, "nobody hosts the signing keys yet")))
      }
      let patience = Interval.seconds(15)
      host.calls.call(keyHost, "RotateKey", [], timeout: patience, on: loop) { [self] result in
        fetchKeys()
        reply(
          result.map { String(decoding: $0, as: UTF8.self) }.mapError { fault in
            guard fault.code == .unreachable || fault.code == .deadlineExceeded else {
              return fault
            }
            let name = map.node(keyHost)?.name ?? "\(keyHost)"
            return Fault(
              .unavailable,
              "\(name), which hosts the signing keys, does not answer: tokens are made and good all the same, "
                + "a new key waits")
          })
      }
      return
    }
    let keys = node.signing.value
    let announced = keys.founding().announcing(.make(now: loop.now.wall))
    if announced.edition != keys.edition, !adopt(announced) {
      return reply(.failure(Fault(.internal, "the key file cannot be written")))
    }
    rotations.append(reply)
    tellKeysChanged()
    tickKeys()
  }

  // MARK: copies

  /// A caller says what it has: edition and kid.
  func serveKeys(_ bytes: [UInt8], from peer: NodeID, _ reply: @escaping ClusterCalls.Reply) {
    let keys = node.signing.value
    guard keyHost == host.own, keys.edition > 0 else {
      return reply(.failure(Fault(.unavailable, "this node does not host the signing keys")))
    }
    let isSame = bytes == Self.mark(of: keys)
    if isSame { editions[peer] = keys.edition }
    reply(.success(isSame ? [] : keys.encoded))
    if isSame, keys.next != nil { tickKeys() }
  }

  private static func mark(of keys: SigningKeys) -> [UInt8] {
    bigEndianBytes(keys.edition) + Array(keys.current.kid.utf8)
  }

  func fetchKeys() {
    let from = keyHost
    guard from != .none, from != host.own else { return }
    if isFetchingKeys {
      // They may have changed behind the answer that is on its way.
      mustFetchKeysAgain = true
      return
    }
    isFetchingKeys = true
    let own = node.signing.value
    host.calls.call(from, "Keys", Self.mark(of: own), timeout: .seconds(2), on: loop) {
      [self] result in
      isFetchingKeys = false
      defer {
        if mustFetchKeysAgain, !isFetchingKeys {
          mustFetchKeysAgain = false
          fetchKeys()
        }
      }
      guard case .success(let bytes) = result else { return }
      if bytes.isEmpty {
        hasKeys.value = true
        return
      }
      guard let keys = SigningKeys(decoding: bytes) else {
        node.log.error("signing keys that cannot be read", ["from": .of("\(from)")])
        return
      }
      // Says at once that it has them: a new key waits for that.
      if adopt(keys) { fetchKeys() }
    }
  }
}
