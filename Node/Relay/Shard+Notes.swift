import Base
import Engine
import Report

// What is counted and logged.
extension Shard {
  func count(_ outcome: PublishOutcome) {
    switch outcome {
    case .accepted: counts.answersAccepted &+= 1
    case .refused: counts.answersRefused &+= 1
    }
  }

  func receive(_ note: EngineNote) {
    switch note {
    case .accepted(let messages, let bytes):
      counts.published &+= messages
      counts.publishedBytes &+= bytes
    case .generationOpened(let channel, let generation, let sequence):
      counts.generations &+= 1
      node.log.info(
        "generation opened",
        ["channel": .of(channel.name), "generation": .of(generation), "sequence": .of(sequence)])
    case .commitRefused(let channel, let epoch, let winner):
      counts.commitsRefused &+= 1
      node.log.info(
        "commit refused",
        ["channel": .of(channel.name), "epoch": .of(epoch), "winner": .of(winner)])
    case .publishWithoutRight(let channel, let session):
      counts.withoutRight &+= 1
      noteRefusal(session, channel, "no right to publish")
    case .subscribeWithoutRight(let channel, let session):
      counts.withoutRight &+= 1
      noteRefusal(session, channel, "no right to subscribe")
    case .nameCollision(let channel):
      node.log.error("channel name collision", ["channel": .of(channel.name)])
    case .damagedRecord(let channel, let sequence):
      counts.damaged &+= 1
      node.log.error(
        "damaged record", ["channel": .of(channel.name), "sequence": .of(sequence)])
    case .damagedState(let channel, let kind):
      counts.damaged &+= 1
      node.log.error(
        "damaged state row", ["channel": .of(channel.name), "kind": .of(UnicodeScalar(kind))])
    case .retained: break
    case .writeFailed(let fault, let messages):
      if isSealed { break }
      node.log.error(
        "write failed", ["why": .of(fault), "messages": .of(messages)])
    case .slowSubscriber: counts.slowSubscribers &+= 1
    case .subscriberDropped(let channel, _):
      counts.dropped &+= 1
      node.log.warn("subscriber disconnected", ["channel": .of(channel.name)])
    }
  }
}
