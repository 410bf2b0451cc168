internal import Base
internal import Crypto
internal import Report
internal import Settings

/// Ends with 1 for a certificate that does not hold now, so that a script need not read dates.
enum TlsShow: Command {
  static let form = CommandForm(
    "tls show", "What a certificate says, and how long it still holds.",
    arguments: [CommandArgument("FILE")],
    examples: [
      "posthouse tls show certs-n1/node.pem", "posthouse tls show certs-n1/ca.pem -o json",
    ])

  static func run(_ call: Call) throws(Fault) {
    let path = call.word(0)
    let all = try CertificateFiles.certificates(path)
    let certificate = all[0]
    let wall = Timestamp.now()
    var notes: [Note] = []
    if let warning = CertificateView.warning(certificate, at: wall) { notes.append(warning) }
    if all.count > 1 {
      notes.append(
        Note("The file holds \(all.count - 1) more: \(Shown.list(all.dropFirst().map(\.subject))).")
      )
    }
    call.renderer.show(
      .record(
        CertificateView.fields(certificate, at: wall),
        .object(
          CertificateView.members(certificate, at: wall) + [
            JsonMember("more", .integer(Int64(all.count - 1)))
          ]), name: certificate.node?.node.description ?? certificate.subject, notes: notes))
    let age = certificate.age(at: wall)
    if age == .expired || age == .notYetValid { call.outcome = .failed }
  }
}
