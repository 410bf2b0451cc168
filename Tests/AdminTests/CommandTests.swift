import Base
import Codec
import Foundation
import Messages
import Settings
import Testing

@testable import Control

private func object(_ text: String) throws -> [String: Any] {
  try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
}

private func list(_ text: String) throws -> [[String: Any]] {
  try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [[String: Any]])
}

private let acme = AdminTenant(
  tenant: "acme", tenantID: "abc", state: "active", createdUnixNs: 1_763_697_745_123_000_000,
  quota: AdminQuota(messagesPerDay: 5), keys: 1, channels: 2, messagesToday: 3, bytesToday: 4096)

@Suite(.timeLimit(.minutes(1))) struct TenantCommandTests {
  @Test("tenant create -o json has tenant, api_key and key_id as texts")
  func create() throws {
    let shell = Shell { path, bytes throws(Fault) in
      #expect(path == "/posthouse.v1.AdminService/CreateTenant")
      let asked: AdminCreateTenantRequest = try request(bytes)
      #expect(asked == AdminCreateTenantRequest(tenant: "acme"))
      return [
        AdminCreateTenantResponse(tenant: acme, apiKey: "sk_live_x", keyID: "k1").encoded()
      ]
    }
    #expect(shell.run("tenant create acme --admin-socket /s -o json") == .done)
    let made = try object(shell.terminal.output)
    #expect(made["tenant"] as? String == "acme")
    #expect(made["api_key"] as? String == "sk_live_x")
    #expect(made["key_id"] as? String == "k1")
    #expect(shell.terminal.error == "")
    #expect(shell.link.closed)
  }

  @Test(
    "A name that cannot be is refused before the node is asked", arguments: ["A", "a_b", "a/b", ""])
  func badName(_ name: String) {
    let shell = Shell()
    #expect(shell.run(["tenant", "create", name]) == .usage)
    #expect(shell.link.asked.isEmpty)
  }

  @Test("tenant ls asks page by page")
  func pages() throws {
    let shell = Shell { _, bytes throws(Fault) in
      let asked: AdminListTenantsRequest = try request(bytes)
      let name = asked.after.isEmpty ? "a" : "b"
      return [
        AdminListTenantsResponse(
          tenants: [AdminTenant(tenant: name)], next: asked.after.isEmpty ? "a" : ""
        ).encoded()
      ]
    }
    #expect(shell.run("tenant ls -o name") == .done)
    #expect(shell.terminal.output == "a\nb\n")
    #expect(shell.link.asked.count == 2)
    let one = Shell { _, _ throws(Fault) in
      [AdminListTenantsResponse(tenants: [AdminTenant(tenant: "a")], next: "a").encoded()]
    }
    #expect(one.run("tenant ls --limit 1") == .done)
    #expect(one.link.asked.count == 1)
    #expect(one.terminal.error == "There are more: --after a\n")
  }

  @Test("tenant quota changes what is given and keeps the rest")
  func quota() throws {
    let shell = Shell { path, bytes throws(Fault) in
      if path.hasSuffix("GetTenant") { return [acme.encoded()] }
      let asked: AdminSetQuotaRequest = try request(bytes)
      #expect(asked.quota == AdminQuota(messagesPerDay: 5, bytesPerDay: 1 << 30))
      var changed = acme
      changed.quota = asked.quota
      return [changed.encoded()]
    }
    #expect(shell.run("tenant quota acme --bytes 1GiB") == .done)
    #expect(shell.terminal.output.contains("messages 5, bytes 1.0 GiB, tokens no limit"))
    let look = Shell { _, _ throws(Fault) in [acme.encoded()] }
    look.run("tenant quota acme")
    #expect(look.link.asked.map(\.path) == ["/posthouse.v1.AdminService/GetTenant"])
  }

  @Test(
    "What destroys is asked for again",
    arguments: ["tenant delete acme", "key revoke acme", "channel delete acme"])
  func confirmation(_ line: String) {
    let script = Shell()
    #expect(script.run(line) == .refused)
    #expect(script.terminal.error.contains("(not_confirmed)"))
    #expect(script.link.asked.isEmpty)

    var person = Shell { _, _ in [[]] }
    person.terminal = RecordedTerminal(terminal: true, input: ["no"])
    #expect(person.run(line) == .refused)
    #expect(person.link.asked.isEmpty)

    person.terminal = RecordedTerminal(terminal: true, input: ["acme"])
    #expect(person.run(line) == .done)
    #expect(person.link.asked.count == 1)

    let sure = Shell { _, _ in [[]] }
    #expect(sure.run(line + " --yes") == .done)
    #expect(sure.link.asked.count == 1)
  }

  @Test("key create shows the key once, key ls never")
  func keys() throws {
    let key = AdminKey(keyID: "k1", tenant: "acme", label: "ci", scopes: ["channels"])
    let made = Shell { _, bytes throws(Fault) in
      let asked: AdminCreateKeyRequest = try request(bytes)
      #expect(asked.ttlSeconds == 86_400 && asked.scopes == ["channels"] && asked.label == "ci")
      return [AdminCreateKeyResponse(key: key, apiKey: "sk_live_x").encoded()]
    }
    made.run("key create acme --label ci --scope channels --ttl 1d -o json")
    #expect(try object(made.terminal.output)["api_key"] as? String == "sk_live_x")
    let listed = Shell { _, _ throws(Fault) in [AdminListKeysResponse(keys: [key]).encoded()] }
    listed.run("key ls acme -o json")
    let first = try #require(try list(listed.terminal.output).first)
    #expect(first["key_id"] as? String == "k1" && first["api_key"] == nil)
  }
}

