import Base
import Digest
import Engine
import Link
import LinkMail

// Between the shards and the links: mail out, and what comes back to sessions of this node.
extension LinkHost {
  /// On loop 0: what gathered on a shard in a turn. `asked`: of nodes that own channels; `said`: to sessions of other
  /// nodes.
  func receive(_ asked: [FarMail], _ said: [Mail], from shard: Int) {
    var unreachable: [NodeID] = []
    var last: NodeLink?
    for one in asked {
      if last?.peer != one.node {
        if unreachable.contains(one.node) { continue }
        last = link(to: one.node)
      }
      guard let link = last else {
        // There are too many nodes: nobody is to wait for this one.
        unreachable.append(one.node)
        put(.unreachable(one.node, generation: one.generation), for: shard)
        continue
      }
      guard link.generation == one.generation else { continue }
      numbers.note(one.mail, ofMany: node.shardCount > 1)
      switch enqueue(one.mail, on: link) {
      case .taken: break
      case .full:
        guard case .publish(let id, let channel, let publication) = one.mail else { break }
        link.traffic.refused &+= 1
        put(.refused(one.node, id, channel: channel, token: publication.token), for: shard)
      case .unreachable:
        if unreachable.contains(one.node) { break }
        unreachable.append(one.node)
        put(.unreachable(one.node, generation: link.generation), for: shard)
      }
    }
    guard !said.isEmpty else { return }
    for mail in said { reply(mail, from: shard) }
    for link in links where link.answers != nil { answersGathered(link) }
  }

  private func put(_ input: FarInput, for shard: Int) {
    farInbox[shard].append(input)
    hasInput = true
  }

  /// Mail of a peer, each once and in order.
  func receive(_ mail: LinkMail, on link: NodeLink) {
    switch mail {
    case .opened, .channel, .publish, .subscribe, .unsubscribe, .credit, .closed:
      receiveAsked(mail, on: link)
    case .deliver(let ids, let channel, let delivery): deliver(ids, channel, delivery, from: link)
    case .answer(let id, let channel, let token, let mls, let outcome):
      hand(id, channel, link) { .answer(id, channel: $0, token: token, mls: mls, outcome) }
    case .answers(let id, let channel, let token, let sequence, let count):
      hand(id, channel, link) {
        .answers(id, channel: $0, token: token, sequence: sequence, count: count)
      }
    case .subscribed(let id, let channel, let token, let head, let fault):
      hand(id, channel, link) { .subscribed(id, channel: $0, token: token, head: head, fault) }
    case .readEnded(let id, let channel): hand(id, channel, link) { .readEnded(id, channel: $0) }
    case .notOwner(let id, let channel, let token, let revision):
      hand(id, channel, link) { .notOwner(id, channel: $0, token: token, revision: revision) }
    case .written(let id, _), .end(let id, _), .pause(let id), .resume(let id):
      guard id.loop < node.shardCount else { return link.traffic.stray &+= 1 }
      put(.mail(link.peer, mail), for: id.loop)
    case .live, .interest, .sync, .synced, .slimReplay, .slimReplayable:
      slim.receive(mail, on: link)
    }
  }

  /// To the loop of a session, with the number that this loop knows the channel by.
  private func hand(
    _ id: SessionID, _ channel: UInt32, _ link: NodeLink, _ make: (UInt32) -> LinkMail
  ) {
    guard id.loop < node.shardCount, let number = numbers.find(channel, for: id.loop) else {
      return link.traffic.stray &+= 1
    }
    put(.mail(link.peer, make(number)), for: id.loop)
  }

  private func deliver(
    _ ids: [SessionID], _ channel: UInt32, _ delivery: Delivery, from link: NodeLink
  ) {
    // Messages that follow each other are mostly for the same ones.
    if ids != link.crowd.all {
      link.crowd = (ids, Dictionary(grouping: ids, by: \.loop).values.map(\.self))
    }
    for part in link.crowd.byLoop {
      hand(part[0], channel, link) { .deliver(part, channel: $0, delivery) }
    }
  }
}

/// The numbers that each loop gave channels. Owners hear those of all loops and answer with any one of them.
struct ChannelNumbers {
  /// What was looked for last: mostly the same is next.
  private var last: (number: UInt32, loop: Int, found: UInt32)?
  private var ids: [UInt32: ChannelID] = [:]
  private var numbers: [ChannelID: [Int: UInt32]] = [:]

  /// Looks at mail on its way out. `ofMany`: with one loop there is nothing to tell apart.
  mutating func note(_ mail: LinkMail, ofMany: Bool) {
    guard ofMany, case .channel(let number, let family, let name) = mail else { return }
    last = nil
    let id = ChannelID(family: family, name: name)
    if let old = ids[number], old != id {
      // The loop has taken the number back and gives it to another channel.
      numbers[old]?[Int(number >> 24)] = nil
      if numbers[old]?.isEmpty == true { numbers[old] = nil }
    }
    ids[number] = id
    numbers[id, default: [:]][Int(number >> 24)] = number
  }

  /// nil: that loop has named no such channel.
  mutating func find(_ number: UInt32, for loop: Int) -> UInt32? {
    if Int(number >> 24) == loop { return number }
    if let last, last.number == number, last.loop == loop { return last.found }
    guard let id = ids[number], let found = numbers[id]?[loop] else { return nil }
    last = (number, loop, found)
    return found
  }
}

extension LinkMail {
  /// Bytes it counts for in a queue.
  var cost: Int {
    switch self {
    case .publish(_, _, let publication): 160 + publication.frame.count
    case .deliver(let sessions, _, let delivery): 160 + 8 * sessions.count + delivery.frame.count
    case .live(let message): 160 + message.frame.count
    case .interest(let list): 64 + 48 * list.count
    default: 64
    }
  }
}
