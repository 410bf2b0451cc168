import Base
import Membership
import Messages
import Report
import Ring
import Store

/// Whether this node was forgotten, and how it comes back. On the cluster's loop.
struct Exile {
  private(set) var isOn = false
  /// A member refuses this node as forgotten, and the host of the metadata has not answered since.
  private(set) var word: String?
  /// Syncs in a row since that word that were not answered.
  private var unanswered = 0
  /// How often the host of the metadata has answered as it answers nodes of the cluster.
  private(set) var timesTaken = 0
  /// Membership begins with it when the node is taken in again; 0: it never was.
  var incarnation: UInt64 = 0
  /// What was asked of the host of the metadata since the exile began; answers to earlier questions say nothing.
  private var hasAsked = false
  private var isTaken = false

  mutating func begin() {
    (isOn, hasAsked, isTaken) = (true, false, false)
    (word, unanswered) = (nil, 0)
  }

  /// A member refuses what was sent to it when the host of the metadata had answered so many times. Who lags behind a
  /// later answer than that says nothing.
  mutating func receiveWord(_ text: String, sentAfter times: Int) {
    if times == timesTaken { word = text }
  }

  /// The host of the metadata did not answer. What a member said counts with the second time in a row: it may lag behind
  /// the host, and one answer is lost easily.
  mutating func receiveUnanswered() -> String? {
    guard let word else { return nil }
    unanswered += 1
    return unanswered >= 2 ? word : nil
  }

  mutating func noteAsked() { hasAsked = isOn }

  /// The host of the metadata answered as it answers nodes of the cluster.
  mutating func receiveTaken() {
    (word, unanswered) = (nil, 0)
    timesTaken += 1
    if isOn, hasAsked { isTaken = true }
  }

  var mayEnd: Bool { isOn && isTaken }

  mutating func end() { isOn = false }
}

// An operator had this node forgotten: others have its slots, and begin them empty. From the moment it knows, it serves
// nothing, also after a restart, until the host of the metadata takes it in again. It goes on asking for that.
extension ClusterHost {
  static func forgotten(_ relay: ClusterRelay) -> Fault {
    Fault(
      .forbidden,
      "an operator had node \(relay.name) forgotten: posthouse node join \(relay.name) takes it in again"
    )
  }

  var forgottenText: String {
    "an operator had node \(name) forgotten: it serves nothing until posthouse node join \(name), "
      + "asked at another node, takes it in again"
  }

  /// A member said so. Nobody counts to the end of all numbers: that word was made up, and nothing newer could follow it.
  func receiveForgotten() {
    guard let last = membership?.me.incarnation, last < Limits.memberIncarnation else { return }
    // Who hosts the metadata knows better.
    if keeper != nil { return renewMembership() }
    withdraw("a member")
  }

  /// This node is forgotten, as `who` says.
  func withdraw(_ who: String) {
    guard !exile.isOn, !isSealed, newest.version > 0 else { return }
    exile.begin()
    hasJoined = false
    sayForgotten(who)
    moves?.gate.withhold(why: forgottenText)
    var set = WriteSet()
    set.put(.meta, key: ClusterRows.forgottenKey, value: [])
    write(set, "that it was forgotten")
  }

  func sayForgotten(_ who: String) {
    node.readiness.setForgotten(forgottenText)
    node.log.error(
      "this node was forgotten: it serves nothing any more",
      ["said_by": .of(who), "do": .of("posthouse node join \(name), at another node")])
  }

  /// Taken in again: once the newest map is on disk here, this node goes by it.
  func comeBack() {
    guard exile.mayEnd, !isKeeping, map.value.revision == newest.revision, !isSealed else { return }
    exile.end()
    var set = WriteSet()
    set.delete(.meta, key: ClusterRows.forgottenKey)
    write(set, "that it was taken in again")
    let map = map.value
    moves?.gate.restore(owning: { map.owner(of: $0) == self.own })
    node.readiness.setForgotten(nil)
    node.log.info("this node was taken in again", ["slots_here": .of(map.load(of: own).owned)])
    renewMembership()
  }

  /// Members remember this node as forgotten: only a later life of it is news to them.
  private func renewMembership() {
    let last = max(incarnation, membership?.me.incarnation ?? 0)
    exile.incarnation = min(last + 1, Limits.memberIncarnation)
    keep(exile.incarnation)
    membership = nil
    beginMembership()
  }

  private func write(_ set: WriteSet, _ what: String) {
    node.store.submit(set, synced: true) { [node] result in
      if case .failure(let fault) = result {
        node.log.error("the node cannot keep \(what)", ["why": .of(fault)])
      }
    }
  }
}
