internal import Base
internal import Messages
internal import Settings

/// All that can be asked about the health of a node and its cluster, a line each. Ends with 1 when one of them is bad.
enum HealthCheck: Command {
  static let form = CommandForm(
    "check", "Look a node and its cluster over: what is well, what is not, and what to do.",
    examples: ["posthouse check", "posthouse check -o json"])

  /// One finding. `advice` is empty when all is well.
  struct Finding: Equatable {
    enum Grade: String { case ok, warning, bad }
    var what: String
    var grade: Grade
    var text: String
    var advice = ""
  }

  static func run(_ call: Call) throws(Fault) {
    let link = try call.link()
    let timeout = try call.timeout()
    let status: AdminNodeStatus = try link.call(
      AdminService.getStatus, AdminGetStatusRequest(), timeout: timeout)
    var findings = node(status, isOffline: link.isOffline)
    if !link.isOffline {
      findings += tenants(status, link, timeout)
      do throws(Fault) {
        let list: AdminListNodesResponse = try link.call(
          AdminService.listNodes, AdminListNodesRequest(), timeout: timeout)
        let ring: AdminRing = try link.call(
          AdminService.getRing, AdminGetRingRequest(here: true), timeout: timeout)
        findings += cluster(list, ring)
      } catch {
        // A node of its own knows no others.
        if ![.unimplemented, .notFound, .conflict].contains(error.code) { throw error }
      }
    }
    let columns: [Column] = [.left("CHECK"), .left("RESULT"), .left("FOUND"), .left("DO")]
    call.renderer.show(
      .list(
        columns,
        findings.map { f in
          ViewRow(
            cells: [f.what, f.grade.rawValue, f.text, Shown.orDash(hint(f.advice, call))],
            json: .object([
              JsonMember("check", .string(f.what)), JsonMember("result", .string(f.grade.rawValue)),
              JsonMember("found", .string(f.text)),
              JsonMember("do", .string(hint(f.advice, call))),
            ]), name: f.what)
        }))
    if findings.contains(where: { $0.grade == .bad }) { call.outcome = .failed }
  }

  private static func hint(_ advice: String, _ call: Call) -> String {
    advice.hasPrefix("posthouse ") ? call.again(advice) : advice
  }

  /// The asked node alone.
  static func node(_ s: AdminNodeStatus, isOffline: Bool) -> [Finding] {
    if isOffline {
      return [
        Finding(
          what: "node", grade: .bad, text: "stopped; its database opens",
          advice: "posthoused --data \(s.dataDirectory)")
      ]
    }
    var out = [
      s.draining
        ? Finding(what: "node", grade: .bad, text: "draining: it will end")
        : s.ready
          ? Finding(what: "node", grade: .ok, text: "\(s.nodeName) \(s.version), ready")
          : Finding(
            what: "node", grade: .bad, text: "not ready: \(Shown.list(s.notReadyReasons))",
            advice: "journalctl -u posthoused -n 50")
    ]
    let free = "\(Shown.size(s.diskFreeBytes)) free, \(Shown.size(s.diskUsedBytes)) used"
    out.append(
      s.diskFreeBytes < 2 << 30
        ? Finding(
          what: "disk", grade: .warning, text: free,
          advice: "make room, or lower retention; below disk.min_free messages are refused")
        : Finding(what: "disk", grade: .ok, text: free))
    out.append(
      s.auth == "open"
        ? Finding(
          what: "auth", grade: .warning, text: "open: streams need no token",
          advice: "auth = \"required\"")
        : Finding(what: "auth", grade: .ok, text: s.auth))
    return out
  }

  /// The node's own count says nothing of tenants on other nodes of its cluster.
  private static func tenants(
    _ s: AdminNodeStatus, _ link: any AdminLink, _ timeout: Interval
  ) -> [Finding] {
    if s.auth == "open" { return [] }
    let page: AdminListTenantsResponse
    do throws(Fault) {
      page = try link.call(
        AdminService.listTenants, AdminListTenantsRequest(limit: 1), timeout: timeout)
    } catch {
      return [
        Finding(
          what: "tenants", grade: .warning, text: "\(error.code.rawValue): \(error)",
          advice: "a node that keeps tenants is away")
      ]
    }
    return [
      page.tenants.isEmpty
        ? Finding(
          what: "tenants", grade: .warning, text: "none: nobody can open a stream",
          advice: "posthouse tenant create NAME")
        : Finding(what: "tenants", grade: .ok, text: "there are some, \(s.tenants) on this node")
    ]
  }

  /// One that left on purpose and owns nothing is not missed; one that was never heard from is.
  private static func isAway(_ n: AdminClusterNode) -> Bool {
    switch n.member {
    case "self", "alive": false
    case "left": n.owned > 0
    default: true
    }
  }

  /// What the asked node says of its cluster.
  static func cluster(_ list: AdminListNodesResponse, _ ring: AdminRing) -> [Finding] {
    let nodes = list.nodes.filter { !$0.forgotten }
    let away = nodes.filter { isAway($0) }
    var out = [
      away.isEmpty
        ? Finding(what: "members", grade: .ok, text: "\(nodes.count) of \(nodes.count) there")
        : Finding(
          what: "members", grade: .bad,
          text: away.map { "\($0.name) \($0.member == "unknown" ? "never heard from" : $0.member)" }
            .joined(separator: ", "),
          advice: "start them; for one that is lost: posthouse node forget NODE --allow-loss")
    ]
    let host = nodes.first(where: \.hostsMetadata)
    let isHostAway = host.map { lost in away.contains { $0.nodeID == lost.nodeID } } ?? true
    out.append(
      isHostAway
        ? Finding(
          what: "metadata", grade: .bad,
          text: host.map { "\($0.name), its host, is away" } ?? "no node hosts it",
          advice: "start its host: joins and changes of the ring wait for it")
        : Finding(what: "metadata", grade: .ok, text: "on \(host?.name ?? "-")"))
    let ownerless = away.filter { $0.member != "suspect" && $0.owned > 0 }
    if !ownerless.isEmpty {
      let slots = ownerless.reduce(0) { $0 + Int($1.owned) }
      out.append(
        Finding(
          what: "slots", grade: .bad,
          text: "\(slots) of \(ring.slots) belong to nodes that are away",
          advice: "start those nodes: nobody else serves these channels"))
    } else if ring.moving > 0 {
      out.append(
        Finding(
          what: "slots", grade: .warning, text: "\(ring.moving) of \(ring.slots) wait to move",
          advice: "posthouse ring show"))
    } else {
      out.append(
        Finding(what: "slots", grade: .ok, text: "\(ring.slots), map version \(ring.version)"))
    }
    let versions = Set(nodes.map(\.version).filter { !$0.isEmpty })
    out.append(
      versions.count > 1
        ? Finding(
          what: "versions", grade: .warning, text: versions.sorted().joined(separator: ", "),
          advice: "finish the upgrade: neighbouring versions work together, others do not")
        : Finding(what: "versions", grade: .ok, text: Shown.list(versions.sorted())))
    if ring.staged {
      out.append(
        Finding(
          what: "ring", grade: .warning, text: "a change is staged", advice: "posthouse ring plan"))
    }
    return out
  }
}
