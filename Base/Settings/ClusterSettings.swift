internal import Base

extension NodeSettings {
  /// What a node needs to be one of several.
  public struct Cluster: Sendable, Equatable {
    /// Where other nodes reach this one; port 0 picks a free one.
    public var listen: HostPort
    /// What others are told; nil: where it listens.
    public var advertise: HostPort?
    public var seeds: [HostPort]
    public var zone: String
    public var region: String
    /// 0: owns no slots.
    public var weight: Int
    /// With what `posthouse tls issue` wrote.
    public var certDir: String
    public var profile: Profile
  }
  /// How far nodes are from each other.
  public enum Profile: String, Sendable { case local, lan, wan }
}

extension NodeSettings.Cluster {
  /// nil: no cluster.
  init?(_ s: Settings) throws(Fault) {
    guard let listen = s.address("cluster.listen") else { return nil }
    self.listen = listen
    advertise = s.address("cluster.advertise")
    seeds = []
    if case .list(let texts) = s["cluster.seeds"].value {
      for text in texts where !text.isEmpty {
        guard let seed = HostPort(text) else {
          throw Fault(.badSetting, "cluster.seeds: \(text) is not HOST:PORT")
        }
        seeds.append(seed)
      }
    }
    zone = s.text("cluster.zone")
    region = s.text("cluster.region")
    weight = Int(s.integer("cluster.weight"))
    certDir = s.text("cluster.cert_dir")
    profile = NodeSettings.Profile(rawValue: s.text("cluster.profile")) ?? .lan
    try validate()
  }

  private func validate() throws(Fault) {
    if certDir.isEmpty {
      throw Fault(
        .badSetting,
        "cluster.listen wants cluster.cert_dir: nodes know each other by certificates (posthouse tls issue)"
      )
    }
    if seeds.count > Limits.memberSeeds {
      throw Fault(.badSetting, "cluster.seeds: at most \(Limits.memberSeeds)")
    }
    for (name, text) in [("zone", zone), ("region", region)]
    where text.utf8.count > Limits.nodeLabelBytes {
      throw Fault(.badSetting, "cluster.\(name) is at most \(Limits.nodeLabelBytes) bytes")
    }
    let told = advertise ?? listen
    if !told.isNumeric {
      throw Fault(
        .badSetting,
        "\(advertise == nil ? "cluster.listen" : "cluster.advertise") = \(told): other nodes are told an "
          + "address, not a name")
    }
    if told.host == "0.0.0.0" || told.host == "::" {
      throw Fault(
        .badSetting,
        "cluster.listen = \(listen) is every address of this machine: say in cluster.advertise which one "
          + "other nodes are to use")
    }
  }
}

extension HostPort {
  /// An address, not a name.
  public var isNumeric: Bool {
    if host.contains(":") {
      return host.utf8.allSatisfy {
        (0x30...0x3a).contains($0) || (0x41...0x46).contains($0) || (0x61...0x66).contains($0)
          || $0 == 0x2e
      }
    }
    let parts = host.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts.allSatisfy { UInt8($0) != nil }
  }
}
