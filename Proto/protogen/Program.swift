import Base
import Codec
import Glibc

/// A plugin of protoc: a CodeGeneratorRequest on standard input, Swift on standard output.
@main struct Program {
  static func main() {
    var response = PluginResponse()
    do throws(GenerationError) {
      response.files = try generate(readAll())
    } catch {
      response = PluginResponse(error: error.text)
    }
    writeAll(response.encoded())
  }

  static func generate(_ input: [UInt8]) throws(GenerationError) -> [(
    name: String, content: String
  )] {
    let request: PluginRequest
    do throws(WireError) {
      request = try PluginRequest(decoding: input)
    } catch {
      throw GenerationError(text: "the request of protoc cannot be read: \(error)")
    }
    let names = try NameTable(request.files)
    let wanted = request.files.filter { request.wanted.contains($0.name) }
    var files: [(name: String, content: String)] = []
    for file in wanted {
      guard let rule = namingRules[file.name] else { continue }
      files.append((rule.output, try Emitter(file: file, names: names).emit()))
    }
    files.append(("DescriptorSet.swift", try descriptorSet(wanted, names)))
    return files
  }

  static func readAll() -> [UInt8] {
    var all: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let n = part.withUnsafeMutableBytes { read(0, $0.baseAddress, $0.count) }
      if n <= 0 { return all }
      all += part[0..<n]
    }
  }

  static func writeAll(_ bytes: [UInt8]) {
    var at = 0
    while at < bytes.count {
      let n = bytes.withUnsafeBytes { write(1, $0.baseAddress.map { $0 + at }, bytes.count - at) }
      if n <= 0 { exit(1) }
      at += n
    }
  }
}

/// The schema files as reflection serves them. The bytes stand as text, which compiles faster than
/// a literal of numbers and is decoded when first asked for.
func descriptorSet(_ files: [FileNode], _ names: NameTable) throws(GenerationError) -> String {
  var out = Source()
  var messages: [String] = []
  for f in files { messages += try swiftNames(f, names) }
  messages.sort()
  out.block("public enum DescriptorSet") { out in
    out.doc("Every schema file, in the order of its name.")
    out.line("public static let files: [FileDescriptor] = [")
    for f in files.sorted(by: { $0.name < $1.name }) {
      let package = f.package.isEmpty ? "" : f.package + "."
      out.line("  FileDescriptor(")
      out.line("    name: \"\(f.name)\",")
      out.line("    package: \"\(f.package)\",")
      list("services", f.services.map { package + $0.name }, &out)
      list("symbols", symbols(f, package), &out)
      list("dependencies", f.dependencies, &out)
      out.line("    bytes: decoded(")
      out.line("      \"\"\"")
      let text = Text.base64url(f.bytes)
      var rest = text[...]
      while !rest.isEmpty {
        out.line("      \(rest.prefix(90))" + (rest.count > 90 ? "\\" : ""))
        rest = rest.dropFirst(90)
      }
      out.line("      \"\"\")),")
    }
    out.line("]")
    out.line()
    out.doc("Every message type, in the order of its Swift name.")
    out.line("public static let messages: [any ProtoMessage.Type] = [")
    for m in messages { out.line("  \(m).self,") }
    out.line("]")
    out.line()
    out.block("private static func decoded(_ text: String) -> [UInt8]") { out in
      out.block("guard let bytes = Text.base64urlDecode(text) else") { out in
        out.line("preconditionFailure(\"a generated descriptor is not base64url\")")
      }
      out.line("return bytes")
    }
  }
  return Emitter.header("Proto/schema")
    + "import Base\npublic import Codec\n\n"
    + "/// The schema as server reflection serves it.\n" + out.text
}

private func list(_ label: String, _ values: [String], _ out: inout Source) {
  if values.isEmpty {
    out.line("    \(label): [],")
    return
  }
  out.line("    \(label): [")
  for v in values { out.line("      \"\(v)\",") }
  out.line("    ],")
}

private func symbols(_ file: FileNode, _ package: String) -> [String] {
  var all: [String] = []
  func add(_ m: MessageNode, _ scope: String) {
    all.append(scope + m.name)
    for n in m.messages { add(n, scope + m.name + ".") }
    for e in m.enums { all.append(scope + m.name + "." + e.name) }
  }
  for m in file.messages { add(m, package) }
  for e in file.enums { all.append(package + e.name) }
  for s in file.services {
    all.append(package + s.name)
    for m in s.methods { all.append(package + s.name + "." + m.name) }
  }
  return all
}

private func swiftNames(_ file: FileNode, _ names: NameTable) throws(GenerationError) -> [String] {
  var all: [String] = []
  func add(_ m: MessageNode, _ scope: String) throws(GenerationError) {
    if m.options.mapEntry { return }
    all.append(try names.name(scope + m.name))
    for n in m.messages { try add(n, scope + m.name + ".") }
  }
  for m in file.messages { try add(m, file.package.isEmpty ? "." : "." + file.package + ".") }
  return all
}
