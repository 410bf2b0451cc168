internal import Base
internal import Crypto
internal import Report
internal import Settings

/// Writes what a node needs, and nothing of it leaves the machine: ca.pem, node.pem, node.key.
enum TlsIssue: Command {
  static let form = CommandForm(
    "tls issue", "Make a node's certificate and key, signed by the cluster's authority.",
    options: [
      CertificateFiles.directoryOption,
      CommandOption("--node", value: "NODE_NAME", "The node's name."),
      CommandOption(
        "--node-id", value: "HEX",
        "The node's id, 16 hex digits. Default: that of the certificate it replaces, else a fresh one."
      ),
      CommandOption(
        "--host", value: "HOST,...", "Names and addresses to add, for programs that look at them.",
        repeats: true),
      CertificateFiles.daysOption,
      CommandOption("--out", value: "CERTDIR", "Where to write; made when it is missing."),
      Call.yes,
    ],
    examples: [
      "posthouse tls issue --dir cluster-ca --node n1 --out certs-n1",
      "posthouse tls issue --node n1 --host n1.example.org,10.0.0.1 --days 90 --out certs-n1 --yes",
    ])

  static func run(_ call: Call) throws(Fault) {
    let directory = call.parsed.value("--dir") ?? CertificateFiles.defaultDirectory
    let name = try CertificateFiles.required(call, "--node", "NODE_NAME")
    let out = try CertificateFiles.required(call, "--out", "CERTDIR")
    let days = try CertificateFiles.days(call, orElse: Limits.certificateDays)
    let hosts = call.parsed.values("--host").flatMap {
      $0.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    }
    let (authority, authorityPem) = try CertificateFiles.authority(directory)
    if CertificateFiles.exists("\(out)/\(ClusterFiles.authorityKey)") {
      throw Fault(
        .usage, "\(out) holds the authority's key, which belongs on no node: give another --out")
    }
    let before = try? CertificateFiles.certificates("\(out)/\(ClusterFiles.node)").first
    let wall = Timestamp.now()
    let made = try authority.issue(
      node: try node(call, name, authority.cluster, before), name: name, hosts: hosts, days: days,
      at: wall)
    let paths = [ClusterFiles.nodeKey, ClusterFiles.node, ClusterFiles.authority].map {
      "\(out)/\($0)"
    }
    if paths.contains(where: { CertificateFiles.exists($0) }) {
      let old = before?.subject ?? name
      try call.confirm("replacing the certificate of \(old) in \(out)", name: old)
    }
    try CertificateFiles.makeDirectory(out)
    try PrivateFile.write(paths[0], made.keyPem)
    try PrivateFile.write(paths[1], made.certificatePem)
    try PrivateFile.write(paths[2], authorityPem)
    show(call, made.certificate, out, days, wall)
  }

  private static func node(
    _ call: Call, _ name: String, _ cluster: String, _ before: Certificate?
  ) throws(Fault) -> NodeID {
    if let text = call.parsed.value("--node-id") {
      guard let given = NodeID(hex: text) else {
        if text == String(repeating: "0", count: 16) {
          throw Fault(.usage, "--node-id \(text): zero is no id, any other number is")
        }
        throw Fault(.usage, "--node-id wants 16 hex digits in lower case, not \"\(text)\"")
      }
      return given
    }
    if let known = before?.node, known.name == name, known.cluster == cluster { return known.node }
    return NodeID(max(1, Random.uint64()))
  }

  private static func show(
    _ call: Call, _ certificate: Certificate, _ out: String, _ days: Int, _ wall: Instant
  ) {
    var notes: [Note] = []
    if (certificate.notAfter - wall).wholeSeconds < Int64(days) * 86_400 - 60 {
      notes.append(Note("It ends with the authority, sooner than asked for.", .bad))
    }
    notes.append(
      Note(
        "Next: copy \(out) to the node, readable by its user alone; posthouse tls show \(out)/node.pem"
      ))
    call.renderer.show(
      .record(
        [Field("Node", certificate.subject)]
          + CertificateView.fields(certificate, at: wall).dropFirst(2)
          + [Field("Directory", out)],
        .object(
          CertificateView.members(certificate, at: wall) + [JsonMember("directory", .string(out))]),
        name: certificate.node?.node.description ?? certificate.subject, notes: notes))
  }
}
