internal import Base
internal import Messages
internal import Settings

enum TenantCreate: Command {
  static let form = CommandForm(
    "tenant create", "Make a tenant and its first API key.", arguments: [CommandArgument("NAME")],
    options: [CommandOption("--no-key", "Make no key.")],
    examples: ["posthouse tenant create acme", "posthouse tenant create acme -o json"])

  static func run(_ call: Call) throws(Fault) {
    let name = call.word(0)
    guard isOrgName(name) else {
      throw Fault(.badRequest, "\"\(name)\" is no tenant name: 1 to 63 of a-z, 0-9 and -")
    }
    let without = call.parsed.has("--no-key")
    let made: AdminCreateTenantResponse
    do throws(Fault) {
      made = try call.link().call(
        AdminService.createTenant, AdminCreateTenantRequest(tenant: name, withoutKey: without),
        timeout: try call.timeout())
    } catch {
      guard error.code == .conflict else { throw error }
      throw Fault(
        .conflict,
        "there is a tenant \(name) already; for another key: \(call.again("posthouse key create \(name)"))"
      )
    }
    let tenant = made.tenant ?? AdminTenant(tenant: name)
    var members = [
      JsonMember("tenant", .string(tenant.tenant)),
      JsonMember("tenant_id", .string(tenant.tenantID)),
      JsonMember("state", .string(tenant.state)),
      JsonMember("created", Shown.timeJson(tenant.createdUnixNs)),
    ]
    var fields = [Field("Tenant", tenant.tenant), Field("Id", tenant.tenantID, wide: true)]
    var notes: [Note] = []
    if without {
      notes.append(Note("Next: \(call.again("posthouse key create \(tenant.tenant)"))"))
    } else {
      members.append(JsonMember("api_key", .string(made.apiKey)))
      members.append(JsonMember("key_id", .string(made.keyID)))
      fields.append(Field("API key", made.apiKey))
      fields.append(Field("Key id", made.keyID))
      notes.append(Note("Keep the key: it is shown this once."))
    }
    call.renderer.show(.record(fields, .object(members), name: tenant.tenant, notes: notes))
  }
}
