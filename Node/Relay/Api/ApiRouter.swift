import Base
import Token

/// Maps a request of the token API (Proto/openapi/token.yaml) to what the token engine is asked. Pure.
struct ApiRouter {
  /// What a route does with method, path, query and body.
  enum Route: Equatable {
    case openapi
    case relays
    case account
    case tokens
    case usage
    case keys
    case key(String)
    case channels
    case invites
    case invite(String)
    case join
    case pending
    case putWelcome
    case welcome(String)
    case channel(String)
    case grants(String)
    case grant(String, String)

    /// In the order they stand in an `allow` header.
    var methods: [String] {
      switch self {
      case .openapi, .relays, .account, .usage, .pending, .welcome, .grants: ["GET"]
      case .keys, .channels, .invites: ["GET", "POST"]
      case .tokens, .join, .putWelcome: ["POST"]
      case .key, .invite, .grant: ["DELETE"]
      case .channel: ["GET", "DELETE"]
      }
    }
  }

  /// nil: no such path. Throws when a segment is no percent-encoded text.
  static func route(_ path: String) throws(Fault) -> Route? {
    if path == "/openapi.yaml" { return .openapi }
    let raw = path.split(separator: "/", omittingEmptySubsequences: false)
    guard raw.count >= 3, raw.count <= 6, raw[0].isEmpty, raw[1] == "v1" else { return nil }
    var parts: [String] = []
    for segment in raw.dropFirst(2) {
      guard let part = PercentText.decode(segment) else {
        throw Fault(.badRequest, "the path is not percent-encoded UTF-8")
      }
      if part.isEmpty { return nil }
      parts.append(part)
    }
    switch (parts[0], parts.count) {
    case ("account", 1): return .account
    case ("relays", 1): return .relays
    case ("tokens", 1): return .tokens
    case ("usage", 1): return .usage
    case ("keys", 1): return .keys
    case ("keys", 2): return .key(parts[1])
    case ("channels", 1): return .channels
    case ("channels", _): return channelRoute(Array(parts.dropFirst()))
    default: return nil
    }
  }

  private static func channelRoute(_ parts: [String]) -> Route? {
    switch (parts[0], parts.count) {
    case ("invites", 1): return .invites
    case ("invites", 2): return .invite(parts[1])
    case ("join", 1): return .join
    case ("pending", 1): return .pending
    case ("welcome", 1): return .putWelcome
    case ("welcome", 2): return .welcome(parts[1])
    case (_, 1): return .channel(parts[0])
    case (_, 2): return parts[1] == "grants" ? .grants(parts[0]) : nil
    case (_, 3): return parts[1] == "grants" ? .grant(parts[0], parts[2]) : nil
    default: return nil
    }
  }

  /// The action of a route and method that go together; nil for `openapi`, which asks nobody, and
  /// for `relays`, which asks the cluster.
  static func action(
    _ route: Route, _ method: String, query: ApiQuery, body: [UInt8]
  ) throws(Fault) -> TokenAction? {
    let post = method == "POST"
    let members = try RequestBody(post ? body : [])
    switch route {
    case .openapi, .relays: return nil
    case .account: return .account(org: nil)
    case .tokens:
      return .issueToken(
        ttlSeconds: try members.optionalInteger("ttl_seconds"),
        scope: try members.optionalString("scope"))
    case .usage:
      return .usage(org: nil, from: try query.day("from"), to: try query.day("to"))
    case .keys where post:
      return .createKey(
        org: nil, label: try members.optionalString("label") ?? "",
        scopes: try members.strings("scopes"),
        ttlSeconds: try members.optionalInteger("ttl_seconds"))
    case .keys: return .listKeys(org: nil)
    case .key(let id): return .revokeKey(id: id)
    case .channels where post: return .registerChannel(name: try members.string("name"))
    case .channels:
      return .listChannels(
        prefix: query["prefix"] ?? "", after: query["after"] ?? "", limit: try query.limit())
    case .invites where post: return try invite(members)
    case .invites: return .listInvites(channel: query["channel"] ?? "")
    case .invite(let id): return .revokeInvite(id: id)
    case .join:
      return .join(
        channel: try members.string("channel"), token: try members.string("token"),
        keyPackage: try members.base64("key_package"), identity: try members.string("identity"))
    case .pending:
      guard let channel = query["channel"] else {
        throw Fault(.badRequest, "the parameter `channel` is missing")
      }
      return .pending(channel: channel)
    case .putWelcome:
      return .putWelcome(
        request: try members.string("request_id"), welcome: try members.base64("welcome"))
    case .welcome(let id): return .getWelcome(request: id)
    case .channel(let name):
      return method == "GET" ? .getChannel(name: name) : .endChannel(name: name)
    case .grants(let name): return .listGrants(channel: name)
    case .grant(let name, let org): return .revokeGrant(channel: name, org: org)
    }
  }

