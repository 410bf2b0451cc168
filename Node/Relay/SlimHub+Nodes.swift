import Base
import Engine
import Loop
import Slim

// What a loop's hub has to do with other nodes; the links themselves are `LinkSlim`'s.
extension SlimHub {
  /// Hands loop 0 what gathered for other nodes.
  func handToNodes(_ links: LinkHost) {
    if nodeMessages.isEmpty { return }
    let (messages, index) = (nodeMessages, shard.index)
    nodeMessages = []
    if index == 0 {
      links.slim.receive(messages, from: 0)
    } else {
      links.loop.post { links.slim.receive(messages, from: index) }
    }
  }

  /// Asks the node that owns a channel whether there is something to replay to a session.
  func askReplay(_ session: SessionID, _ channel: ChannelRef, of node: NodeID) {
    guard node != .none, let links = shard.far?.links else { return }
    links.loop.post { links.slim.askReplay(session, channel, of: node) }
  }

  /// A channel of this node, as far as it knows.
  func isOwn(_ channel: ChannelRef) -> Bool {
    shard.far == nil || shard.far?.owner(of: channel.id, for: SlimHub.session) == nil
  }

  /// Messages of another node, on a loop that has no links. Returns their bytes.
  func receiveHanded(_ messages: [SlimMessage]) -> Int {
    let bytes = receive(messages)
    shard.runEffects()
    return bytes
  }
}