@Suite(.timeLimit(.minutes(1))) struct ChannelCommandTests {
  private func node(last: UInt64) -> Shell {
    Shell { path, bytes throws(Fault) in
      guard path.hasSuffix("Read") else {
        return [AdminChannel(name: "a/b/c", firstSequence: 1, lastSequence: last).encoded()]
      }
      let asked: ReadRequest = try request(bytes)
      let end = asked.limit == 0 ? last + 3 : asked.fromSequence + asked.limit - 1
      var out: [[UInt8]] = []
      for sequence in max(1, asked.fromSequence)...end {
        out.append(
          ReadResponse(
            sequence: sequence, payload: Array("secret".utf8), messageType: sequence == 1 ? 11 : 1,
            mlsEpoch: 2, generation: 1, producerID: 255, producerSequence: sequence,
            timeUnixNs: 1_763_697_745_123_000_000, mlsKind: sequence == 1 ? .commit : .application
          ).encoded())
      }
      return out
    }
  }

  @Test(
    "channel tail begins and ends where it should",
    arguments: [
      ("", 30, Array(21...30)), ("-n 3", 30, [28, 29, 30]), ("-n 50", 4, [1, 2, 3, 4]),
      ("--from 29", 30, [29, 30]), ("--from 5 -n 2", 30, [5, 6]), ("--from 31", 30, []),
      ("-n 0", 30, []), ("-f -n 2", 30, [29, 30, 31, 32, 33]),
      ("-f --from 30 -n 3", 30, [30, 31, 32]),
      ("", 0, []),
    ] as [(String, UInt64, [Int])])
  func tail(_ options: String, _ last: UInt64, _ expected: [Int]) throws {
    let shell = node(last: last)
    #expect(shell.run("channel tail a/b/c -o jsonl " + options) == .done)
    let sequences = try shell.terminal.output.split(separator: "\n").map {
      try object(String($0))["sequence"] as? Int
    }
    #expect(sequences == expected)
  }

  @Test("channel tail names types and kinds, and shows no payload unless asked")
  func payload() throws {
    let shell = node(last: 1)
    shell.run("channel tail a/b/c")
    let lines = shell.terminal.output.split(separator: "\n").map(String.init)
    #expect(lines.count == 2)
    #expect(
      lines.first?.split(separator: " ").joined(separator: " ")
        == "SEQUENCE TIME TYPE MLS EPOCH GENERATION SIZE PRODUCER")
    #expect(
      lines.last?.split(separator: " ").joined(separator: " ")
        == "1 2025-11-21T04:02:25.123Z GROUP_ADD commit 2 1 6 00000000000000ff")
    #expect(!shell.terminal.output.contains("736563726574"))
    let hex = node(last: 1)
    hex.run("channel tail a/b/c --hex")
    #expect(hex.terminal.output.contains("736563726574"))
  }

  @Test("A channel without a message can be followed, not shown")
  func notYet() {
    func node() -> Shell {
      Shell { path, _ throws(Fault) in
        if path.hasSuffix("Read") { return [ReadResponse(sequence: 1).encoded()] }
        if path.hasSuffix("ListChannels") { return [AdminListChannelsResponse().encoded()] }
        throw Fault(.notFound, "no channel a/b/c")
      }
    }
    #expect(node().run("channel tail a/b/c") == .notFound)
    let follower = node()
    #expect(follower.run("channel tail a/b/c -f -o name") == .done)
    #expect(follower.terminal.output == "1\n")
  }

  @Test("A plain name finds the SLIM groups under it: one is shown, several are listed")
  func families() {
    func node(_ names: [String]) -> Shell {
      Shell { path, bytes throws(Fault) in
        if path.hasSuffix("Read") {
          let asked: ReadRequest = try request(bytes)
          #expect(asked.channel == names[0])
          return [ReadResponse(sequence: 1).encoded()]
        }
        if path.hasSuffix("GetChannel") { throw Fault(.notFound, "no channel a/b/c") }
        let asked: AdminListChannelsRequest = try request(bytes)
        #expect(asked.prefix == "a/b/c")
        let found = names.map { AdminChannel(name: $0, firstSequence: 1, lastSequence: 1) }
        return [AdminListChannelsResponse(channels: found).encoded()]
      }
    }
    let one = node(["slim-b:1/2/3/4", "a/b/cd"])
    #expect(one.run("channel tail a/b/c -o name") == .done)
    #expect(one.terminal.output == "1\n")
    let several = node(["slim-b:1/2/3/4", "slim-b:1/2/3/5"])
    #expect(several.run("channel tail a/b/c -o name") == .usage)
    #expect(several.terminal.output == "slim-b:1/2/3/4\nslim-b:1/2/3/5\n")
    #expect(several.terminal.error.contains("2 channels are meant by a/b/c"))
  }

  @Test("channel verify names file, channel and sequence, and ends with 1 when anything is wrong")
  func verify() throws {
    let finding = AdminVerifyFinding(
      channel: "a/b/c", sequence: 7, file: "000012.sst", problem: "checksum")
    let answers: FakeLink.Answer = { _, _ throws(Fault) in
      [
        AdminVerifyProgress(channels: 1, findings: [finding]).encoded(),
        AdminVerifyProgress(channels: 2, records: 3, messages: 9, done: true).encoded(),
      ]
    }
    let bad = Shell(answers)
    #expect(bad.run("channel verify") == .failed)
    #expect(bad.terminal.output.contains("000012.sst: channel a/b/c, sequence 7: checksum"))
    let json = Shell(answers)
    #expect(json.run("channel verify -o json") == .failed)
    let shown = try object(json.terminal.output)
    #expect(shown["ok"] as? Bool == false && shown["messages"] as? Int == 9)
    #expect((shown["findings"] as? [[String: Any]])?.first?["sequence"] as? Int == 7)

    let good = Shell { _, _ throws(Fault) in
      [AdminVerifyProgress(messages: 9, done: true).encoded()]
    }
    #expect(good.run("channel verify") == .done)
    let cut = Shell { _, _ throws(Fault) in [AdminVerifyProgress(messages: 9).encoded()] }
    #expect(cut.run("channel verify") == .unreachable)
  }
}

