public import Base
import Loop
public import Report
public import Settings
import Store
import Tls

/// Listening sockets that a node got instead of binding them: from a supervisor, or from the node that ran
/// before. Connections wait in their backlog until it accepts, so that none is refused.
public struct Inheritance: Sendable {
  /// By the name of the setting they stand for.
  var sockets: [String: ListenSocket] = [:]
  /// The admin socket, already in its place.
  var admin: ListenSocket?
  /// Somebody else holds the sockets, too: a successor of this node will find them open.
  var isHeldElsewhere = false
  /// Another process may hold the data directory, and will let go of it.
  var mayWait = false

  public static let none = Inheritance()

  /// What a supervisor passed on (systemd's socket activation): matched to the settings by name, or by
  /// address when the name is none of a setting.
  public static func fromSupervisor(
    environment: [String: String], settings: NodeSettings
  ) throws(Fault) -> Inheritance {
    let given: [(name: String, socket: ListenSocket)]
    do {
      given = try inheritedSockets(environment: environment)
    } catch {
      throw Fault(.badSetting, "\(error)")
    }
    var out = Inheritance()
    for (name, socket) in given {
      let key =
        settings.listening.contains { $0.name == name }
        ? name : settings.listening.first { matches(socket, $0.place) }?.name ?? name
      try check(key, socket, settings, from: "the supervisor")
      guard out.sockets.updateValue(socket, forKey: key) == nil else {
        throw Fault(.badSetting, "the supervisor passes two sockets for \(key)")
      }
    }
    out.isHeldElsewhere = !given.isEmpty
    out.mayWait = !given.isEmpty
    return out
  }

  /// Takes the sockets of the node that answers at the admin socket, which then drains. Whatever is wrong
  /// is found before it lets go of anything: until this returns or throws late, it serves on.
  public static func fromPredecessor(
    settings: NodeSettings, log: Log
  ) throws(Fault) -> Inheritance {
    var out = Inheritance()
    let line: DescriptorLine
    do {
      line = try DescriptorLine(connectingTo: settings.adminSocket)
    } catch {
      throw Fault(
        .unreachable,
        "there is no node to take over from: \(error). Start without --takeover, or name its "
          + "admin_socket")
    }
    do {
      try line.send(TakeoverWords.hello)
      let (offer, sockets) = try answer(line)
      try offer.check(settings)
      guard offer.sockets.count == sockets.count else {
        throw Fault(
          .internal,
          "the running node named \(offer.sockets.count) sockets and sent "
            + "\(sockets.count)")
      }
      for (name, socket) in zip(offer.sockets, sockets) {
        try check(name, socket, settings, from: "the running node")
        out.sockets[name] = socket
      }
      try checkCertificate(settings)
      // What it does not serve yet is bound now: an address in use must stop us here.
      for (name, place) in settings.listening where out.sockets[name] == nil {
        guard let place, let endpoint = Endpoint(place.description) else { continue }
        do {
          out.sockets[name] = try ListenSocket(endpoint)
        } catch {
          throw Fault(.unavailable, "\(error) (setting \(name))")
        }
      }
      try line.send(TakeoverWords.take)
      guard try line.receive(within: NodeLimits.takeoverAnswer)?.line == TakeoverWords.taken else {
        throw Fault(.conflict, "the running node is draining already, or handed over to another")
      }
      out.admin = try ListenSocket(.unix(path: settings.adminSocket), replacing: true)
      log.info("sockets taken over", ["pid": .of(offer.process)])
    } catch let fault as Fault {
      throw fault
    } catch {
      throw Fault(.unavailable, "taking over at \(settings.adminSocket): \(error)")
    }
    out.mayWait = true
    return out
  }

  private static func answer(
    _ line: DescriptorLine
  ) throws -> (TakeoverOffer, [ListenSocket]) {
    guard let (text, sockets) = try line.receive(within: NodeLimits.takeoverAnswer),
      let offer = TakeoverOffer(line: text)
    else {
      throw Fault(
        .unimplemented,
        "the running node knows no takeover of this kind, or is starting or draining")
    }
    return (offer, sockets)
  }

  /// A listener that comes from elsewhere must be what the settings say.
  private static func check(
    _ name: String, _ socket: ListenSocket, _ settings: NodeSettings, from source: String
  ) throws(Fault) {
    guard let known = settings.listening.first(where: { $0.name == name }) else {
      throw Fault(
        .badSetting,
        "\(source) passes a socket \"\(name)\" on \(socket.endpoint): no setting has this name or "
          + "address")
    }
    guard matches(socket, known.place) else {
      let ours = known.place?.description ?? "off"
      throw Fault(
        .badSetting,
        "\(source) listens on \(socket.endpoint) for \(name), the settings say \(ours): make them "
          + "equal, or stop it first")
    }
  }

  private static func matches(_ socket: ListenSocket, _ place: HostPort?) -> Bool {
    guard let place, let endpoint = Endpoint(place.description) else { return false }
    return socket.isBound(to: endpoint)
  }

  static func checkCertificate(_ settings: NodeSettings) throws {
    guard settings.grpcTls != nil || settings.httpTls != nil, let files = settings.tls else {
      return
    }
    _ = try TlsServerContext(
      TlsFiles(certificate: files.certificate, key: files.key), protocols: [.h2])
  }
}

extension NodeSettings {
  /// The listeners by the names of their settings.
  var listening: [(name: String, place: HostPort?)] {
    [
      ("grpc", grpc), ("grpc_tls", grpcTls), ("http", http), ("http_tls", httpTls),
      ("registry.listen", registryAddress), ("federation.listen", federationAddress),
      ("cluster.listen", cluster?.listen),
    ]
  }
}

/// The lines of a takeover, over the admin socket: hello, the offer with the sockets, take, taken. Their
/// first byte is not that of HTTP/2, which the socket speaks otherwise.
enum TakeoverWords {
  static let hello = "takeover 1"
  static let take = "take"
  static let taken = "taken"
  static let firstByte = UInt8(ascii: "t")
}

/// What the running node says of itself, on one line; its sockets come with it in this order.
struct TakeoverOffer: Equatable {
  var process: Int
  /// Of its archive.
  var format: UInt32
  /// Device and inode of its data directory.
  var directory: String
  /// Names of settings.
  var sockets: [String]

  init(process: Int, format: UInt32, directory: String, sockets: [String]) {
    self.process = process
    self.format = format
    self.directory = directory
    self.sockets = sockets
  }

  init?(line: String) {
    let words = line.split(separator: " ")
    guard words.count >= 4, words[0] == "offer", let process = Int(words[1]),
      let format = UInt32(words[2])
    else { return nil }
    self.init(
      process: process, format: format, directory: String(words[3]),
      sockets: words[4...].map(String.init))
  }

  var line: String {
    (["offer", "\(process)", "\(format)", directory] + sockets).joined(separator: " ")
  }

  /// Ours must be able to go on where it stops.
  func check(_ settings: NodeSettings) throws(Fault) {
    guard directory == TakeoverOffer.identity(settings.data) else {
      throw Fault(
        .badSetting,
        "the node at \(settings.adminSocket) has another data directory than \(settings.data)")
    }
    guard format <= Store.format else {
      throw Fault(
        .unimplemented,
        "the running node's archive has format \(format), this program knows \(Store.format)")
    }
  }

  static func identity(_ path: String) -> String { fileIdentity(path) ?? "-" }
}
