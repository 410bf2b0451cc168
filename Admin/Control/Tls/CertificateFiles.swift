internal import Base
internal import Crypto
internal import Glibc
internal import Settings

/// Directories and files of certificates, as `posthouse tls` reads and writes them. Everything is written with mode
/// 0600 into directories of mode 0700: keys lie beside what is public.
enum CertificateFiles {
  /// nil when there is no such file. Public files: who may read them does not matter.
  static func read(_ path: String) throws(Fault) -> [UInt8]? {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      if errno == ENOENT { return nil }
      throw DirectoryCopy.fault("cannot open \(path)")
    }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: Limits.certificateFileBytes + 1)
    var done = 0
    while done < bytes.count {
      let n = unsafe bytes.withUnsafeMutableBytes {
        unsafe Glibc.read(descriptor, $0.baseAddress! + done, $0.count - done)
      }
      if n < 0, errno == EINTR { continue }
      guard n >= 0 else { throw DirectoryCopy.fault("cannot read \(path)") }
      if n == 0 { break }
      done += n
    }
    if done > Limits.certificateFileBytes {
      throw Fault(.badCertificate, "\(path) is larger than any file of certificates")
    }
    return Array(bytes[..<done])
  }

  static func exists(_ path: String) -> Bool {
    var facts = stat()
    return unsafe lstat(path, &facts) == 0
  }

  static func makeDirectory(_ path: String) throws(Fault) {
    if unsafe mkdir(path, 0o700) == 0 { return }
    var facts = stat()
    guard errno == EEXIST, unsafe stat(path, &facts) == 0, facts.st_mode & S_IFMT == S_IFDIR else {
      throw DirectoryCopy.fault("cannot make the directory \(path)")
    }
  }

  /// The certificates of a file; throws `not_found` when there is none.
  static func certificates(_ path: String) throws(Fault) -> [Certificate] {
    guard let pem = try read(path) else { throw Fault(.notFound, "there is no file \(path)") }
    do throws(Fault) {
      return try Certificate.read(pem: pem)
    } catch {
      throw Fault(error.code, "\(path): \(error.detail)")
    }
  }

  /// The authority of a directory, and its file as it is: it may hold a second, older one behind it.
  static func authority(_ directory: String) throws(Fault) -> (ClusterAuthority, pem: [UInt8]) {
    guard let pem = try read("\(directory)/\(ClusterFiles.authority)"),
      let key = try PrivateFile.read(
        "\(directory)/\(ClusterFiles.authorityKey)", limit: Limits.certificateFileBytes)
    else {
      throw Fault(
        .notFound,
        "\(directory) holds no cluster authority; make one: posthouse tls init --dir \(directory)")
    }
    do throws(Fault) {
      return (try ClusterAuthority(certificatePem: pem, keyPem: Secret(key)), pem)
    } catch {
      throw Fault(error.code, "\(directory): \(error.detail)")
    }
  }

  static let directoryOption = CommandOption(
    "--dir", value: "DIR", "The authority's directory. Default: \(defaultDirectory).")
  static let daysOption = CommandOption(
    "--days", value: "N",
    "How long it holds. Default: \(Limits.authorityDays) for an authority, \(Limits.certificateDays) "
      + "for a node.")
  static let defaultDirectory = "cluster-ca"

  static func days(_ call: Call, orElse usual: Int) throws(Fault) -> Int {
    guard let days = try call.number("--days") else { return usual }
    return Int(clamping: days)
  }

  /// Everything here is given as an option.
  static func required(_ call: Call, _ option: String, _ placeholder: String) throws(Fault)
    -> String
  {
    guard let text = call.parsed.value(option), !text.isEmpty else {
      throw Fault(
        .usage, "\(call.parsed.command?.name ?? "the command") wants \(option) \(placeholder)")
    }
    return text
  }
}
