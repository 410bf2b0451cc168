import Base
import Crypto
import Foundation
import Testing

@testable import Control

/// A directory that goes with the test.
private final class Place {
  let path = "/tmp/posthouse-tls-\(UInt32.random(in: 0 ... .max))"
  init() {
    try? FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }

  func mode(_ name: String) throws -> Int {
    let facts = try FileManager.default.attributesOfItem(atPath: "\(path)/\(name)")
    return try #require(facts[.posixPermissions] as? Int)
  }
  func text(_ name: String) throws -> String {
    try String(contentsOfFile: "\(path)/\(name)", encoding: .utf8)
  }
  func write(_ name: String, _ bytes: [UInt8]) throws {
    try Data(bytes).write(to: URL(fileURLWithPath: "\(path)/\(name)"))
  }
}

private func run(_ line: String) -> (code: ExitCode, output: String, error: String) {
  let shell = Shell()
  let code = shell.run(line)
  #expect(shell.link.asked.isEmpty, "no node is asked")
  return (code, shell.terminal.output, shell.terminal.error)
}

private func object(_ text: String) throws -> [String: Any] {
  try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
}

@Suite(.timeLimit(.minutes(1))) struct TlsCommandTests {
  @Test("An authority, a node's certificate, and what they say")
  func make() throws {
    let place = Place()
    let ca = "\(place.path)/ca"
    let made = run("tls init --dir \(ca) --name prod --days 100 -o json")
    #expect(made.code == .done && made.error == "")
    let authority = try object(made.output)
    #expect(authority["kind"] as? String == "cluster authority")
    #expect(authority["cluster"] as? String == "prod" && authority["state"] as? String == "valid")
    #expect(authority["key_file"] as? String == "\(ca)/ca.key")
    for name in ["ca/ca.key", "ca/ca.pem"] { #expect(try place.mode(name) == 0o600) }
    #expect(try place.mode("ca") == 0o700)
    #expect(!made.output.contains("PRIVATE"))

    let out = "\(place.path)/n1"
    let issued = run(
      "tls issue --dir \(ca) --node n1 --node-id 00000000000000ab --host a.example.org,10.0.0.1 "
        + "--host ::1 --days 10 --out \(out) -o json")
    #expect(issued.code == .done && issued.error == "")
    let node = try object(issued.output)
    #expect(node["subject"] as? String == "n1" && node["node_id"] as? String == "00000000000000ab")
    #expect(node["hosts"] as? [String] == ["a.example.org", "10.0.0.1", "::1"])
    #expect(node["days_left"] as? Int == 9 || node["days_left"] as? Int == 10)
    for name in ["ca.pem", "node.pem", "node.key"] {
      #expect(try place.mode("n1/\(name)") == 0o600)
    }
    #expect(try place.text("n1/ca.pem") == place.text("ca/ca.pem"))
    #expect(!FileManager.default.fileExists(atPath: "\(out)/ca.key"))

    let shown = run("tls show \(out)/node.pem")
    #expect(shown.code == .done)
    for word in ["n1", "prod", "00000000000000ab", "a.example.org, 10.0.0.1, ::1", "days left"] {
      #expect(shown.output.contains(word), "\(shown.output)")
    }
    #expect(run("tls show \(out)/node.pem -o name").output == "00000000000000ab\n")
    #expect(run("tls show \(out)/ca.pem -o name").output == "prod\n")
  }

  @Test("Nothing is replaced without a word, and a renewal keeps the node's id")
  func replace() throws {
    let place = Place()
    let ca = "\(place.path)/ca"
    let out = "\(place.path)/n1"
    #expect(run("tls init --dir \(ca) --name prod").code == .done)
    #expect(run("tls issue --dir \(ca) --node n1 --out \(out)").code == .done)
    let before = ["ca/ca.pem", "ca/ca.key", "n1/node.pem", "n1/node.key"]
    let texts = try before.map { try place.text($0) }
    for line in ["tls init --dir \(ca)", "tls issue --dir \(ca) --node n1 --out \(out)"] {
      let refused = run(line)
      #expect(refused.code == .refused && refused.error.contains("(not_confirmed)"))
    }
    #expect(try before.map { try place.text($0) } == texts, "nothing was touched")

    let id = run("tls show \(out)/node.pem -o name").output
    #expect(run("tls issue --dir \(ca) --node n1 --out \(out) --yes").code == .done)
    #expect(run("tls show \(out)/node.pem -o name").output == id)
    #expect(try place.text("n1/node.key") != texts[3], "the key is a fresh one")
    #expect(run("tls issue --dir \(ca) --node n2 --out \(out) --yes").code == .done)
    #expect(run("tls show \(out)/node.pem -o name").output != id, "another node has another id")
    let old = try place.text("ca/ca.pem")
    #expect(run("tls init --dir \(ca) --yes").code == .done)
    #expect(run("tls show \(ca)/ca.pem -o name").output == "prod\n", "the name stays")
    #expect(try place.text("ca/ca.key") != texts[1])
    // While the authority changes: the new one signs, nodes take both.
    try place.write("ca/ca.pem", Array((try place.text("ca/ca.pem") + old).utf8))
    #expect(run("tls issue --dir \(ca) --node n2 --out \(out) --yes").code == .done)
    #expect(try place.text("n1/ca.pem").hasSuffix(old))
    #expect(run("tls show \(out)/ca.pem").output.contains("The file holds 1 more: prod."))
  }

  @Test(
    "Mistakes end with the code of their kind",
    arguments: [
      ("tls issue --dir CA --out X", ExitCode.usage, "tls issue wants --node NODE_NAME"),
      ("tls issue --dir CA --node n1", .usage, "tls issue wants --out CERTDIR"),
      ("tls issue --dir CA --node n1 --node-id 12 --out X", .usage, "16 hex digits"),
      (
        "tls issue --dir CA --node n1 --node-id 0000000000000000 --out X", .usage, "zero is no id"
      ),
      ("tls issue --dir CA --node n1 --host a,,b --out X", .usage, "neither a host name"),
      ("tls issue --dir CA --node n1 --host a/b --out X", .usage, "neither a host name"),
      ("tls issue --dir CA --node n1 --days 0 --out X", .usage, "1 to 36500 days"),
      ("tls issue --dir CA --node n1 --out CA", .usage, "belongs on no node"),
      ("tls issue --dir NONE --node n1 --out X", .notFound, "posthouse tls init --dir"),
      ("tls init --dir X --name Prod", .usage, "no cluster name"),
      ("tls init --dir X --days 99999999999", .usage, "1 to 36500 days"),
      ("tls show NONE", .notFound, "there is no file"),
      ("tls show CA/ca.key", .failed, "holds no certificate"),
      ("tls show CA", .failed, "cannot read"),
    ])
  func mistakes(_ line: String, _ code: ExitCode, _ message: String) throws {
    let place = Place()
    #expect(run("tls init --dir \(place.path)/CA").code == .done)
    let words = line.split(separator: " ").map { word in
      ["CA", "X", "NONE"].contains { word == $0 || word.hasPrefix($0 + "/") }
        ? "\(place.path)/\(word)" : String(word)
    }
    let ended = run(words.joined(separator: " "))
    #expect(ended.code == code && ended.error.contains(message), "\(ended)")
    #expect(ended.output == "")
    #expect(!FileManager.default.fileExists(atPath: "\(place.path)/X"), "nothing was written")
  }

  @Test(
    "A certificate past its time is told, and scripts see it",
    arguments: [
      (-20, 10, ExitCode.failed, "EXPIRED", "expired"),
      (-9, 10, .done, "Expires soon", "ends_soon"),
      (2, 10, .failed, "NOT YET VALID", "not_yet_valid"), (-1, 10, .done, "days left", "valid"),
    ])
  func age(_ made: Int64, _ days: Int, _ code: ExitCode, _ words: String, _ state: String) throws {
    let place = Place()
    let now = Instant(nanoseconds: Int64(Date().timeIntervalSince1970) * 1_000_000_000)
    let authority = try ClusterAuthority.make(
      cluster: "prod", at: now + .seconds(-100 * 86_400))
    let node = try authority.issue(
      node: NodeID(1), name: "n1", days: days, at: now + .seconds(made * 86_400))
    try place.write("node.pem", node.certificatePem)
    let shown = run("tls show \(place.path)/node.pem")
    #expect(shown.code == code && shown.output.contains(words), "\(shown)")
    #expect(
      (shown.output.contains("posthouse tls issue --node n1"))
        == (state == "expired" || state == "ends_soon"))
    let json = run("tls show \(place.path)/node.pem -o json")
    #expect(json.code == code)
    #expect(try object(json.output)["state"] as? String == state)
  }

  @Test("A key that others can read is not used")
  func openKey() throws {
    let place = Place()
    #expect(run("tls init --dir \(place.path)").code == .done)
    try FileManager.default.setAttributes(
      [.posixPermissions: 0o644], ofItemAtPath: "\(place.path)/ca.key")
    let ended = run("tls issue --dir \(place.path) --node n1 --out \(place.path)/n1")
    #expect(ended.code == .failed && ended.error.contains("chmod 600"))
  }

  @Test(
    "OpenSSL takes what we make",
    .enabled(if: access("/usr/bin/openssl", X_OK) == 0, "needs the program openssl"))
  func openssl() throws {
    let place = Place()
    let ca = "\(place.path)/ca"
    let out = "\(place.path)/n1"
    #expect(run("tls init --dir \(ca) --name prod").code == .done)
    #expect(
      run(
        "tls issue --dir \(ca) --node n1 --node-id 00000000000000ab --host a.example.org,10.0.0.1 "
          + "--out \(out)"
      ).code == .done)
    func openssl(_ line: String) throws -> String {
      let program = Process()
      program.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
      program.arguments = line.split(separator: " ").map(String.init)
      let pipe = Pipe()
      program.standardOutput = pipe
      program.standardError = pipe
      try program.run()
      let bytes = pipe.fileHandleForReading.readDataToEndOfFile()
      program.waitUntilExit()
      let text = String(decoding: bytes, as: UTF8.self)
      #expect(program.terminationStatus == 0, "\(text)")
      return text
    }
    for purpose in ["sslserver", "sslclient"] {
      let verified = try openssl(
        "verify -x509_strict -purpose \(purpose) -CAfile \(out)/ca.pem \(out)/node.pem")
      #expect(verified.contains("node.pem: OK"))
    }
    let node = try openssl("x509 -in \(out)/node.pem -noout -text")
    for words in [
      "Version: 3", "Issuer: O = Posthouse cluster CA, CN = prod", "Subject: CN = n1",
      "URI:posthouse://prod/node/00000000000000ab, DNS:a.example.org, IP Address:10.0.0.1",
      "TLS Web Server Authentication, TLS Web Client Authentication", "CA:FALSE",
      "Digital Signature", "ASN1 OID: prime256v1", "ecdsa-with-SHA256",
    ] { #expect(node.contains(words), "\(words) is missing in \(node)") }
    let authority = try openssl("x509 -in \(ca)/ca.pem -noout -text")
    for words in ["CA:TRUE, pathlen:0", "Certificate Sign", "URI:posthouse://prod"] {
      #expect(authority.contains(words), "\(words) is missing in \(authority)")
    }
    #expect(try openssl("pkey -in \(out)/node.key -noout -check").contains("Key is valid"))
  }
}
