// Family B's part of the table, where it differs from A's.
extension SlimShape {
  func fieldB(_ number: UInt32) -> Field {
    switch (self, number) {
    case (.headerB, 1), (.headerB, 2): .message(.nameB)
    case (.headerB, 3), (.headerB, 5): .text
    case (.headerB, 4), (.headerB, 6...10): .varint
    case (.headerB, 11), (.headerB, 12): .bytes
    case (.nameB, 1): .message(.encodedNameB)
    case (.nameB, 2): .message(.stringName)
    case (.encodedNameB, 1...3): .varint
    case (.encodedNameB, 4): .message(.nameID)
    case (.nameID, 1), (.nameID, 2): .varint
    case (.negotiationB, 1), (.negotiationB, 2), (.negotiationB, 6), (.negotiationB, 7): .text
    case (.negotiationB, 3), (.negotiationB, 5): .varint
    case (.negotiationB, 4), (.negotiationB, 8): .bytes
    default: commandFieldB(number)
    }
  }

  private func commandFieldB(_ number: UInt32) -> Field {
    switch (self, number) {
    case (.commandB, 3): .message(.joinRequestB)
    case (.commandB, 4): .message(.joinReplyB)
    case (.commandB, 7): .message(.groupUpdate)
    case (.commandB, 8): .message(.groupWelcomeB)
    case (.commandB, 9): .message(.groupCloseB)
    case (.commandB, 10): .message(.groupProposalB)
    case (.commandB, 13): .message(.heartbeat)
    case (.commandB, 14): .message(.participantState)
    case (.commandB, 15): .message(.rejoinRequest)
    case (.commandB, 16): .message(.rejoinReply)
    // discovery, leave, ack and nack
    case (.commandB, 1), (.commandB, 2), (.commandB, 5), (.commandB, 6), (.commandB, 11),
      (.commandB, 12):
      .message(.empty)
    case (.joinRequestB, 1): .message(.timer)
    case (.joinRequestB, 2), (.joinRequestB, 3): .message(.nameB)
    case (.joinRequestB, 4): .message(.mlsSettings)
    case (.mlsSettings, 1): .varint
    case (.joinReplyB, 1): .bytes
    case (.joinReplyB, 2): .message(.participant)
    case (.participant, 1): .message(.nameB)
    case (.participant, 2): .message(.participantSettings)
    case (.participant, 3): .varint
    case (.participantSettings, 1), (.participantSettings, 2): .varint
    default: groupFieldB(number)
    }
  }

  private func groupFieldB(_ number: UInt32) -> Field {
    switch (self, number) {
    case (.groupUpdate, 1): .varint
    case (.groupUpdate, 2), (.groupUpdate, 3): .message(.participant)
    case (.groupUpdate, 4): .message(.mls)
    case (.groupWelcomeB, 1): .message(.participant)
    case (.groupWelcomeB, 2): .message(.mls)
    case (.groupCloseB, 1): .message(.nameB)
    case (.groupProposalB, 1): .message(.nameB)
    case (.groupProposalB, 2): .bytes
    case (.heartbeat, 1): .varint
    case (.participantState, 1): .message(.nameB)
    case (.participantState, 2), (.participantState, 3): .varint
    case (.rejoinRequest, 1): .message(.nameB)
    case (.rejoinRequest, 2): .bytes
    case (.rejoinReply, 1): .varint
    case (.rejoinReply, 2): .bytes
    default: .unknown
    }
  }

  /// False for the second occurrence of a singular embedded message; `seen` holds what one message has had so far.
  func isFirst(_ number: UInt32, _ seen: inout UInt64) -> Bool {
    // No message here has fields above 63.
    guard number < 64, case .message = field(number), !isRepeated(number) else { return true }
    let bit: UInt64 = 1 << UInt64(number)
    defer { seen |= bit }
    return seen & bit == 0
  }

  private func isRepeated(_ number: UInt32) -> Bool {
    switch (self, number) {
    case (.message, 4), (.groupChange, 2), (.groupWelcome, 1), (.groupClose, 1), (.groupUpdate, 3),
      (.groupWelcomeB, 1), (.groupCloseB, 1):
      true
    default: false
    }
  }
}
