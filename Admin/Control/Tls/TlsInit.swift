internal import Base
internal import Crypto
internal import Report
internal import Settings

enum TlsInit: Command {
  static let form = CommandForm(
    "tls init", "Make the certificate authority of a cluster.",
    options: [
      CertificateFiles.directoryOption,
      CommandOption("--name", value: "CLUSTER", "The cluster's name. Default: posthouse."),
      CertificateFiles.daysOption, Call.yes,
    ],
    examples: [
      "posthouse tls init", "posthouse tls init --dir /root/cluster-ca --name prod --days 3650",
    ])

  static func run(_ call: Call) throws(Fault) {
    let directory = call.parsed.value("--dir") ?? CertificateFiles.defaultDirectory
    let days = try CertificateFiles.days(call, orElse: Limits.authorityDays)
    let certificatePath = "\(directory)/\(ClusterFiles.authority)"
    let keyPath = "\(directory)/\(ClusterFiles.authorityKey)"
    let isThere = [certificatePath, keyPath].contains { CertificateFiles.exists($0) }
    var before: String?
    if isThere { before = try? CertificateFiles.certificates(certificatePath).first?.cluster }
    let name = call.parsed.value("--name") ?? before ?? "posthouse"
    let wall = Timestamp.now()
    let authority = try ClusterAuthority.make(cluster: name, days: days, at: wall)
    if isThere {
      try call.confirm(
        "replacing the authority in \(directory), whose certificates no node will take any more,",
        name: before ?? name)
    }
    try CertificateFiles.makeDirectory(directory)
    try PrivateFile.write(keyPath, authority.own.keyPem)
    try PrivateFile.write(certificatePath, authority.own.certificatePem)
    let certificate = authority.own.certificate
    call.renderer.show(
      .record(
        [Field("Cluster", name)] + [Field("Directory", directory)]
          + CertificateView.fields(certificate, at: wall).filter { $0.label.hasPrefix("Valid") },
        .object(
          CertificateView.members(certificate, at: wall) + [
            JsonMember("certificate_file", .string(certificatePath)),
            JsonMember("key_file", .string(keyPath)),
          ]), name: name,
        notes: [
          Note("Keep \(keyPath) off the nodes: who has it can join the cluster."),
          Note("Next: posthouse tls issue --dir \(directory) --node n1 --out certs-n1"),
        ]))
  }
}
