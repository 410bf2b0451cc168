internal import Base
internal import Glibc
internal import Settings

/// Offline: copies a backup into an empty data directory. What is half copied stands in a directory of
/// its own and is moved in place at the end, so that a broken restore never looks like a database.
enum BackupRestore: Command {
  static let form = CommandForm(
    "backup restore", "Copy a backup into an empty data directory; then start posthoused on it.",
    options: [CommandOption("--from", value: "DIR", "The backup.")],
    examples: ["posthouse backup restore --from /var/backups/posthouse-1 --data /var/lib/posthouse"]
  )

  static func run(_ call: Call) throws(Fault) {
    guard let source = call.parsed.value("--from"), let target = call.parsed.value("--data") else {
      throw Fault(.usage, "backup restore wants --from DIR and --data DIR")
    }
    guard unsafe access(source + "/db/CURRENT", F_OK) == 0 else {
      throw Fault(.notFound, "\(source) is no backup: it holds no database (db/CURRENT)")
    }
    try prepare(target)
    let copy = DirectoryCopy(skipped: ["LOCK", "admin.sock"]) { bytes in
      call.renderer.progress("\(Shown.size(bytes)) copied")
    }
    let staging = target + "/.restore"
    let bytes: UInt64
    do throws(Fault) {
      bytes = try copy.copy(source, to: staging)
      try moveAll(from: staging, to: target)
    } catch {
      DirectoryCopy.remove(staging)
      throw error
    }
    call.renderer.clearProgress()
    call.renderer.show(
      .record(
        [Field("Restored", target), Field("From", source), Field("Size", Shown.size(bytes))],
        .object([
          JsonMember("data", .string(target)), JsonMember("from", .string(source)),
          JsonMember("bytes", .unsigned(bytes)),
        ]), name: target,
        notes: [Note("Next: posthouse channel verify --data \(target)")]))
  }

  /// Makes the directory or finds it empty.
  private static func prepare(_ target: String) throws(Fault) {
    if unsafe mkdir(target, 0o700) == 0 { return }
    guard errno == EEXIST else { throw DirectoryCopy.fault("cannot make \(target)") }
    var names = try DirectoryCopy.names(target)
    if names == [".restore"] {
      // What an interrupted restore left.
      DirectoryCopy.remove(target + "/.restore")
      names = []
    }
    names.removeAll { $0 == "lost+found" }
    if let first = names.first {
      throw Fault(
        .conflict, "\(target) is not empty (it holds \(first)); a restore never overwrites")
    }
  }

  /// The database goes last: without `db` there is nothing a node would open.
  private static func moveAll(from staging: String, to target: String) throws(Fault) {
    let names = try DirectoryCopy.names(staging)
    for name in names.filter({ $0 != "db" }) + names.filter({ $0 == "db" }) {
      guard unsafe rename(staging + "/" + name, target + "/" + name) == 0 else {
        throw DirectoryCopy.fault("cannot move \(name) into \(target)")
      }
    }
    unsafe rmdir(staging)
    try DirectoryCopy.sync(target)
  }
}
