public import Base
internal import Digest

// Which tenants a request is about. In a cluster the node that owns a tenant's slot decides what is about
// that tenant; every node works out the same owner from the ids in the request.

/// Who decides a request.
public enum TokenSubject: Hashable, Sendable {
  /// The node that owns this tenant's slot.
  case tenant(TenantID)
  /// The node that was asked: it needs no account, or there is no telling which.
  case local
  /// Every node answers for the tenants it owns, and the answers become one list.
  case everyNode
}

extension TokenRequest {
  /// The tenant that the presented credential speaks of, whose owner checks it. nil: an operator, a hidden
  /// key, a caller found already, or a text that names nobody. Nothing is checked here.
  public var home: TenantID? {
    guard case .bearer(let text, _) = caller else { return nil }
    if text.utf8.starts(with: Credential.Kind.apiKey.rawValue.utf8) {
      return Credential(.apiKey, text)?.address.tenant
    }
    return JWT.tenantClaimed(by: text)
  }

  /// Who decides. What names no tenant is the caller's own tenant's to refuse.
  public var subject: TokenSubject {
    if case .redacted = caller { return .local }
    if case .everyNode = action.subject, case .admin = caller { return .everyNode }
    if case .bearer = caller, home == nil { return .local }
    switch action.subject {
    case .tenant(let tenant): return .tenant(tenant)
    case .everyNode: return .everyNode
    case .local: return own.map { .tenant($0) } ?? .local
    }
  }

  private var own: TenantID? {
    if case .proven(let proven) = caller { return proven.principal.tenant }
    return home
  }
}

extension TokenAction {
  /// The tenant that the action itself names. `local`: it names none, and means the caller's own.
  var subject: TokenSubject {
    switch self {
    case .createTenant(let org, _), .suspendTenant(let org), .resumeTenant(let org),
      .deleteTenant(let org), .setQuota(let org, _):
      return .tenant(TenantID(org: org))
    case .account(let org), .createKey(let org, _, _, _), .listKeys(let org),
      .usage(let org, _, _):
      return org.map { .tenant(TenantID(org: $0)) } ?? .local
    case .listTenants, .dropGrantee: return .everyNode
    case .listChannels(let prefix, _, _):
      // An operator's; a caller with a tenant sees what others granted it, too.
      guard let slash = prefix.firstIndex(of: "/") else { return .everyNode }
      return .tenant(TenantID(org: String(prefix[..<slash])))
    case .authenticate, .prove, .issueToken: return .local
    case .checkPrincipal(let principal): return .tenant(principal.tenant)
    case .grant(let channel, _), .grantKnown(let channel, _), .registerChannel(let channel),
      .getChannel(let channel), .endChannel(let channel), .listGrants(let channel),
      .revokeGrant(let channel, _), .createInvite(let channel, _, _), .listInvites(let channel),
      .pending(let channel):
      return ChannelName(channel).map { .tenant(TenantID(org: $0.org)) } ?? .local
    case .revokeKey(let id), .revokeInvite(let id):
      return RecordAddress(id).map { .tenant($0.tenant) } ?? .local
    case .join(_, let token, _, _):
      return Credential(.invite, token).map { .tenant($0.address.tenant) } ?? .local
    case .putWelcome(let id, _), .getWelcome(let id):
      return JoinText.read(id).map { .tenant($0.tenant) } ?? .local
    }
  }

  /// Polls have a budget of their own.
  public var isPoll: Bool {
    switch self {
    case .pending, .getWelcome: true
    case .prove(let polling): polling
    default: false
    }
  }
}

/// A caller whose credential its own tenant's owner has found good: what that node tells the one that
/// decides. Only nodes of the cluster may say it.
public struct ProvenCaller: Hashable, Sendable {
  public var principal: Principal
  public var scopes: Scopes
  /// It came with a JWT, not with the API key itself.
  public var viaToken: Bool
  /// Its tenant has used what it may use today.
  public var isOverQuota: Bool
  public init(principal: Principal, scopes: Scopes, viaToken: Bool, isOverQuota: Bool) {
    self.principal = principal
    self.scopes = scopes
    self.viaToken = viaToken
    self.isOverQuota = isOverQuota
  }
}
