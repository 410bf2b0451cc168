import Base
import Testing

@testable import Crypto

@Suite("Certificates of a cluster", .timeLimit(.minutes(1))) struct CertificateTests {
  private let wall = Instant(nanoseconds: 1_800_000_000 * 1_000_000_000)

  @Test(
    "a node's URI has one form",
    arguments: [
      ("posthouse://test/node/00000000000000ab", true),
      ("posthouse://a-1/node/ffffffffffffffff", true),
      ("posthouse://test/node/0000000000000000", false),
      ("posthouse://test/node/00000000000000AB", false),
      ("posthouse://test/node/ab", false), ("posthouse://test/node/00000000000000ab/", false),
      ("posthouse://Test/node/00000000000000ab", false),
      ("posthouse:///node/00000000000000ab", false),
      ("posthouse://test/nodes/00000000000000ab", false),
      ("https://test/node/00000000000000ab", false),
      ("posthouse://test", false), ("", false),
      ("posthouse://\(String(repeating: "a", count: 64))/node/00000000000000ab", false),
      ("posthouse://\(String(repeating: "a", count: 9_999))/node/00000000000000ab", false),
    ])
  func uri(_ text: String, _ isOne: Bool) {
    let identity = NodeIdentity(uri: text)
    #expect((identity != nil) == isOne)
    if isOne { #expect(identity?.uri == text) }
  }

  @Test("an authority signs what it is asked for, and reads back") func issue() throws {
    let made = try ClusterAuthority.make(cluster: "prod", days: 100, at: wall)
    #expect(made.own.certificate.cluster == "prod" && made.own.certificate.isAuthority)
    #expect(made.own.certificate.node == nil && made.own.certificate.serial.count == 32)
    let authority = try ClusterAuthority(
      certificatePem: made.own.certificatePem, keyPem: made.own.keyPem)
    #expect(authority.cluster == "prod" && authority.own.certificate == made.own.certificate)
    let hosts = ["n1.example.org", "10.0.0.1", "::1", "*.n1.example.org"]
    let node = try authority.issue(node: NodeID(0xab), name: "n1", hosts: hosts, days: 10, at: wall)
    let read = try #require(try Certificate.read(pem: node.certificatePem).first)
    #expect(read == node.certificate && read.hosts == hosts && !read.isAuthority)
    #expect(read.subject == "n1" && read.issuer == "prod" && read.cluster == nil)
    #expect(read.node?.uri == "posthouse://prod/node/00000000000000ab" && read.node?.name == "n1")
    #expect(read.notBefore == wall + .seconds(-Limits.certificateBackdateSeconds))
    #expect(read.notAfter == wall + .seconds(10 * 86_400))
    // The authority ends first.
    let long = try authority.issue(node: NodeID(1), name: "n1", days: 101, at: wall)
    #expect(long.certificate.notAfter == made.own.certificate.notAfter)
    #expect(long.certificate.serial != read.serial)
    #expect(throws: Fault.self) {
      try authority.issue(node: NodeID(1), name: "n1", at: wall + .seconds(101 * 86_400))
    }
  }

  @Test(
    "what no certificate can hold is refused",
    arguments: [
      ("", ["a"], 1, 5), ("a b", [], 1, 5), (String(repeating: "n", count: 64), [], 1, 5),
      ("n1", ["a,b"], 1, 5), ("n1", ["email:x@y"], 1, 5), ("n1", [""], 1, 5), ("n1", ["-a"], 1, 5),
      ("n1", ["a.*.b"], 1, 5), ("n1", ["1.2.3.4/8"], 1, 5), ("n1", [], 0, 5), ("n1", [], 1, 0),
      ("n1", [], 1, 36_501), ("n1", Array(repeating: "a", count: 65), 1, 5),
    ] as [(String, [String], UInt64, Int)])
  func bounds(_ name: String, _ hosts: [String], _ node: UInt64, _ days: Int) throws {
    let authority = try ClusterAuthority.make(cluster: "prod", at: wall)
    let fault = #expect(throws: Fault.self) {
      try authority.issue(node: NodeID(node), name: name, hosts: hosts, days: days, at: wall)
    }
    #expect(fault?.code == .usage)
  }

  @Test("files that do not belong together are refused") func mixed() throws {
    let a = try ClusterAuthority.make(cluster: "prod", at: wall)
    let b = try ClusterAuthority.make(cluster: "prod", at: wall)
    let node = try a.issue(node: NodeID(1), name: "n1", at: wall)
    for (certificate, key) in [
      (a.own.certificatePem, b.own.keyPem), (node.certificatePem, node.keyPem),
      (a.own.certificatePem, Secret(Array("no key".utf8))), ([], a.own.keyPem),
      (a.own.certificatePem.dropLast(40) + [], a.own.keyPem),
    ] {
      let fault = #expect(throws: Fault.self) {
        _ = try ClusterAuthority(certificatePem: certificate, keyPem: key)
      }
      #expect(fault?.code == .badCertificate)
    }
    #expect("\(a.own.keyPem)" == "<secret>")
  }

  @Test(
    "the age of a certificate",
    arguments: [
      (-3_601, .notYetValid), (-3_599, .valid), (0, .valid), (59 * 86_400, .valid),
      (71 * 86_400, .endsSoon), (100 * 86_400, .endsSoon), (100 * 86_400 + 1, .expired),
    ] as [(Int64, Certificate.Age)])
  func age(_ seconds: Int64, _ age: Certificate.Age) throws {
    let authority = try ClusterAuthority.make(cluster: "prod", at: wall)
    let node = try authority.issue(node: NodeID(1), name: "n1", days: 100, at: wall)
    #expect(node.certificate.age(at: wall + .seconds(seconds)) == age)
    let short = try authority.issue(node: NodeID(1), name: "n1", days: 3, at: wall)
    #expect(short.certificate.age(at: wall + .seconds(86_400)) == .valid, "two of three days left")
  }

  @Test("damaged bytes are refused or read, and never more") func damage() throws {
    let authority = try ClusterAuthority.make(cluster: "prod", at: wall)
    let node = try authority.issue(
      node: NodeID(1), name: "n1", hosts: ["a.example.org", "10.0.0.1"], at: wall)
    let pem = node.certificatePem
    let text = String(decoding: pem, as: UTF8.self).split(separator: "\n").dropFirst().dropLast()
    let der = try #require(Self.base64(text.joined()))
    #expect(try Certificate(der: der) == node.certificate)
    #expect(throws: Fault.self) { try Certificate(der: der + [0]) }
    var generator = SystemRandomNumberGenerator()
    var refused = 0
    for _ in 0..<5_000 {
      var bytes = der
      for _ in 0...Int.random(in: 0...3, using: &generator) {
        bytes[Int.random(in: bytes.indices, using: &generator)] = UInt8.random(in: 0...255)
      }
      if Bool.random() { bytes.removeLast(Int.random(in: 0...bytes.count)) }
      do throws(Fault) {
        let read = try Certificate(der: bytes)
        #expect(read.subject.utf8.allSatisfy { (0x20...0x7e).contains($0) })
      } catch {
        #expect(error.code == .badCertificate)
        refused += 1
      }
    }
    #expect(refused > 1_000)
  }

  private static func base64(_ text: String) -> [UInt8]? {
    var url = text.replacing("+", with: "-").replacing("/", with: "_")
    while url.last == "=" { url.removeLast() }
    return Text.base64urlDecode(url)
  }
}
