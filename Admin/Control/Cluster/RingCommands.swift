internal import Base
internal import Messages
internal import Settings

enum RingShow: Command {
  static let form = CommandForm(
    "ring show", "Which node owns how many slots, by the map that serves now.",
    options: [
      CommandOption("--slots", "List every slot, not the nodes."),
      CommandOption(
        "--here", "The map that the asked node goes by, not that of the metadata's host."),
    ],
    examples: ["posthouse ring show", "posthouse ring show --slots -o json"])

  static func run(_ call: Call) throws(Fault) {
    let listsSlots = call.parsed.has("--slots")
    let ring: AdminRing = try call.link().call(
      AdminService.getRing,
      AdminGetRingRequest(withSlots: listsSlots, here: call.parsed.has("--here")),
      timeout: try call.timeout())
    var more =
      "Version \(ring.version), revision \(ring.revision): \(ring.slots) slots, \(ring.replicas) copies "
      + "wanted, \(ring.moving) moving; \(ring.metadataHost) hosts the metadata"
    if ring.shownBy != ring.metadataHost { more += ", this is the map of \(ring.shownBy)" }
    if ring.staged { more += "; a change is staged: posthouse ring plan" }
    if [.json, .jsonl].contains(call.renderer.form), !listsSlots {
      call.renderer.show(
        .record(
          [],
          .object([
            JsonMember("version", .unsigned(ring.version)),
            JsonMember("revision", .unsigned(ring.revision)),
            JsonMember("slots", .unsigned(UInt64(ring.slots))),
            JsonMember("replicas", .unsigned(UInt64(ring.replicas))),
            JsonMember("moving", .unsigned(UInt64(ring.moving))),
            JsonMember("staged", .boolean(ring.staged)),
            JsonMember("metadata_host", .string(ring.metadataHost)),
            JsonMember("shown_by", .string(ring.shownBy)),
            JsonMember("nodes", .array(ring.nodes.map { RingView.json($0, plan: false) })),
          ]), name: "\(ring.version)"))
      return
    }
    if listsSlots {
      let columns: [Column] = [
        .right("SLOT"), .left("OWNER"), .left("FOLLOWERS"), .right("EPOCH"), .left("MOVING TO"),
      ]
      call.renderer.show(.list(columns, ring.slotList.map(row), more: more))
      return
    }
    call.renderer.show(.list(RingView.nodeColumns, ring.nodes.map(RingView.row), more: more))
  }

  static func row(_ s: AdminRingSlot) -> ViewRow {
    ViewRow(
      cells: [
        "\(s.slot)", s.owner, Shown.list(s.followers), "\(s.epoch)", Shown.orDash(s.movingTo),
      ],
      json: .object([
        JsonMember("slot", .unsigned(UInt64(s.slot))), JsonMember("owner", .string(s.owner)),
        JsonMember("followers", .strings(s.followers)), JsonMember("epoch", .unsigned(s.epoch)),
        JsonMember("moving_to", s.movingTo.isEmpty ? .null : .string(s.movingTo)),
      ]), name: "\(s.slot)")
  }
}

/// Whom a channel's messages pass, and who decides for an org.
enum RingOwner: Command {
  static let form = CommandForm(
    "ring owner", "Which node owns a channel, or an org's accounts.",
    arguments: [CommandArgument("NAME")],
    options: [
      CommandOption(
        "--here", "By the map that the asked node goes by, not that of the metadata's host.")
    ],
    examples: [
      "posthouse ring owner acme/team/general", "posthouse ring owner slim-a:acme/team/general",
      "posthouse ring owner acme",
    ])

  static func run(_ call: Call) throws(Fault) {
    let name = call.word(0)
    if name.isEmpty { throw Fault(.usage, "ring owner wants the name of a channel or an org") }
    let ring: AdminRing = try call.link().call(
      AdminService.getRing,
      AdminGetRingRequest(withSlots: false, here: call.parsed.has("--here"), name: name),
      timeout: try call.timeout())
    guard let slot = ring.slotList.first else {
      throw Fault(.unimplemented, "\(ring.shownBy) is of a version that does not tell owners")
    }
    var fields = [
      Field("Owner", slot.owner), Field("Slot", "\(slot.slot)"), Field("Epoch", "\(slot.epoch)"),
    ]
    if !slot.followers.isEmpty { fields.append(Field("Followers", Shown.list(slot.followers))) }
    var notes: [Note] = []
    if !slot.movingTo.isEmpty { notes.append(Note("It is on its way to \(slot.movingTo).")) }
    call.renderer.show(
      .record(fields, RingShow.row(slot).json, name: slot.owner, notes: notes))
  }
}

enum RingPlanShow: Command {
  static let form = CommandForm(
    "ring plan", "What applying the staged change would do.",
    examples: ["posthouse ring plan", "posthouse ring plan -o json"])

  static func run(_ call: Call) throws(Fault) {
    let plan: AdminRingPlan = try call.link().call(
      AdminService.planRing, AdminPlanRingRequest(), timeout: try call.timeout())
    RingView.show(call, plan)
  }
}

enum RingDiff: Command {
  static let form = CommandForm(
    "ring diff", "Node by node, and with --slots slot by slot, what the staged change would move.",
    options: [CommandOption("--slots", "List the slots that would move.")])

