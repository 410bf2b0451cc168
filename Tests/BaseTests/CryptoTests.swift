import Base
import Crypto
import Glibc
import Testing

@Suite(.timeLimit(.minutes(1))) struct CryptoTests {
  /// A directory that goes when the test does.
  private func withDirectory(_ body: (String) throws -> Void) throws {
    var template = Array("/tmp/posthouse-crypto-XXXXXX".utf8CString)
    let path = try #require(mkdtemp(&template).map { String(cString: $0) })
    defer {
      for name in ["k.json", "k.json.new"] { unlink(path + "/" + name) }
      rmdir(path)
    }
    try body(path)
  }

  @Test("Random bytes have the length asked for and do not repeat")
  func random() {
    #expect(Random.bytes(0).isEmpty)
    #expect(Random.bytes(32).count == 32)
    #expect(Set((0..<1_000).map { _ in Random.uint64() }).count == 1_000)
  }

  @Test("A secret shows itself in no description, mirror or interpolation")
  func secret() {
    let secret = Secret(Array("hunter2-hunter2".utf8))
    struct Holder { var name = "holder"; var secret: Secret }
    var dumped = ""
    dump(Holder(secret: secret), to: &dumped)
    for text in [
      "\(secret)", String(reflecting: secret), String(describing: Holder(secret: secret)), dumped,
    ] {
      #expect(!text.contains("hunter2"), "\(text)")
      #expect(text.contains("<secret>"))
    }
    #expect(secret.equals(Array("hunter2-hunter2".utf8)))
    #expect(!secret.equals(Array("hunter2-hunter3".utf8)))
    #expect(secret.withUnsafeBytes { $0.count } == 15)
  }

  @Test("Signing keys are made once, private, and come back the same")
  func keys() throws {
    try withDirectory { directory in
      let path = directory + "/k.json"
      #expect(try SigningKeys.load(path: path) == nil)
      let now = Instant(nanoseconds: 1_700_000_000_000_000_000)
      let made = try SigningKeys.loadOrCreate(path: path, now: now)
      let again = try SigningKeys.loadOrCreate(path: path, now: now + .seconds(9))
      #expect(again.current.kid == made.current.kid)
      #expect(again.current.created == now)
      let bytes = made.current.secret.withUnsafeBytes { [UInt8]($0) }
      #expect(bytes.count == 32)
      #expect(again.current.secret.equals(bytes))
      #expect(again.previous == nil)
      var facts = stat()
      #expect(stat(path, &facts) == 0 && facts.st_mode & 0o777 == 0o600)
    }
  }

  @Test("After a rotation the old key still verifies, after two it does not")
  func rotation() throws {
    try withDirectory { directory in
      let path = directory + "/k.json"
      var keys = try SigningKeys.loadOrCreate(path: path, now: .zero)
      let first = keys.current.kid
      try keys.rotate(path: path, now: Instant.zero + .seconds(1))
      let loaded = try #require(try SigningKeys.load(path: path))
      #expect(loaded.current.kid == keys.current.kid && loaded.current.kid != first)
      #expect(loaded.key(first) != nil)
      try keys.rotate(path: path, now: Instant.zero + .seconds(2))
      #expect(keys.key(first) == nil)
      #expect(try #require(try SigningKeys.load(path: path)).key(first) == nil)
    }
  }

  @Test("A cluster's keys: known to all before they sign, over the wire and on disk as they are")
  func clusterKeys() throws {
    try withDirectory { directory in
      let path = directory + "/k.json"
      let alone = try SigningKeys.loadOrCreate(path: path, now: .zero)
      #expect(alone.edition == 0 && SigningKeys(decoding: alone.encoded) == nil)
      let founded = alone.founding()
      #expect(founded.edition == 1 && founded.founding().edition == 1)
      #expect(founded.activating().edition == 1, "nothing to activate")
      let announced = founded.announcing(.make(now: .zero))
      let next = try #require(announced.next)
      #expect(announced.current.kid == alone.current.kid && announced.edition == 2)
      #expect(announced.key(next.kid) != nil)
      #expect(announced.announcing(.make(now: .zero)).next?.kid == next.kid, "one at a time")
      let signing = announced.activating()
      #expect(signing.current.kid == next.kid && signing.next == nil && signing.edition == 3)
      #expect(signing.key(alone.current.kid) != nil)
      for keys in [founded, announced, signing] {
        try keys.save(path: path)
        let loaded = try #require(try SigningKeys.load(path: path))
        let sent = try #require(SigningKeys(decoding: keys.encoded))
        for copy in [loaded, sent] {
          #expect(copy.edition == keys.edition && copy.current.kid == keys.current.kid)
          #expect(copy.previous?.kid == keys.previous?.kid && copy.next?.kid == keys.next?.kid)
          let secret = copy.current.secret.withUnsafeBytes { [UInt8]($0) }
          #expect(keys.current.secret.equals(secret))
        }
      }
      for bad in ["", "{}", #"{"version":2}"#] {
        #expect(SigningKeys(decoding: Array(bad.utf8)) == nil)
      }
    }
  }

  @Test("A signing-key file that others can read, or that is malformed, is refused by name")
  func refused() throws {
    try withDirectory { directory in
      let path = directory + "/k.json"
      _ = try SigningKeys.loadOrCreate(path: path, now: .zero)
      chmod(path, 0o644)
      let open = #expect(throws: Fault.self) { try SigningKeys.load(path: path) }
      #expect(open?.detail.contains(path) == true)
      for text in ["", "{}", #"{"version":2}"#] {
        try PrivateFile.write(path, Array(text.utf8))
        let fault = #expect(throws: Fault.self) { try SigningKeys.load(path: path) }
        #expect(fault?.code == .damaged)
        #expect(fault?.detail.contains(path) == true)
      }
    }
  }
}