  private static func invite(_ members: RequestBody) throws(Fault) -> TokenAction {
    let uses = try members.optionalInteger("max_uses") ?? 1
    return .createInvite(
      channel: try members.string("channel"), maxUses: Int(clamping: uses),
      ttlSeconds: try members.optionalInteger("ttl_seconds") ?? 3_600)
  }

  /// True when a body of this content type may be read as JSON. Clients that send no type mean JSON.
  static func isJson(_ contentType: String?) -> Bool {
    guard let contentType else { return true }
    let type = contentType.prefix { $0 != ";" }.lowercased().filter { $0 != " " && $0 != "\t" }
    return type == "application/json" || (type.hasPrefix("application/") && type.hasSuffix("+json"))
  }

  /// The credential of an `authorization` field; nil when it is none of ours.
  static func credential(_ field: String?) -> String? {
    guard let field, field.utf8.count <= 8_192, field.prefix(7).lowercased() == "bearer " else {
      return nil
    }
    let text = field.dropFirst(7)
    return text.isEmpty || text.utf8.contains(0x20) ? nil : String(text)
  }
}

/// The parameters of a query: the first of each name, what is unknown is ignored.
struct ApiQuery {
  private var parameters: [String: String] = [:]

  init(_ text: String) throws(Fault) {
    for part in text.split(separator: "&") {
      let pair = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard let name = PercentText.decode(pair[0], plusIsBlank: true),
        let value = PercentText.decode(pair.count == 2 ? pair[1] : "", plusIsBlank: true)
      else { throw Fault(.badRequest, "the query is not percent-encoded UTF-8") }
      if parameters[name] == nil { parameters[name] = value }
    }
  }

  subscript(_ name: String) -> String? { parameters[name] }

  /// 1 to `Limits.listRows`; absent: the most.
  func limit() throws(Fault) -> Int {
    guard let text = parameters["limit"] else { return Limits.listRows }
    guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), let limit = Int(text), limit >= 1
    else { throw Fault(.badRequest, "`limit` is a whole number from 1") }
    return min(limit, Limits.listRows)
  }

  /// `YYYY-MM-DD` as days since 1970.
  func day(_ name: String) throws(Fault) -> UInt32? {
    guard let text = parameters[name] else { return nil }
    guard let day = CalendarDay.read(text) else {
      throw Fault(.badRequest, "`\(name)` is a day as YYYY-MM-DD, from 1970 on")
    }
    return day
  }
}

enum PercentText {
  /// nil for a broken escape or what is no UTF-8.
  static func decode(_ text: some StringProtocol, plusIsBlank: Bool = false) -> String? {
    var out: [UInt8] = []
    var rest = text.utf8.makeIterator()
    while let c = rest.next() {
      switch c {
      case UInt8(ascii: "+") where plusIsBlank: out.append(0x20)
      case UInt8(ascii: "%"):
        guard let high = rest.next(), let low = rest.next(),
          let byte = Text.hexDecode(String(decoding: [high, low], as: UTF8.self))
        else { return nil }
        out += byte
      default: out.append(c)
      }
    }
    return String(validating: out, as: UTF8.self)
  }
}

/// Days of the proleptic Gregorian calendar, counted from 1970-01-01.
enum CalendarDay {
  static func read(_ text: String) -> UInt32? {
    let parts = text.split(separator: "-", omittingEmptySubsequences: false)
    guard text.utf8.count == 10, parts.count == 3,
      text.utf8.allSatisfy({ (0x30...0x39).contains($0) || $0 == 0x2d }),
      let year = Int(parts[0]), let month = Int(parts[1]), let day = Int(parts[2]), year >= 1970
    else { return nil }
    let count = days(year, month, day)
    // A day that does not exist comes back as another.
    guard count >= 0, write(UInt32(count)) == text else { return nil }
    return UInt32(count)
  }

  static func write(_ day: UInt32) -> String {
    // Counted from 0000-03-01 in eras of 400 years, so that the leap day ends a year.
    let z = Int(day) + 719_468
    let era = z / 146_097
    let ofEra = z - era * 146_097
    let yearOfEra = (ofEra - ofEra / 1_460 + ofEra / 36_524 - ofEra / 146_096) / 365
    let ofYear = ofEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let shifted = (5 * ofYear + 2) / 153
    let dayOfMonth = ofYear - (153 * shifted + 2) / 5 + 1
    let month = shifted < 10 ? shifted + 3 : shifted - 9
    let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    func two(_ n: Int) -> String { n < 10 ? "0\(n)" : "\(n)" }
    return "\(year)-\(two(month))-\(two(dayOfMonth))"
  }

  private static func days(_ year: Int, _ month: Int, _ day: Int) -> Int {
    let y = month <= 2 ? year - 1 : year
    let era = y / 400
    let yearOfEra = y - era * 400
    let ofYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
    return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + ofYear - 719_468
  }
}
