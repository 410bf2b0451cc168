import Base
import Codec
import Engine
import Grpc
import Http
import Messages
import Settings

/// `posthouse.v1.ChannelService/Publish`: acknowledged publishes, answered in the order of the requests.
final class PublishSession: Session, GrpcHandler {
  private var channel: ChannelRef?
  private var nextToken: UInt64 = 1
  /// Requests not answered yet, oldest first; answers that came early wait in place.
  private var waiting: [Waiting] = []
  private var firstToken: UInt64 = 1
  private var halfClosed = false
  private var isRetiring = false
  private let defaultDurability: Engine.Durability

  private struct Waiting {
    var producerSequence: UInt64
    var answer: PublishResponse?
  }

  override init(
    id: SessionID, shard: Shard, principal: Principal, kind: SessionKind, call: GrpcCall
  ) {
    defaultDurability = shard.node.settings.engineDurability
    super.init(id: id, shard: shard, principal: principal, kind: kind, call: call)
  }

  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcCall) {
    if isRetiring { return }
    let request: PublishRequest
    do {
      request = try unsafe PublishRequest(decoding: bytes)
    } catch {
      end(Fault(.badRequest, "not a PublishRequest: \(error)"))
      return
    }
    let token = nextToken
    nextToken += 1
    waiting.append(Waiting(producerSequence: request.producerSequence, answer: nil))
    if !request.channel.isEmpty, request.channel != channel?.name {
      guard let name = ChannelName(request.channel) else {
        refuse(token, Fault(.badChannelName, "\(request.channel.prefix(80))"))
        return
      }
      channel = shard.channel(name)
    }
    guard let channel, let name = ChannelName(channel.name) else {
      refuse(token, Fault(.badRequest, "the first request must name a channel"))
      return
    }
    guard request.payload.count <= Limits.messageBytes - 4096 else {
      refuse(token, Fault(.tooLarge, "a payload of \(request.payload.count) bytes"))
      return
    }
    let type = request.messageType == 0 ? 1 : request.messageType
    guard
      let frame = unsafe request.payload.withUnsafeBytes({
        unsafe SkytaleFrame.make(
          org: name.org, namespace: name.namespace, service: name.service, messageType: type,
          payloadType: request.payloadType, payload: $0)
      })
    else {
      refuse(token, Fault(.badRequest, "message_type \(type) carries no payload"))
      return
    }
    var publication = Publication(
      frame: frame, hasSuffix: true, type: UInt8(truncatingIfNeeded: type),
      producer: request.producerID, producerSequence: request.producerSequence,
      durability: durability(request), token: token)
    unsafe request.payload.withUnsafeBytes { unsafe describe($0, in: &publication) }
    shard.publish(self, channel, publication)
    shard.brake(self)
  }

  private func durability(_ request: PublishRequest) -> Engine.Durability {
    switch request.durability {
    case .synced: .synced
    case .written: .written
    default: defaultDurability
    }
  }

  var owesAnswer: Bool { !waiting.isEmpty }

  private func refuse(_ token: UInt64, _ fault: Fault) {
    settle(token, .refused(fault, winner: 0))
  }

  override func answer(
    _ channel: ChannelRef, token: UInt64, mls: MLSKind, _ outcome: PublishOutcome
  ) {
    settle(token, outcome)
  }

  private func settle(_ token: UInt64, _ outcome: PublishOutcome) {
    guard token >= firstToken, token - firstToken < UInt64(waiting.count) else { return }
    let index = Int(token - firstToken)
    var response = PublishResponse()
    response.producerSequence = waiting[index].producerSequence
    switch outcome {
    case .accepted(let sequence, let duplicate):
      response.sequence = sequence
      response.duplicate = duplicate
    case .refused(let fault, let winner):
      var refusal = Refusal()
      refusal.code = fault.code.rawValue
      refusal.message = fault.description
      refusal.winningSequence = winner
      refusal.retriable = fault.code.isRetriable
      response.refusal = refusal
    }
    waiting[index].answer = response
    var sent = 0
    while sent < waiting.count, let ready = waiting[sent].answer {
      if call.isOpen { reply(ready.framed()) }
      sent += 1
    }
    if sent > 0 {
      waiting.removeFirst(sent)
      firstToken += UInt64(sent)
    }
    finishIfDone()
  }

  /// What was taken is answered; the rest has no answer and is published again by who wants it there.
  override func retire(finally: Bool) {
    isRetiring = true
    finishIfDone()
  }

  private func finishIfDone() {
    if halfClosed || isRetiring, waiting.isEmpty, call.isOpen { call.finish(.ok) }
  }

  func receiveHalfClose(on call: GrpcCall) {
    halfClosed = true
    finishIfDone()
  }

  func receiveClosed(on call: GrpcCall) { shard.closed(self) }
  func receiveDrained(_ bytes: Int, on call: GrpcCall) { repliesLeft(bytes) }
}

