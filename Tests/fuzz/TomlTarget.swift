import Base
import Settings

/// Configuration files: the reader, and the settings over it.
struct TomlTarget: FuzzTarget {
  static let name = "toml"
  static let wantedShare = 50_000
  private let schema = SettingSchema.node(data: "/data", nodeName: "n1")
  let corpus: [[UInt8]] = [
    "", "a = 1\n", "grpc = \"127.0.0.1:5000\"\nhttp = '127.0.0.1:8080'\n",
    "[archive]\nmax_age = \"1h30m\"\nx = true # why\n\n[a.b.\"c d\"]\nn = -7\nf = 1.5e3\n",
    "list = [1, 2, [3, \"x\"], {y = 1}]\nd = 1979-05-27T07:32:00Z\nt = 07:32:00\n",
    "text = \"\"\"\nseveral \\\n  lines \\u00e9 \\U0001F642\"\"\"\nraw = '''a'b'''\n",
    "[[servers]]\nname = \"a\"\n[[servers]]\nname = \"b\"\n[servers.x]\nh = 0xdead_beef\no = 0o17\nb = 0b11\n",
    "i = inf\nn = nan\nkey-1_x = false\n\"quoted key\" = 0\na.b.c = 1\na.b.d = 2\n",
    "m = 9223372036854775807\nk = -9223372036854775808\n",
  ].map { Array($0.utf8) }
  let words: [[UInt8]] = [
    "[", "]", "[[", "]]", "{", "}", "=", "\n", "\r\n", "\"", "'", "\"\"\"", "'''", "\\", "\\u0000",
    "\\uD800",
    "\\U00110000", "#", ".", ",", "1e999", "0x", "9223372036854775808", "_", "inf", "-nan",
    "1979-13-99", "true",
    "\u{0}", "\u{feff}", "a = [", "a = {b = ", "a.", "[a.",
  ].map { Array($0.utf8) }

  init() {}

  mutating func run(
    _ input: UnsafeRawBufferPointer, origin: Int, _ random: inout FuzzRandom
  ) throws(Finding) -> Bool {
    let bytes = Array(input)
    let document: TomlDocument
    do throws(Fault) {
      document = try TomlDocument(bytes, name: "f")
    } catch {
      // Anything else would be a list that we wrote and could not read.
      try check(error.code == .badSetting, "\(error.code): \(error)")
      return false
    }
    let lines = bytes.count { $0 == 0x0a } + 1
    for item in document.items {
      try check((0...lines).contains(item.line), "line \(item.line) of \(lines)")
      try check(!item.key.isEmpty, "an item without a key")
    }
    if document.items.count > 0, random.oneIn(8) {
      var settings = Settings(schema: schema)
      _ = try? settings.apply(toml: bytes, path: "f")
    }
    return true
  }
}
