import Base
import Engine
import Loop
import Ring
import Store

// What a plan would copy: the owners of the slots that move say how much is in them.
extension SlotMoves {
  static let weighMethod = "Weigh"

  /// Answers with the bytes kept in slots of this node, as eight bytes. Before the node listens for others.
  func serveWeights() {
    let node = node
    cluster.calls.serve(SlotMoves.weighMethod) { _, request, reply in
      node.store.read { store in
        reply(
          Result { () throws(Fault) in
            var sum: UInt64 = 0
            for slot in try SlotList.read(request) where Int(slot) < 1 << Limits.slotBits {
              sum &+= try SlotRows.bytes(slot, in: store)
            }
            return bigEndianBytes(sum)
          })
      }
    }
  }
}

extension ClusterHost {
  /// Bytes that the plan's hand-overs copy, and the nodes that did not say how much theirs are. On the cluster's loop.
  func weigh(_ plan: RingPlan, _ done: @escaping (UInt64, [NodeID]) -> Void) {
    let bySource = Dictionary(grouping: plan.moves, by: \.from)
    if bySource.isEmpty { return done(0, []) }
    let gathering = WeightGathering(left: bySource.count, done)
    for (source, moves) in bySource {
      let slots = SlotList.write(moves.map(\.slot))
      calls.ask(source, SlotMoves.weighMethod, slots, timeout: .seconds(2)) { result in
        guard case .success(let bytes) = result, bytes.count == 8 else {
          return gathering.receive(nil, from: source)
        }
        gathering.receive(UInt64(bigEndianBytes: bytes), from: source)
      }
    }
  }
}

/// Sums what owners say. On the cluster's loop.
private final class WeightGathering: @unchecked Sendable {
  private var left: Int
  private var sum: UInt64 = 0
  private var silent: [NodeID] = []
  private let done: (UInt64, [NodeID]) -> Void
  init(left: Int, _ done: @escaping (UInt64, [NodeID]) -> Void) {
    self.left = left
    self.done = done
  }
  func receive(_ bytes: UInt64?, from node: NodeID) {
    sum &+= bytes ?? 0
    if bytes == nil { silent.append(node) }
    left -= 1
    if left == 0 { done(sum, silent.sorted()) }
  }
}
