import Base
import Engine
import Loop
import Store

// What other loops, and other nodes by way of loop 0, ask of this shard.
extension Shard {
  func receive(_ mail: [Mail], _ messages: [SlimMessage], from sender: Int) {
    if !messages.isEmpty {
      // Before the mail: a session's own cursor begins with mail, and what came earlier came this way.
      let bytes = slim.receive(messages)
      post(.slimTaken(bytes: bytes), to: sender)
    }
    for item in mail { receive(item, from: sender) }
    runEffects()
  }

  private func receive(_ mail: Mail, from sender: Int) {
    switch mail {
    case .publish(let session, let principal, let kind, let channel, let publication):
      meter(principal.anonymous ? channel.tenant : principal.tenant)
      if channel.family != .skytale { slim.attach(channel) }
      engine.receivePublish(
        session, kind: kind, principal: principal, channel: channel, publication, at: loop.now)
    case .subscribe(let session, let principal, let kind, let channel, let wanted):
      receiveSubscribe(session, principal, kind, channel, wanted)
    case .unsubscribe(let session, let channel):
      engine.receiveUnsubscribe(session, channel: channel, at: loop.now)
    case .credit(let session, let bytes):
      engine.receiveCredit(session, bytes: bytes, at: loop.now)
    case .closed(let session):
      engine.receiveClose(session, at: loop.now)
    case .deliver(let session, let channel, let delivery):
      deliver(session, channel, delivery, from: sender)
    case .answer(let session, let channel, let token, let mls, let outcome):
      sessions.find(session)?.answer(channel, token: token, mls: mls, outcome)
    case .written(let session, let count):
      sessions.find(session)?.slim?.receiveWritten(count)
    case .subscribed(let session, let channel, let token, let head, let fault):
      sessions.find(session)?.subscribed(channel, token: token, head: head, fault)
    case .readEnded(let session, let channel):
      sessions.find(session)?.readEnded(channel)
    case .end(let session, let fault):
      sessions.find(session)?.receiveEnd(fault)
    case .pause(let session, let by):
      sessions.find(session)?.pause(by: by)
    case .resume(let session, let by):
      sessions.find(session)?.resume(by: by)
    case .run(let work): work(self)
    case .disown, .deliverFar: break
    case .slimReplay(let session, let channel): slim.receiveReplay(session, channel)
    case .slimReplayable(let session, let channel): slim.receiveReplayable(session, channel)
    case .slimTaken(let bytes): slim.receiveTaken(bytes, by: sender)
    case .slimInterest(let interest): slim.receive(interest, from: sender)
    case .slimSync(let token): slim.receiveSync(token, from: sender)
    case .slimSynced(let token): slim.receiveSynced(token)
    }
  }

  @inline(__always) func deliver(
    _ id: SessionID, _ channel: ChannelRef, _ delivery: Delivery, from sender: Int
  ) {
    guard let session = sessions.find(id) else { return }
    session.owe(delivery.frame.count, to: sender)
    session.deliver(channel, delivery)
    counts.delivered &+= 1
    counts.deliveredBytes &+= delivery.frame.count
  }

  /// One message of another node for sessions of this loop.
  func deliver(
    _ ids: [SessionID], _ channel: ChannelRef, _ delivery: Delivery, from node: NodeID
  ) {
    let bytes = delivery.frame.count
    var found = 0
    for id in ids {
      guard let session = sessions.find(id) else { continue }
      session.oweFar(bytes, to: node)
      session.deliver(channel, delivery)
      found &+= 1
    }
    counts.delivered &+= found
    counts.deliveredBytes &+= found &* bytes
  }
}
