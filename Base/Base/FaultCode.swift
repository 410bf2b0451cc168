// Generated from Proto/errors.json by ops/dev/regen. Do not edit.
// swift-format-ignore-file

/// Every fault a user can see.
public enum FaultCode: String, Sendable, CaseIterable {
  case unauthorized = "unauthorized"
  case forbidden = "forbidden"
  case notFound = "not_found"
  case badRequest = "bad_request"
  case badChannelName = "bad_channel_name"
  case conflict = "conflict"
  case quotaExceeded = "quota_exceeded"
  case rateLimited = "rate_limited"
  case tooLarge = "too_large"
  case unavailable = "unavailable"
  case diskFull = "disk_full"
  case draining = "draining"
  case tenantSuspended = "tenant_suspended"
  case keyRevoked = "key_revoked"
  case epochTaken = "epoch_taken"
  case producerStale = "producer_stale"
  case retentionPassed = "retention_passed"
  case stalled = "stalled"
  case damaged = "damaged"
  case nameCollision = "name_collision"
  case unimplemented = "unimplemented"
  case `internal` = "internal"
  case revoked = "revoked"
  case deadlineExceeded = "deadline_exceeded"
  case badSetting = "bad_setting"
  case usage = "usage"
  case unreachable = "unreachable"
  case notConfirmed = "not_confirmed"
  case registryFull = "registry_full"
  case badCertificate = "bad_certificate"

