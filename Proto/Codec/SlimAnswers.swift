public import Base

/// What a node says itself, framed for gRPC. Equal in both families.
public enum SlimAnswer {
  /// The answer to a Subscribe or Unsubscribe with a subscription id. `error`: why it was refused.
  public static func subscriptionAck(id: UInt64, error: String?) -> Bytes {
    var body = 0
    if id != 0 { body += 1 + WireSize.uint64(id) }
    if let error { body += 1 + WireSize.string(error) } else { body += 2 }
    return framed(1 + WireSize.delimited(body)) { w in
      w.tag(50)
      w.length(body)
      if id != 0 {
        w.tag(8)
        w.uint64(id)
      }
      if let error {
        w.tag(26)
        w.string(error)
      } else {
        w.tag(16)
        w.bool(true)
      }
    }
  }

  /// The answer to a link negotiation. `linkID` is the asker's, which must be UTF-8; `publicKey` for B only.
  /// `connectionType`: 0 remote, 1 peer, 2 edge; nil leaves it out.
  public static func linkReply(
    linkID: [UInt8], version: String, publicKey: [UInt8]?, nodeID: String, connectionType: UInt32?
  ) -> Bytes {
    var body = 1 + WireSize.bytes(linkID) + 1 + WireSize.string(version) + 2
    if let publicKey { body += 1 + WireSize.bytes(publicKey) }
    if let connectionType { body += 1 + WireSize.uint32(connectionType) }
    if !nodeID.isEmpty { body += 1 + WireSize.string(nodeID) }
    let link = 1 + WireSize.delimited(body)
    return framed(1 + WireSize.delimited(link)) { w in
      w.tag(42)
      w.length(link)
      w.tag(10)
      w.length(body)
      w.tag(10)
      w.bytes(linkID)
      w.tag(18)
      w.string(version)
      w.tag(24)
      w.bool(true)
      if let publicKey {
        w.tag(34)
        w.bytes(publicKey)
      }
      if let connectionType {
        w.tag(40)
        w.uint32(connectionType)
      }
      if !nodeID.isEmpty {
        w.tag(50)
        w.string(nodeID)
      }
    }
  }

  public static func linkReply(
    linkID: UnsafeRawBufferPointer, version: String, publicKey: [UInt8]?, nodeID: String,
    connectionType: UInt32?
  ) -> Bytes {
    linkReply(
      linkID: unsafe [UInt8](linkID), version: version, publicKey: publicKey, nodeID: nodeID,
      connectionType: connectionType)
  }

  private static func framed(_ size: Int, _ body: (inout WireWriter) -> Void) -> Bytes {
    unsafe Bytes(count: GrpcFrame.prefixBytes + size) { buffer in
      unsafe GrpcFrame.writePrefix(size, to: buffer)
      var w = unsafe WireWriter(
        UnsafeMutableRawBufferPointer(rebasing: buffer[GrpcFrame.prefixBytes...]))
      body(&w)
      precondition(w.position == size, "an answer is smaller than its computed size")
    }
  }
}

/// Names of session message types, for logs, metrics and `channel tail`. 12 to 17 differ between the families.
public enum SlimNames {
  /// MSG, in both families.
  public static let message: UInt32 = 1

  /// The name, or "type 99" for one that family does not have. For metrics ask `isKnown` first: numbers are a
  /// peer's choice.
  public static func messageType(_ type: UInt32, family: Family) -> String {
    let names = family == .slimB ? typesB : typesA
    return type < UInt32(names.count) ? names[Int(type)] : "type \(type)"
  }

  public static func isKnown(_ type: UInt32, family: Family) -> Bool {
    type < UInt32((family == .slimB ? typesB : typesA).count)
  }

  private static let shared = [
    "UNSPECIFIED", "MSG", "MSG_ACK", "RTX_REQUEST", "RTX_REPLY", "DISCOVERY_REQUEST",
    "DISCOVERY_REPLY", "JOIN_REQUEST", "JOIN_REPLY", "LEAVE_REQUEST", "LEAVE_REPLY",
  ]
  private static let typesA =
    shared + [
      "GROUP_ADD", "GROUP_REMOVE", "GROUP_WELCOME", "GROUP_CLOSE", "GROUP_PROPOSAL", "GROUP_ACK",
      "GROUP_NACK", "PING",
    ]
  private static let typesB =
    shared + [
      "GROUP_UPDATE", "GROUP_WELCOME", "GROUP_CLOSE", "GROUP_PROPOSAL", "GROUP_ACK", "GROUP_NACK",
      "HEARTBEAT", "UPDATE_PARTICIPANT_STATE", "REJOIN_REQUEST", "REJOIN_REPLY",
    ]
}
