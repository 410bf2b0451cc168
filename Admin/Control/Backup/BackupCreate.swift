internal import Base
internal import Glibc
internal import Messages
internal import Settings

enum BackupCreate: Command {
  static let form = CommandForm(
    "backup create",
    "Copy the database into a new directory of the node's machine, while it serves.",
    arguments: [CommandArgument("DIR")],
    examples: ["posthouse backup create /var/backups/posthouse-1"])

  static func run(_ call: Call) throws(Fault) {
    let directory = try absolute(call.word(0))
    var last = AdminBackupProgress()
    try call.link().stream(
      AdminService.createBackup, AdminCreateBackupRequest(directory: directory),
      of: AdminBackupProgress.self
    ) { progress throws(Fault) in
      last = progress
      if !progress.done { call.renderer.progress("\(Shown.size(progress.bytes)) copied") }
      return true
    }
    call.renderer.clearProgress()
    guard last.done else { throw Fault(.unavailable, "the node ended the backup before its end") }
    call.renderer.show(
      .record(
        [Field("Backup", last.directory)],
        .object([
          JsonMember("directory", .string(last.directory)),
          JsonMember("bytes", .unsigned(last.bytes)),
        ]), name: last.directory,
        notes: [Note("To use it: posthouse backup restore --from \(last.directory) --data NEW_DIR")]
      ))
  }

  /// The node has another working directory than the one who types.
  static func absolute(_ path: String) throws(Fault) -> String {
    if path.hasPrefix("/") { return path }
    var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
    guard unsafe getcwd(&buffer, buffer.count) != nil else {
      throw Fault(.internal, "the working directory has no name; give an absolute path")
    }
    let here = String(
      decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return here + "/" + path
  }
}
