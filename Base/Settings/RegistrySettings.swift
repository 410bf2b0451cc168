internal import Base

extension NodeSettings.Registry {
  init(_ s: Settings) throws(Fault) {
    ttl = s.duration("registry.ttl")
    capacity = Int(s.integer("registry.capacity"))
    federatedCapacity = Int(s.integer("registry.federated_capacity"))
    alwaysFederated = s.flag("registry.always_federated")
    proof = NodeSettings.Proof(rawValue: s.text("registry.proof")) ?? .optional
    tombstoneLife = s.duration("registry.tombstone_life")
    let id = s.text("federation.relay_id")
    relayID = id.isEmpty ? s.text("node_name") : id
    interval = s.duration("federation.interval")
    fanout = Int(s.integer("federation.fanout"))
    originTimeout = s.duration("federation.origin_timeout")
    let files = ["cert", "key", "ca"].map { s.text("federation.\($0)") }
    tls =
      files[0].isEmpty && files[1].isEmpty
      ? nil : NodeSettings.Tls(certificate: files[0], key: files[1])
    authority = files[2]
    peers = []
    for text in Self.list(s, "federation.peers") {
      guard let address = HostPort(text) else {
        throw Fault(.badSetting, "federation.peers: \(text) is not HOST:PORT")
      }
      peers.append(NodeSettings.FederationPeer(name: "", address: address))
    }
    for text in Self.list(s, "federation.insecure") {
      guard let equals = text.firstIndex(of: "="), equals != text.startIndex,
        let address = HostPort(String(text[text.index(after: equals)...]))
      else { throw Fault(.badSetting, "federation.insecure: \(text) is not NAME=HOST:PORT") }
      peers.append(NodeSettings.FederationPeer(name: String(text[..<equals]), address: address))
    }
  }

  private static func list(_ s: Settings, _ name: String) -> [String] {
    if case .list(let texts) = s[name].value { return texts.filter { !$0.isEmpty } }
    return []
  }
}

extension NodeSettings {
  /// What belongs together among relays.
  func validateFederation() throws(Fault) {
    if registry.ttl.wholeSeconds < 1 {
      throw Fault(.badSetting, "registry.ttl is at least 1s")
    }
    if registry.tombstoneLife < registry.ttl {
      throw Fault(.badSetting, "registry.tombstone_life is at least registry.ttl")
    }
    if registry.interval.nanoseconds < 50_000_000 || registry.originTimeout < registry.interval {
      throw Fault(
        .badSetting, "federation.interval is at least 50ms and at most federation.origin_timeout")
    }
    let id = registry.relayID
    if id.isEmpty || id.utf8.count > Limits.relayIDBytes {
      throw Fault(.badSetting, "a relay id has 1 to \(Limits.relayIDBytes) bytes")
    }
    if registry.peers.contains(where: { $0.name == id }) {
      throw Fault(.badSetting, "federation.insecure names \(id), which is this relay's own id")
    }
    if let tls = registry.tls {
      if tls.certificate.isEmpty || tls.key.isEmpty || registry.authority.isEmpty {
        throw Fault(
          .badSetting, "federation.cert, federation.key and federation.ca belong together")
      }
    } else if federationAddress != nil || registry.peers.contains(where: { $0.name.isEmpty }) {
      throw Fault(
        .badSetting,
        "federation.listen and federation.peers are mutual TLS: set federation.cert, federation.key and "
          + "federation.ca, or name the peer in federation.insecure")
    }
  }
}
