internal import Base
internal import Messages

/// The channels that a typed name stands for. `acme/rooms/x` may be a Skytale channel and a SLIM name of both
/// families; under a SLIM name there is a channel for each instance id.
enum ChannelFinder {
  /// The one of exactly this name if there is one, else all under it. Empty: there is none.
  static func find(_ name: String, _ call: Call) throws(Fault) -> [AdminChannel] {
    let link = try call.link()
    let timeout = try call.timeout()
    do throws(Fault) {
      let exact: AdminChannel = try link.call(
        AdminService.getChannel, AdminChannelRequest(name: name), timeout: timeout)
      return [exact]
    } catch {
      guard error.code == .notFound || error.code == .badChannelName else { throw error }
    }
    let page: AdminListChannelsResponse = try link.call(
      AdminService.listChannels, AdminListChannelsRequest(prefix: name, limit: 1000),
      timeout: timeout)
    return page.channels.filter { isUnder(name, $0.name) }
  }

  /// The one that is meant. nil: there are several, which were listed. Throws `not_found` for none.
  static func one(_ name: String, _ call: Call) throws(Fault) -> AdminChannel? {
    let found = try find(name, call)
    if found.count > 1 {
      call.renderer.show(.list(ChannelView.columns, found.map(ChannelView.row)))
      call.renderer.note("\(found.count) channels are meant by \(name): name one of them")
      call.outcome = .usage
      return nil
    }
    guard let channel = found.first else {
      throw Fault(
        .notFound,
        "no channel \(name), neither of Skytale nor of SLIM; \(call.again("posthouse channel ls")) lists what is kept"
      )
    }
    return channel
  }

  /// `acme/rooms/x` is not meant by who types `acme/rooms/xy`; a SLIM channel's name has hashes, and was found by them.
  private static func isUnder(_ typed: String, _ found: String) -> Bool {
    guard found.hasPrefix(typed) else { return true }
    return typed.hasSuffix("/") || typed.hasSuffix(":") || found.dropFirst(typed.count).first == "/"
  }
}
