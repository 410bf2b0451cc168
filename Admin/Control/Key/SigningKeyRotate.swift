internal import Base
internal import Messages
internal import Settings

enum SigningKeyRotate: Command {
  static let form = CommandForm(
    "signing-key rotate",
    "Sign JWTs with a new key, on all nodes of a cluster; those signed before it stay good, those signed "
      + "with the key before that one do not.",
    examples: ["posthouse signing-key rotate"])

  static func run(_ call: Call) throws(Fault) {
    // A new key waits until every node has it.
    let made: AdminRotateSigningKeyResponse = try call.link().call(
      AdminService.rotateSigningKey, AdminRotateSigningKeyRequest(), timeout: try call.timeout())
    call.renderer.show(
      .record(
        [Field("Key", made.kid)], .object([JsonMember("kid", .string(made.kid))]), name: made.kid))
  }
}