  public var grpc: GrpcStatus {
    switch self {
    case .unauthorized: .unauthenticated
    case .forbidden: .permissionDenied
    case .notFound: .notFound
    case .badRequest: .invalidArgument
    case .badChannelName: .invalidArgument
    case .conflict: .alreadyExists
    case .quotaExceeded: .resourceExhausted
    case .rateLimited: .resourceExhausted
    case .tooLarge: .resourceExhausted
    case .unavailable: .unavailable
    case .diskFull: .unavailable
    case .draining: .unavailable
    case .tenantSuspended: .permissionDenied
    case .keyRevoked: .unauthenticated
    case .epochTaken: .aborted
    case .producerStale: .failedPrecondition
    case .retentionPassed: .outOfRange
    case .stalled: .unavailable
    case .damaged: .dataLoss
    case .nameCollision: .failedPrecondition
    case .unimplemented: .unimplemented
    case .`internal`: .internal
    case .revoked: .permissionDenied
    case .deadlineExceeded: .deadlineExceeded
    case .badSetting: .invalidArgument
    case .usage: .invalidArgument
    case .unreachable: .unavailable
    case .notConfirmed: .failedPrecondition
    case .registryFull: .resourceExhausted
    case .badCertificate: .failedPrecondition
    }
  }
  public var http: Int {
    switch self {
    case .unauthorized: 401
    case .forbidden: 403
    case .notFound: 404
    case .badRequest: 400
    case .badChannelName: 400
    case .conflict: 409
    case .quotaExceeded: 429
    case .rateLimited: 429
    case .tooLarge: 413
    case .unavailable: 503
    case .diskFull: 503
    case .draining: 503
    case .tenantSuspended: 403
    case .keyRevoked: 401
    case .epochTaken: 409
    case .producerStale: 409
    case .retentionPassed: 410
    case .stalled: 503
    case .damaged: 500
    case .nameCollision: 409
    case .unimplemented: 501
    case .`internal`: 500
    case .revoked: 403
    case .deadlineExceeded: 504
    case .badSetting: 400
    case .usage: 400
    case .unreachable: 503
    case .notConfirmed: 409
    case .registryFull: 507
    case .badCertificate: 409
    }
  }
  public var isRetriable: Bool {
    switch self {
    case .unauthorized: false
    case .forbidden: false
    case .notFound: false
    case .badRequest: false
    case .badChannelName: false
    case .conflict: false
    case .quotaExceeded: true
    case .rateLimited: true
    case .tooLarge: false
    case .unavailable: true
    case .diskFull: true
    case .draining: true
    case .tenantSuspended: false
    case .keyRevoked: false
    case .epochTaken: false
    case .producerStale: false
    case .retentionPassed: false
    case .stalled: true
    case .damaged: false
    case .nameCollision: false
    case .unimplemented: false
    case .`internal`: true
    case .revoked: false
    case .deadlineExceeded: true
    case .badSetting: false
    case .usage: false
    case .unreachable: true
    case .notConfirmed: false
    case .registryFull: true
    case .badCertificate: false
    }
  }
  public var what: String {
    switch self {
    case .unauthorized: "The request carries no valid credential."
    case .forbidden: "The credential is valid but has no right to this."
    case .notFound: "Nothing with that name or id exists here."
    case .badRequest: "The request breaks the contract."
    case .badChannelName: "A channel name is org/namespace/service, three non-empty parts, at most 256 bytes."
    case .conflict: "Something of that name exists already, or another request won."
    case .quotaExceeded: "The tenant has used its quota for today."
    case .rateLimited: "Too many requests in a short time."
    case .tooLarge: "The message or body is larger than the limit."
    case .unavailable: "The node cannot serve this now."
    case .diskFull: "The data volume is below disk.min_free; new messages are refused, reads go on."
    case .draining: "The node is shutting down."
    case .tenantSuspended: "The operator has suspended this tenant."
    case .keyRevoked: "The API key was revoked or has expired."
    case .epochTaken: "Another commit won this MLS epoch."
    case .producerStale: "This producer sequence is older than the channel remembers and was not found."
    case .retentionPassed: "The messages asked for are no longer kept."
    case .stalled: "The subscriber took no byte for stall_timeout, or its queue ran over."
    case .damaged: "A stored record fails its checksum and is not served."
    case .nameCollision: "Two channel names have one channel id."
    case .unimplemented: "This node does not serve that method."
    case .`internal`: "The node failed in a way it should not."
    case .revoked: "The right this stream was opened with has been revoked."
    case .deadlineExceeded: "The deadline of the call passed."
    case .badSetting: "A setting is unknown, of the wrong type or not allowed."
    case .usage: "The command line is not one this program understands."
    case .unreachable: "No node answers at that address or in that data directory."
    case .notConfirmed: "A command that destroys something was not confirmed."
    case .registryFull: "registry is at maximum capacity"
    case .badCertificate: "A certificate or a key cannot be read, made or used."
    }
  }
  public var advice: String {
    switch self {
    case .unauthorized: "Present an API key (HTTP) or a JWT from POST /v1/tokens (gRPC) as `authorization: Bearer ...`."
    case .forbidden: "Join the channel with an invite, ask its owner for a grant, or use a key with the scope."
    case .notFound: "Check the name; ids are shown by the ls commands."
    case .badRequest: "The message names what is wrong; the token API is described at /openapi.yaml."
    case .badChannelName: "Correct the name."
    case .conflict: "Look at what is there, then decide."
    case .quotaExceeded: "Wait for the next day (UTC) or ask the operator to raise the quota."
    case .rateLimited: "Wait as long as Retry-After says."
    case .tooLarge: "Send less; the limits stand in the documentation."
    case .unavailable: "Try again; /readyz says why."
    case .diskFull: "Free space or lower retention; publishing recovers by itself."
    case .draining: "Connect again; another node or the restarted one will answer."
    case .tenantSuspended: "Talk to the operator."
    case .keyRevoked: "Use another key."
    case .epochTaken: "Process the winning commit, then commit again in the next epoch."
    case .producerStale: "Read the channel from the last acknowledged sequence before publishing on."
    case .retentionPassed: "Read from the oldest kept sequence."
    case .stalled: "Read faster, and connect again."
    case .damaged: "Run `posthouse channel verify`; restore from a backup."
    case .nameCollision: "Rename one of them."
    case .unimplemented: "Check the path and the version of the node."
    case .`internal`: "Report it with the log lines of that time."
    case .revoked: "Ask for a new grant or key."
    case .deadlineExceeded: "Try again with a longer deadline."
    case .badSetting: "Correct what the message names; `posthouse config show --origin` lists every setting and where it comes from."
    case .usage: "Run it with --help."
    case .unreachable: "Start posthoused, or name the node with --admin-socket, --data or --address."
    case .notConfirmed: "Repeat it with --yes."
    case .registryFull: "Register with another relay, or raise registry.capacity."
    case .badCertificate: "Look at it with `posthouse tls show FILE`; make a node's anew with `posthouse tls issue`."
    }
  }
}
