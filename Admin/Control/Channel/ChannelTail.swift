internal import Base
internal import Codec
internal import Messages
internal import Settings

/// The last messages of a channel, or all from a sequence. Payloads are ciphertext: only their sizes
/// are shown unless `--hex` asks for the bytes.
enum ChannelTail: Command {
  static let form = CommandForm(
    "channel tail",
    "Show a channel's messages: sequence, time, kind, size. NAME: org/namespace/service of Skytale or SLIM; "
      + "slim-a:... or slim-b:... for one family, with /ID behind it for one group.",
    arguments: [CommandArgument("NAME")],
    options: [
      CommandOption("--follow", short: "f", "Go on with what comes."),
      CommandOption("--from", value: "N", "Begin at this sequence instead of near the end."),
      CommandOption(
        "--count", short: "n", value: "N", "How many. Default: the last 10, or all with --from."),
      CommandOption("--hex", "Show the payload (ciphertext) as hex."),
    ],
    examples: [
      "posthouse channel tail acme/ops/alerts -f",
      "posthouse channel tail acme/ops/alerts --from 1",
      "posthouse channel tail slim-b:acme/ops/alerts",
    ])

  static func run(_ call: Call) throws(Fault) {
    let typed = call.word(0)
    let from = try call.number("--from")
    let count = try call.number("--count")
    let follow = call.parsed.has("--follow")
    let hex = call.parsed.has("--hex")
    let link = try call.link()
    guard let channel = try find(typed, call, follow: follow) else { return }
    let name = channel.name
    let family = name.hasPrefix("slim-b:") ? Family.slimB : .slimA
    let start = from ?? startNearEnd(channel, count ?? 10)
    // Without --follow the end is known now: a reader must not wait for a message that never comes.
    var left = count ?? .max
    if from == nil, follow { left = .max }
    let last = channel.lastSequence
    call.renderer.begin(columns(hex))
    if follow || (start <= last && left > 0) {
      let request = ReadRequest(
        channel: name, fromSequence: start, follow: follow,
        limit: follow ? 0 : limit(left, start, last))
      try link.stream(ChannelService.read, request, of: ReadResponse.self) {
        message throws(Fault) in
        if left == 0 || (!follow && message.sequence > last) { return false }
        left -= 1
        call.renderer.row(row(message, hex, family))
        return left > 0 && !call.renderer.readerGone && (follow || message.sequence < last)
      }
    }
    call.renderer.end()
  }

  /// A channel that has no message yet can be followed, not shown. nil: there are several, which were listed.
  private static func find(
    _ typed: String, _ call: Call, follow: Bool
  ) throws(Fault) -> AdminChannel? {
    do throws(Fault) {
      return try ChannelFinder.one(typed, call)
    } catch {
      guard follow, error.code == .notFound else { throw error }
      return AdminChannel(name: typed)
    }
  }

  private static func startNearEnd(_ channel: AdminChannel, _ count: UInt64) -> UInt64 {
    guard channel.lastSequence >= count else { return max(1, channel.firstSequence) }
    return max(channel.lastSequence - count + 1, channel.firstSequence, 1)
  }

  private static func limit(_ left: UInt64, _ start: UInt64, _ last: UInt64) -> UInt64 {
    min(left, last - max(start, 1) + 1)
  }

  private static func columns(_ hex: Bool) -> [Column] {
    let base: [Column] = [
      .right("SEQUENCE", width: 9), .left("TIME", width: 24), .left("TYPE", width: 14),
      .left("MLS", width: 11), .right("EPOCH", width: 5), .right("GENERATION", width: 5),
      .right("SIZE", width: 8), .left("PRODUCER", width: 16),
      .wide("PRODUCER SEQ", right: true, width: 6),
      .wide("PAYLOAD TYPE", width: 12),
    ]
    return hex ? base + [.left("PAYLOAD")] : base
  }

  private static func row(_ m: ReadResponse, _ hex: Bool, _ family: Family) -> ViewRow {
    // Skytale's messages are numbered as SLIM's family A.
    let type = SlimNames.messageType(m.messageType, family: family)
    let kind = mlsKind(m.mlsKind)
    let isMls = m.mlsKind.rawValue != 0
    var cells = [
      "\(m.sequence)", Shown.exactTime(m.timeUnixNs), type, kind, isMls ? "\(m.mlsEpoch)" : "-",
      "\(m.generation)", "\(m.payload.count)", m.producerID == 0 ? "-" : hex16(m.producerID),
      m.producerSequence == 0 ? "-" : "\(m.producerSequence)", Shown.orDash(m.payloadType),
    ]
    var members = [
      JsonMember("sequence", .unsigned(m.sequence)),
      JsonMember("time", Shown.timeJson(m.timeUnixNs)),
      JsonMember("type", .string(type)), JsonMember("mls_kind", isMls ? .string(kind) : .null),
      JsonMember("mls_epoch", isMls ? .unsigned(m.mlsEpoch) : .null),
      JsonMember("generation", .unsigned(UInt64(m.generation))),
      JsonMember("size", .integer(Int64(m.payload.count))),
      JsonMember("payload_type", .string(m.payloadType)),
      JsonMember("producer", m.producerID == 0 ? .null : .string(hex16(m.producerID))),
      JsonMember("producer_sequence", .unsigned(m.producerSequence)),
    ]
    if hex {
      cells.append(Text.hex(m.payload))
      members.append(JsonMember("payload", .string(Text.hex(m.payload))))
    }
    return ViewRow(cells: cells, json: .object(members), name: "\(m.sequence)")
  }

  private static func hex16(_ value: UInt64) -> String { Text.hex(bigEndianBytes(value)) }

  private static func mlsKind(_ kind: MlsKind) -> String {
    switch kind.rawValue {
    case 0: "-"
    case 1: "application"
    case 2: "proposal"
    case 3: "commit"
    default: "other"
    }
  }
}