  static func run(_ call: Call) throws(Fault) {
    let listsSlots = call.parsed.has("--slots")
    let plan: AdminRingPlan = try call.link().call(
      AdminService.planRing, AdminPlanRingRequest(withMoves: listsSlots),
      timeout: try call.timeout())
    if listsSlots {
      let columns: [Column] = [.right("SLOT"), .left("FROM"), .left("TO")]
      let rows = plan.moveList.map { m in
        ViewRow(
          cells: ["\(m.slot)", m.from, m.to],
          json: .object([
            JsonMember("slot", .unsigned(UInt64(m.slot))), JsonMember("from", .string(m.from)),
            JsonMember("to", .string(m.to)),
          ]), name: "\(m.slot)")
      }
      call.renderer.show(.list(columns, rows))
      return
    }
    call.renderer.show(.list(RingView.planColumns, plan.nodes.map(RingView.planRow)))
  }
}

/// Changes of the layout are staged, looked at, then applied.
enum RingStage: Command {
  static let form = CommandForm(
    "ring stage", "Stage a change of a node or of the number of copies; nothing moves yet.",
    arguments: [CommandArgument("NODE", required: false)],
    options: [
      CommandOption(
        "--weight", value: "N", "Its share of the slots, up to \(Limits.nodeWeight); 0: none."),
      CommandOption("--zone", value: "NAME", "What fails together with it."),
      CommandOption("--region", value: "NAME", "Where it is."),
      CommandOption(
        "--state", value: "STATE", "serving, draining or gone (it will not come back)."),
      CommandOption("--replicas", value: "N", "Copies of each slot, 1 to \(Limits.ringReplicas)."),
    ],
    examples: [
      "posthouse ring stage n2 --weight 200", "posthouse ring stage --replicas 2",
      "posthouse ring plan",
    ])

  static func run(_ call: Call) throws(Fault) {
    var request = AdminStageRingRequest()
    request.node = call.parsed.argument(0) ?? ""
    request.weight = try call.number("--weight", in: 0...Limits.nodeWeight)
    request.zone = call.parsed.value("--zone")
    request.region = call.parsed.value("--region")
    request.state = call.parsed.value("--state") ?? ""
    request.replicas = try call.number("--replicas", in: 1...Limits.ringReplicas) ?? 0
    let ofNode = ["--weight", "--zone", "--region", "--state"].filter { call.parsed.has($0) }
    if request.node.isEmpty, let option = ofNode.first {
      throw Fault(.usage, "\(option) wants the NODE it is for")
    }
    if ofNode.isEmpty, request.replicas == 0 {
      throw Fault(.usage, "ring stage wants a change, such as --weight N")
    }
    let plan: AdminRingPlan = try call.link().call(
      AdminService.stageRing, request, timeout: try call.timeout())
    RingView.show(call, plan)
  }
}

enum RingApply: Command {
  static let form = CommandForm(
    "ring apply", "Make the staged change the map: slots begin to move.",
    options: [
      CommandOption(
        "--version", value: "N",
        "The ring's version as ring plan showed it: if it is another now, nothing is done."),
      CommandOption(
        "--allow-loss", "Also when the archive of slots is only on nodes that are gone."),
    ], examples: ["posthouse ring apply --version 3"])

  static func run(_ call: Call) throws(Fault) {
    guard let version = try call.number("--version") else {
      throw Fault(.usage, "ring apply wants --version N, as ring plan showed it")
    }
    let plan: AdminRingPlan = try call.link().call(
      AdminService.applyRing,
      AdminApplyRingRequest(version: version, allowLoss: call.parsed.has("--allow-loss")),
      timeout: try call.timeout())
    RingView.show(call, plan)
  }
}

enum RingRevert: Command {
  static let form = CommandForm(
    "ring revert", "Drop what is staged; with VERSION: stage going back to that layout.",
    arguments: [CommandArgument("VERSION", required: false)],
    examples: ["posthouse ring revert", "posthouse ring revert 3"])

  static func run(_ call: Call) throws(Fault) {
    var request = AdminStageRingRequest()
    if let text = call.parsed.argument(0) {
      guard let version = UInt64(text), version > 0 else {
        throw Fault(.usage, "ring revert wants a version such as 3, not \"\(text)\"")
      }
      request.revertTo = version
    } else {
      request.discard = true
    }
    let plan: AdminRingPlan = try call.link().call(
      AdminService.stageRing, request, timeout: try call.timeout())
    RingView.show(call, plan)
  }
}

enum RingHistoryShow: Command {
  static let form = CommandForm(
    "ring history", "Earlier layouts, which ring revert can go back to.")

  static func run(_ call: Call) throws(Fault) {
    let history: AdminRingHistory = try call.link().call(
      AdminService.getRingHistory, AdminGetRingHistoryRequest(), timeout: try call.timeout())
    let columns: [Column] = [.right("VERSION"), .left("STATE"), .left("SLOTS"), .wide("REVISION")]
    let rows = history.versions.map { v in
      ViewRow(
        cells: [
          "\(v.version)", v.current ? "current" : "earlier",
          Shown.list(v.nodes.map { "\($0.name) \($0.owned)" }), "\(v.revision)",
        ],
        json: .object([
          JsonMember("version", .unsigned(v.version)),
          JsonMember("revision", .unsigned(v.revision)),
          JsonMember("current", .boolean(v.current)),
          JsonMember("nodes", .array(v.nodes.map { RingView.json($0, plan: false) })),
        ]), name: "\(v.version)")
    }
    call.renderer.show(.list(columns, rows))
  }
}