@Suite(.timeLimit(.minutes(1))) struct NodeCommandTests {
  @Test(
    "status ends with a verdict and what to type next",
    arguments: [
      (AdminNodeStatus(ready: true, auth: "required"), true, "posthouse tenant create NAME"),
      (AdminNodeStatus(tenants: 1, ready: true, auth: "required"), true, "posthouse channel ls"),
      (
        AdminNodeStatus(tenants: 1, ready: true, auth: "open"), true,
        "posthouse config show --origin"
      ),
      (
        AdminNodeStatus(notReadyReasons: ["disk_full"], dataDirectory: "/d", auth: "required"),
        false,
        "df -h /d"
      ),
      (AdminNodeStatus(notReadyReasons: ["starting"]), false, "journalctl -u posthoused -n 50"),
      (AdminNodeStatus(ready: true, draining: true), false, "systemctl status posthoused"),
    ])
  func status(_ status: AdminNodeStatus, _ good: Bool, _ next: String) throws {
    let shell = Shell { _, _ in [status.encoded()] }
    #expect(shell.run("status") == (good ? .done : .failed))
    #expect(shell.terminal.output.hasSuffix("\nNext: \(next)\n"), "\(shell.terminal.output)")
    let json = Shell { _, _ in [status.encoded()] }
    json.run("status -o json")
    #expect(try object(json.terminal.output)["next"] as? String == next)
  }

  @Test("status of a directory without a node says that it is stopped")
  func stopped() {
    let shell = Shell { _, _ in [AdminNodeStatus(ready: true, dataDirectory: "/d").encoded()] }
    shell.link.isOffline = true
    #expect(shell.run("status --data /d") == .unreachable)
    #expect(shell.terminal.output.contains("\nStopped: "))
    #expect(shell.terminal.output.hasSuffix("\nNext: posthoused --data /d\n"))
  }

  @Test("errors lookup knows every code and suggests near ones")
  func errors() throws {
    for code in FaultCode.allCases {
      let shell = Shell()
      #expect(shell.run("errors lookup \(code.rawValue) -o json") == .done)
      #expect(try object(shell.terminal.output)["advice"] as? String == code.advice)
    }
    let typo = Shell()
    #expect(typo.run("errors lookup diskfull") == .notFound)
    #expect(typo.terminal.error.contains("did you mean disk_full?"))
    let all = Shell()
    all.run("errors ls -o name")
    #expect(all.terminal.output.split(separator: "\n").count == FaultCode.allCases.count)
  }

  @Test(
    "node drain passes the grace on in milliseconds, and a bare number means seconds",
    arguments: [("", 0), (" --grace 5", 5000), (" --grace 250ms", 250), (" --grace 1m", 60_000)])
  func drain(_ option: String, _ milliseconds: UInt32) throws {
    let shell = Shell { path, bytes throws(Fault) in
      #expect(path == "/posthouse.v1.AdminService/DrainNode")
      let asked: AdminDrainNodeRequest = try request(bytes)
      #expect(asked.graceMs == milliseconds)
      return [AdminDrainNodeResponse(pid: 42, graceMs: 8000).encoded()]
    }
    #expect(shell.run("node drain\(option) -o json") == .done)
    let begun = try object(shell.terminal.output)
    #expect(begun["pid"] as? Int == 42)
    #expect(begun["grace_ms"] as? Int == 8000)
  }

  @Test(
    "gossip status fails when records of no further relay are taken",
    arguments: [(1, .failed), (0, .done)] as [(UInt64, ExitCode)])
  func fullRegistry(_ last: UInt64, _ exit: ExitCode) {
    let shell = Shell { _, _ throws(Fault) in
      var out = AdminGossip(relayID: "r0")
      out.origins = (0..<Limits.registryOrigins).map {
        AdminGossipOrigin(relayID: "r\($0)", live: $0 + 1 == Limits.registryOrigins ? last : 1)
      }
      out.origins[0].live = 0
      return [out.encoded()]
    }
    #expect(shell.run("gossip status") == exit)
    #expect(shell.terminal.output.contains("as many as possible") == (exit == .failed))
  }

  @Test(
    "check says what is wrong with a cluster, and ends with 1 for it",
    arguments: [
      ("alive", "alive", 0, false, .done, ""),
      ("dead", "alive", 0, false, .failed, "members metadata slots"),
      ("alive", "dead", 0, false, .failed, "members slots"),
      ("alive", "left", 0, false, .failed, "members slots"),
      ("alive", "suspect", 0, false, .failed, "members"),
      ("alive", "unknown", 0, false, .failed, "members slots"),
      ("self", "alive", 0, false, .done, ""),
      ("alive", "alive", 7, true, .done, "slots ring"),
    ] as [(String, String, UInt32, Bool, ExitCode, String)])
  func check(
    _ host: String, _ other: String, _ moving: UInt32, _ staged: Bool, _ exit: ExitCode,
    _ named: String
  ) throws {
    func node(_ name: String, _ member: String) -> AdminClusterNode {
      var out = AdminClusterNode()
      (out.name, out.nodeID, out.member, out.owned, out.version) = (name, name, member, 10, "1")
      out.hostsMetadata = name == "n1"
      return out
    }
    let shell = Shell { path, _ throws(Fault) in
      if path.hasSuffix("GetStatus") {
        return [
          AdminNodeStatus(diskFreeBytes: 1 << 40, ready: true, auth: "required").encoded()
        ]
      }
      if path.hasSuffix("ListTenants") {
        return [AdminListTenantsResponse(tenants: [AdminTenant(tenant: "a")]).encoded()]
      }
      if path.hasSuffix("ListNodes") {
        var out = AdminListNodesResponse()
        out.nodes = [node("n1", host), node("n2", other)]
        return [out.encoded()]
      }
      var ring = AdminRing()
      (ring.slots, ring.moving, ring.staged) = (20, moving, staged)
      return [ring.encoded()]
    }
    #expect(shell.run("check -o json") == exit)
    let wrong = try list(shell.terminal.output).filter { $0["result"] as? String != "ok" }
    #expect(wrong.compactMap { $0["check"] as? String }.joined(separator: " ") == named)
    #expect(wrong.allSatisfy { $0["do"] as? String != "" })
  }

  @Test(
    "A context is a node by name: kept in a private file, found by --context or as the current one")
  func contexts() throws {
    let home = FileManager.default.temporaryDirectory.path + "/posthouse-\(UUID().uuidString)"
    defer { try? FileManager.default.removeItem(atPath: home) }
    let environment = ["HOME": home]
    func run(_ line: String) -> ExitCode {
      var shell = Shell()
      shell.environment = environment
      return shell.run(line)
    }
    func target(_ line: String, _ more: [String: String] = [:]) throws -> NodeTarget? {
      guard
        case .run(let parsed) = try ControlProgram.syntax.parse(
          line.split(separator: " ").map(String.init))
      else { return nil }
      return try NodeTarget.find(parsed, environment.merging(more) { $1 })
    }
    #expect(run("context add here --admin-socket /run/a.sock") == .done)
    #expect(
      run("context add eu --address eu.example.org:5443 --tls --token-file \(home)/t") == .done)
    for bad in [
      "context add Eu --data /d", "context add x", "context add x --data d", "context use no",
    ] {
      #expect(run(bad) != .done, "\(bad)")
    }
    #expect(try target("status") == .socket("/run/a.sock"))
    #expect(try target("status --data /d") == .data("/d", isExplicit: true))
    #expect(try target("status", ["POSTHOUSE_DATA": "/e"]) == .data("/e", isExplicit: true))
    #expect(throws: Fault.self) { try target("status --context eu") }
    _ = FileManager.default.createFile(
      atPath: home + "/t", contents: Data("pha_x\n".utf8), attributes: [.posixPermissions: 0o600])
    let eu = NodeTarget.remote(
      RemoteNode(
        address: try #require(HostPort("eu.example.org:5443")), token: "pha_x", isTls: true))
    #expect(try target("status --context eu") == eu)
    #expect(try target("status", ["POSTHOUSE_CONTEXT": "eu"]) == eu)
    #expect(run("context use eu") == .done)
    #expect(try target("status") == eu)
    #expect(run("context rm eu") == .done)
    let kept = try ContextFile.load(environment)
    #expect(kept.current == "" && kept.entries == ["here": .init(socket: "/run/a.sock")])
    let mode =
      try FileManager.default.attributesOfItem(
        atPath: home + "/.config/posthouse/contexts.toml")[.posixPermissions] as? Int
    #expect(mode == 0o600)
    #expect(ContextFile.quoted("a\"\\\n") == "\"a\\\"\\\\\\u000a\"")
  }

  @Test("Hints name the node as the command line did")
  func hints() {
    let shell = Shell { path, _ throws(Fault) in
      if path.hasSuffix("CreateTenant") { throw Fault(.conflict, "acme is there") }
      return [AdminDrainNodeResponse(pid: 42, graceMs: 8000).encoded()]
    }
    #expect(shell.run("node drain --data /d") == .done)
    #expect(shell.terminal.output.hasSuffix("\nNext: posthouse status --data /d\n"))
    #expect(shell.run("tenant create acme --admin-socket /s") == .conflict)
    #expect(shell.terminal.error.contains("posthouse key create acme --admin-socket /s"))
  }

  @Test("node drain wants a running node and a real duration")
  func drainRefused() {
    for grace in ["x", "0", "-1s", "0s"] {
      let shell = Shell()
      #expect(shell.run(["node", "drain", "--grace", grace]) == .usage)
      #expect(shell.link.asked.isEmpty)
    }
    let stopped = Shell()
    stopped.link.isOffline = true
    #expect(stopped.run("node drain") == .unreachable)
    #expect(stopped.link.asked.isEmpty)
  }

  @Test("config show --origin says where each value comes from, and what posthoused would refuse")
  func config() throws {
    var shell = Shell()
    shell.environment = ["POSTHOUSE_GRPC": "0.0.0.0:1", "HOME": "/h", "POSTHOUSE_LOOPZ": "1"]
    #expect(
      shell.run("config show --origin --http 127.0.0.1:2 --set log.level=debug -o json") == .usage)
    let rows = try list(shell.terminal.output)
    func origin(_ key: String) -> String? {
      rows.first { $0["key"] as? String == key }?["origin"] as? String
    }
    #expect(origin("grpc") == "POSTHOUSE_GRPC")
    #expect(origin("http") == "--http")
    #expect(origin("log.level") == "--set")
    #expect(origin("auth") == "default")
    #expect(shell.terminal.error.contains("posthoused would refuse this: grpc = 0.0.0.0:1"))
    #expect(shell.terminal.error.contains("warning: POSTHOUSE_LOOPZ names no setting"))
  }

  @Test("version and completion need no node")
  func offline() throws {
    let version = Shell()
    #expect(version.run("--version") == .done && version.run("version -o json") == .done)
    let script = Shell()
    #expect(script.run("completion bash") == .done)
    #expect(script.terminal.output.contains("tenant) words=\"create ls show"))
    #expect(version.link.asked.isEmpty && script.link.asked.isEmpty)
  }
}