/// `posthouse.v1.ChannelService/Read`: a cursor over one channel.
final class ReadSession: Session, GrpcHandler {
  private var started = false
  private var follows = false

  func receiveMessage(_ bytes: UnsafeRawBufferPointer, on call: GrpcCall) {
    guard !started else { return }
    started = true
    let request: ReadRequest
    do {
      request = try unsafe ReadRequest(decoding: bytes)
    } catch {
      end(Fault(.badRequest, "not a ReadRequest: \(error)"))
      return
    }
    guard let channel = shard.channel(named: request.channel) else {
      end(Fault(.badChannelName, "\(request.channel.prefix(80))"))
      return
    }
    if let (_, name) = SlimChannel.parse(request.channel), !SlimChannel.mayRead(principal, name) {
      end(Fault(.forbidden))
      return
    }
    follows = request.follow
    shard.subscribe(
      self, channel,
      Subscription(
        start: .sequence(request.fromSequence), follow: request.follow, limit: request.limit,
        token: 1))
  }

  override func deliver(_ channel: ChannelRef, _ delivery: Delivery) {
    var response = ReadResponse()
    response.sequence = delivery.sequence
    response.messageType = UInt32(delivery.type)
    response.mlsEpoch = delivery.epoch
    response.generation = delivery.generation
    response.producerID = delivery.producer
    response.producerSequence = delivery.producerSequence
    response.timeUnixNs = delivery.wall.nanoseconds
    response.mlsKind = MlsKind(rawValue: Int32(delivery.mls.rawValue))
    if channel.family != .skytale {
      if let parts = SlimChannel.payload(of: delivery.frame, channel.family) {
        response.payload = delivery.frame.array(parts.payload)
        response.payloadType = String(
          decoding: delivery.frame.array(parts.payloadType), as: UTF8.self)
      }
    } else if let parts = SkytaleFrame.payload(of: delivery.frame) {
      response.payload = delivery.frame.array(parts.payload)
      response.payloadType = String(
        decoding: delivery.frame.array(parts.payloadType), as: UTF8.self)
    }
    call.send(response.framed())
  }

  override func subscribed(
    _ channel: ChannelRef, token: UInt64, head: UInt64, _ fault: Fault?
  ) {
    if let fault { end(fault) }
  }

  var owesAnswer: Bool { started && !follows }

  /// A read with an end comes to it: OK before that would say that this was all.
  override func retire(finally: Bool) {
    if follows || !started { super.retire(finally: finally) }
  }

  override func readEnded(_ channel: ChannelRef) {
    if call.isOpen { call.finish(.ok) }
  }

  func receiveHalfClose(on call: GrpcCall) {
    if !started { end(Fault(.badRequest, "no ReadRequest")) }
  }
  func receiveClosed(on call: GrpcCall) { shard.closed(self) }
  func receiveDrained(_ bytes: Int, on call: GrpcCall) { settle(bytes) }
}
