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

  /// `acme/rooms/x` is not meant by who types `acme/rooms/xy`; a SLIM channel's name has hashes, and was found by them.
  private static func isUnder(_ typed: String, _ found: String) -> Bool {
    guard found.hasPrefix(typed) else { return true }
    return typed.hasSuffix("/") || typed.hasSuffix(":") || found.dropFirst(typed.count).first == "/"
  }
}