@Suite(.timeLimit(.minutes(1))) struct BackupCommandTests {
  private func withDirectory(_ body: (String) throws -> Void) throws {
    let path = "/tmp/posthouse-backup-\(UInt64.random(in: 0 ... .max))"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: path) }
    try body(path)
  }

  private func makeBackup(_ path: String) throws {
    try FileManager.default.createDirectory(
      atPath: path + "/db", withIntermediateDirectories: true)
    for (name, text) in [
      ("db/CURRENT", "MANIFEST-1\n"), ("db/1.sst", "data"), ("signing-keys.json", "{}"),
      ("LOCK", "1"),
    ] {
      try Data(text.utf8).write(to: URL(fileURLWithPath: path + "/" + name))
    }
  }

  @Test("backup restore copies all but the lock into a new or empty directory")
  func restore() throws {
    try withDirectory { base in
      try makeBackup(base + "/from")
      let shell = Shell()
      #expect(shell.run("backup restore --from \(base)/from --data \(base)/to") == .done)
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: base + "/to").sorted() == [
          "db", "signing-keys.json",
        ])
      #expect(
        try Data(contentsOf: URL(fileURLWithPath: base + "/to/db/1.sst")) == Data("data".utf8))
      #expect(shell.link.asked.isEmpty)
      let again = Shell()
      #expect(again.run("backup restore --from \(base)/from --data \(base)/to") == .conflict)
      #expect(again.terminal.error.contains("is not empty"))
    }
  }

  @Test("A restore that was interrupted can be done again; what is no backup is refused")
  func interrupted() throws {
    try withDirectory { base in
      try makeBackup(base + "/from")
      try makeBackup(base + "/to/.restore")
      #expect(Shell().run("backup restore --from \(base)/from --data \(base)/to") == .done)
      #expect(Shell().run("backup restore --from \(base)/nothing --data \(base)/new") == .notFound)
      #expect(!FileManager.default.fileExists(atPath: base + "/new"))
    }
  }

  @Test("A link inside a backup is not followed, and nothing is left behind")
  func links() throws {
    try withDirectory { base in
      try makeBackup(base + "/from")
      try FileManager.default.createSymbolicLink(
        atPath: base + "/from/db/evil", withDestinationPath: "/etc/passwd")
      #expect(Shell().run("backup restore --from \(base)/from --data \(base)/to") == .conflict)
      #expect(try FileManager.default.contentsOfDirectory(atPath: base + "/to").isEmpty)
    }
  }

  @Test("backup create asks for an absolute directory")
  func create() throws {
    let shell = Shell { _, bytes throws(Fault) in
      let asked: AdminCreateBackupRequest = try request(bytes)
      #expect(asked.directory == FileManager.default.currentDirectoryPath + "/b1")
      return [AdminBackupProgress(bytes: 5, done: true, directory: asked.directory).encoded()]
    }
    #expect(shell.run("backup create b1") == .done)
    let cut = Shell { _, _ in [] }
    #expect(cut.run("backup create /b1") == .unreachable)
  }
}
