import Base
import Engine
import Loop
import Store
import Token

// Grants that let apps use channels of other orgs.
extension SlimHub {
  /// Does the tenant have a grant for that channel? `answer` is called on this loop, with the version it holds for.
  func askGrant(
    _ channel: ChannelID, _ tenant: TenantID, _ answer: @escaping (Bool, UInt64) -> Void
  ) {
    let (loop, version) = (shard.loop, grantVersion)
    let reply = Reply(answer)
    shard.node.store.read { store in
      let row = try? store.get(.state, key: GrantRow.key(channel: channel, tenant: tenant))
      loop.post { reply.answer(row != nil, version) }
    }
  }

  /// A grant was made or taken back. Streams that live by one that is gone end.
  func receiveGrant(_ channel: ChannelID, _ tenant: TenantID, granted: Bool) {
    grantVersion &+= 1
    guard !granted else { return }
    var ending: [Session] = []
    shard.sessions.forEach { session in
      if session.principal.tenant == tenant, session.slim?.uses(channel) == true {
        ending.append(session)
      }
    }
    for session in ending { session.end(Fault(.revoked)) }
  }
}
