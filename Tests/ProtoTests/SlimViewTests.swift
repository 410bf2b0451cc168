import Base
import Codec
import Messages
import Testing

func view(_ bytes: [UInt8]) throws -> SlimView { try bytes.withUnsafeBytes { try SlimView($0) } }

func channelName(_ org: String, _ ns: String, _ svc: String) -> SlimAName {
  SlimAName(strName: SlimAStringName(strComponent0: org, strComponent1: ns, strComponent2: svc))
}

@Suite("SLIM view", .timeLimit(.minutes(2)))
struct SlimViewTests {
  @Test("The contract's Subscribe")
  func subscribe() throws {
    let bytes = hex("0a13 0a11 120f 120d 0a03 6f7267 1202 6e73 1a02 6331")
    let v = try view(bytes)
    #expect(v.kind == .subscribe)
    #expect(v.destination.hasStringName && !v.destination.hasEncodedName && !v.source.isPresent)
    #expect(v.destination.stringName == 8..<21)
    let name = bytes.withUnsafeBytes { v.destination.channelName(in: $0) }
    #expect(name == ChannelName("org/ns/c1"))
    #expect(v.payload == nil)
  }

  @Test("Everything a SLIM application says in a header is seen")
  func header() throws {
    let encoded = SlimAEncodedName(component0: 1, component1: 2, component2: 3, component3: .max)
    let message = SlimAMessage(
      messageType: .publish(
        SlimAPublish(
          header: SlimAHeader(
            source: SlimAName(name: encoded),
            destination: SlimAName(name: encoded, strName: SlimAStringName(strComponent0: "o")),
            fanout: 256, identity: "id", forwardTo: 7, incomingConn: 9, error: true),
          session: SlimASessionHeader(
            sessionType: .multicast, sessionMessageType: .msg, sessionID: 5, messageID: 6),
          msg: SlimAContent(
            contentType: .appPayload(SlimAApplicationPayload(payloadType: "msg", blob: [1, 2, 3]))))
      ),
      metadata: ["k": "v"])
    let bytes = message.encoded()
    let v = try view(bytes)
    #expect(v.kind == .publish && v.source.hasEncodedName && v.destination.hasEncodedName)
    #expect(v.source.components == (1, 2, 3, .max))
    #expect(v.fanout == 256 && v.isError && v.hasRoutingCommand)
    #expect(v.identity.map { Array(bytes[$0]) } == Array("id".utf8))
    #expect((v.sessionType, v.sessionMessageType, v.sessionID, v.messageID) == (2, 1, 5, 6))
    #expect(v.place == .application && v.command == 0)
    #expect(v.payload.map { Array(bytes[$0]) } == [1, 2, 3])
    #expect(v.payloadType.map { Array(bytes[$0]) } == Array("msg".utf8))
    #expect(SlimView.messageTypeName(11) == "GROUP_ADD" && SlimView.messageTypeName(18) == "PING")
    #expect(SlimView.messageTypeName(.max) == "UNKNOWN_4294967295")
  }

  @Test("Subscription ids, links and acks are told apart")
  func kinds() throws {
    let subscribe = SlimAMessage(
      messageType: .unsubscribe(SlimAUnsubscribe(header: SlimAHeader(), subscriptionID: 77)))
    #expect(try view(subscribe.encoded()).kind == .unsubscribe)
    #expect(try view(subscribe.encoded()).subscriptionID == 77)
    let link = SlimAMessage(
      messageType: .link(SlimALink(negotiation: SlimALinkNegotiation(linkID: "x"))))
    #expect(try view(link.encoded()).kind == .link)
    let ack = SlimAMessage(messageType: .subscriptionAck(SlimASubscriptionAck(success: true)))
    #expect(try view(ack.encoded()).kind == .subscriptionAck)
    #expect(try view([]).kind == .none)
  }

  @Test("An empty payload is no payload")
  func emptyPayload() throws {
    let message = SlimAMessage(
      messageType: .publish(
        SlimAPublish(
          session: SlimASessionHeader(sessionMessageType: .msgAck),
          msg: SlimAContent(contentType: .appPayload(SlimAApplicationPayload())))))
    #expect(try view(message.encoded()).payload == nil)
    #expect(try view(hex("1a06 1a04 0a02 1200")).payload == nil)
  }

  @Test(
    "What another reader could choke on, or read differently, is refused",
    arguments: [
      ("a known field as a varint", "1801"),
      ("a session type as bytes", "1a04 1202 0a00"),
      ("a fanout as bytes (family B)", "1a06 0a04 1a02 0102"),
      ("an identity as a varint (family B)", "1a04 0a02 2001"),
      ("identity not UTF-8", "1a05 0a03 2201ff"),
      ("a name part not UTF-8", "1a09 0a07 1205 1203 0a01ff"),
      ("payload type not UTF-8", "1a07 1a05 0a03 0a01ff"),
      ("metadata not UTF-8", "2203 0a01ff"),
      ("a participant's name not UTF-8", "1a0d 1a0b 1209 3a07 1205 1203 0a01ff"),
      ("two publishes", "1a00 1a00"),
      ("a publish and a subscribe", "1a00 0a00"),
      ("two headers", "1a04 0a00 0a00"),
      ("two destinations", "1a06 0a04 1200 1200"),
      ("two string names", "1a08 0a06 1204 1200 1200"),
      ("two encoded names", "1a08 0a06 1204 0a00 0a00"),
      ("two contents", "1a04 1a00 1a00"),
      ("application and command", "1a06 1a04 0a00 1200"),
      ("two commands", "1a08 1a06 1204 3a00 6200"),
      ("two mls payloads", "1a0a 1a08 1206 3a04 1a00 1a00"),
      ("two new participants", "1a0a 1a08 1206 3a04 0a00 0a00"),
      ("a group", "1b1c"),
    ])
  func refused(what: String, text: String) {
    #expect(throws: WireError.self, "\(what)") { try view(hex(text)) }
  }

  @Test("Unknown fields pass at every level")
  func unknown() throws {
    let v = try view(hex("7801 1a12 7801 0a02 7801 1202 7801 1a06 7801 1202 7801"))
    #expect(v.kind == .publish && v.command == 0)
  }
}
