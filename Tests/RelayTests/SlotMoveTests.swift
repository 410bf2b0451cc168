import Base
import Codec
import Crypto
import Digest
import Engine
import Grpc
import Loop
import Messages
import Report
import Store
import Testing
import Token

@testable import Relay
@testable import Ring

/// Slots on their way between real nodes, under agents that publish and read through all of them.
@Suite("Slots move between nodes", .timeLimit(.minutes(5)), .serialized)
struct SlotMoveTests {
  /// Channels that agents of every node publish to and read.
  private struct Load {
    let cluster: MovingCluster
    let channels: [String]
    var publishers: [String: [MovingPublisher]] = [:]
    var readers: [String: [MovingReader]] = [:]

    init(_ cluster: MovingCluster, _ channels: [String], readers: Bool = true) throws {
      self.cluster = cluster
      self.channels = channels
      for channel in channels {
        for (place, node) in cluster.nodes.enumerated() {
          publishers[channel, default: []].append(
            try MovingPublisher(node, channel, "from \(place)"))
          if readers { self.readers[channel, default: []].append(try MovingReader(node, channel)) }
        }
      }
    }

    /// Everybody has got so many more through.
    func progress(_ more: Int) throws {
      let all = publishers.values.flatMap(\.self)
      let before = all.map(\.count)
      try cluster.until("everybody publishes") {
        zip(all, before).allSatisfy { $0.count >= $1 + more }
      }
    }

    /// Nothing that was answered is lost, doubled or out of its order; everybody reads the same.
    func check(mayBreak: Bool = false) throws {
      for channel in channels {
        var acknowledged: [UInt64: String] = [:]
        for publisher in publishers[channel] ?? [] {
          let (places, refusals, open, _) = publisher.finish()
          if !mayBreak { #expect(refusals.isEmpty && open == 0, "\(channel) \(publisher.name)") }
          let taken = places.enumerated().filter { $0.element > 0 }
          #expect(
            zip(taken, taken.dropFirst()).allSatisfy { $0.element < $1.element },
            "\(channel) \(publisher.name): answers in order")
          for (number, place) in taken {
            #expect(acknowledged[place] == nil, "\(channel): two messages at \(place)")
            acknowledged[place] = "\(publisher.name) \(number)"
          }
        }
        let whole = try MovingReader(cluster.living[0], channel, follow: false)
        try whole.read(.max)
        let count = whole.sequences.count
        #expect(count >= acknowledged.count && count > 0, "\(channel)")
        #expect(whole.sequences == (0..<count).map { UInt64($0 + 1) }, "\(channel): gaps")
        #expect(Set(whole.texts).count == count, "\(channel): a message twice")
        for (place, text) in acknowledged {
          #expect(
            place <= count && whole.texts[Int(place) - 1] == text, "\(channel): lost \(text)")
        }
        for (place, reader) in (readers[channel] ?? []).enumerated() {
          if mayBreak { continue }
          try reader.read(count)
          #expect(reader.sequences == whole.sequences, "\(channel): reader at \(place)")
          #expect(reader.texts == whole.texts, "\(channel): reader at \(place)")
        }
      }
    }
  }

  @Test(
    "Slots go round all nodes while everybody publishes and reads: nothing is lost, doubled, or out of order"
  )
  func round() throws {
    let cluster = try MovingCluster()
    let channels = (0..<3).flatMap { place in
      ["a", "b"].map { cluster.channel(at: place, "\($0)\(place)-") }
    }
    let epochs = channels.map { cluster.map.epoch(of: cluster.slot($0)) }
    let load = try Load(cluster, channels)
    try load.progress(8)
    for _ in 0..<3 {
      let wanted = channels.map {
        let slot = cluster.slot($0)
        return (slot: slot, to: (cluster.place(of: slot) + 1) % 3)
      }
      try cluster.ask(wanted)
      try cluster.moved(wanted)
      try load.progress(8)
    }
    try load.check()
    #expect((0..<3).reduce(0) { $0 + cluster.facts($1).left } == 18)
    #expect((0..<3).reduce(0) { $0 + cluster.facts($1).came } == 18)
    #expect(channels.map { cluster.map.epoch(of: cluster.slot($0)) } == epochs.map { $0 + 3 })
  }

  private func endpoint(_ node: NodeHost) throws -> Endpoint {
    try #require(Endpoint(node.addresses.grpc))
  }

  @Test(
    "Skytale agents on all nodes hear each other in order while their channel's slot goes round")
  func skytale() throws {
    let cluster = try MovingCluster()
    let channel = cluster.channel(at: 0, "agents")
    let slot = cluster.slot(channel)
    let agents = try cluster.nodes.map { TestAgent(try GrpcBlockingClient(try endpoint($0))) }
    for agent in agents { try agent.subscribe(channel) }
    try cluster.until("three subscriptions") {
      cluster.nodes.reduce(0) { sum, node in
        sum
          + node.shards.reduce(0) { sum, shard in
            sum + (shard.loop.call { shard.engine.counters.subscriptions } ?? 0)
          }
      } == 3
    }
    for round in 0..<90 {
      for (index, agent) in agents.enumerated() { try agent.publish(channel, "\(index) \(round)") }
      let target = (round / 15 + 1) % 3
      if round % 15 == 5 { try cluster.ask([(slot, target)]) }
      if round % 15 == 14 { try cluster.moved([(slot, target)]) }
    }
    for (index, agent) in agents.enumerated() {
      let got = try (0..<180).map { _ in try agent.next() }
      for other in agents.indices {
        let from = got.filter { $0?.hasPrefix("\(other) ") == true }
        let all = other == index ? [] : (0..<90).map { "\(other) \($0)" }
        #expect(from == all, "\(other) to \(index)")
      }
    }
    #expect((0..<3).reduce(0) { $0 + cluster.facts($1).left } == 6)
  }

  @Test(
    "Members of a SLIM group on all nodes get each message once and in order while its slot goes round",
    arguments: [Family.slimA, .slimB])
  func slim(family: Family) throws {
    let cluster = try MovingCluster()
    let group =
      family == .slimA
      ? SlimName(c0: 1, c1: 2, c2: 70) : SlimName(c0: 1, c1: 2, c2: 3, idHigh: 70, idLow: 77)
    let slot = SlimChannel.ref(family, group).id.slot
    let first = cluster.place(of: slot)
    let members = try (0..<6).map {
      try SlimApp(try endpoint(cluster.nodes[$0 % 3]), family, UInt64($0 + 1))
    }
    for member in members { try member.join(group) }
    for round in 0..<90 as Range<UInt8> {
      for (index, member) in members.enumerated() {
        try member.publish(group, [UInt8(index), round], group: true)
      }
      let target = (first + Int(round) / 15 + 1) % 3
      if round % 15 == 5 { try cluster.ask([(slot, target)]) }
      if round % 15 == 14 { try cluster.moved([(slot, target)]) }
    }
    for (index, member) in members.enumerated() {
      let got = try member.drain(450)
      #expect(got.count == 450)
      for other in members.indices {
        let from = got.filter { $0[0] == UInt8(other) }.map { $0[1] }
        #expect(from == (other == index ? [] : Array(0..<90)), "\(other) to \(index)")
      }
    }
    #expect((0..<3).reduce(0) { $0 + cluster.facts($1).left } == 6)
  }

  /// A channel at a node, with so many messages of 8 KiB.
  func filled(
    _ cluster: MovingCluster, at place: Int, _ count: Int, bytes: Int = 8 << 10
  ) throws -> String {
    let channel = cluster.channel(at: place, "filled")
    let client = try GrpcBlockingClient(
      try #require(Endpoint(cluster.nodes[place].addresses.grpc)))
    let call = client.bidi(ChannelService.publish.path)
    for n in 1...count {
      var request = PublishRequest()
      request.channel = channel
      request.payload = Array("\(n) ".utf8) + [UInt8](repeating: 46, count: bytes)
      (request.producerID, request.producerSequence) = (77, UInt64(n))
      call.send(request)
      // One at a time: each is a record of its own, and a slot with few of them to go is sealed at once.
      let answer = try #require(try call.next(PublishResponse.self, timeout: .seconds(20)))
      #expect(answer.sequence == UInt64(n))
    }
    return channel
  }

  /// Sends one message and returns its answer.
  func publish(
    _ node: NodeHost, _ channel: String, producer: UInt64, number: UInt64
  ) throws -> PublishResponse {
    let client = try GrpcBlockingClient(try endpoint(node))
    let call = client.bidi(ChannelService.publish.path)
    var request = PublishRequest()
    request.channel = channel
    (request.producerID, request.producerSequence) = (producer, number)
    request.payload = Array("by \(producer), \(number)".utf8)
    call.send(request)
    defer { call.cancel() }
    return try #require(try call.next(PublishResponse.self, timeout: .seconds(20)))
  }

  @Test(
    "What retention drops before and during a move is gone at the new owner, and retries of it are known there"
  )
  func retention() throws {
    let cluster = try MovingCluster(3, ["--set", "retention.messages=60"])
    let channel = cluster.channel(at: 1, "short")
    let slot = cluster.slot(channel)
    for n in 1...5 as ClosedRange<UInt64> {
      #expect(
        try publish(cluster.nodes[0], channel, producer: 78, number: n).sequence == n)
    }
    let publishers = try cluster.nodes.map { try MovingPublisher($0, channel, "live") }
    func first() throws -> UInt64 {
      let reader = try MovingReader(cluster.nodes[0], channel, follow: false)
      try reader.read(1)
      return reader.sequences.first ?? 0
    }
    try cluster.until("the first are dropped") { ((try? first()) ?? 0) > 20 }
    try cluster.ask([(slot, 2)])
    try cluster.moved([(slot, 2)])
    let count = publishers[0].count
    try cluster.until("it goes on") { publishers[0].count > count + 40 }
    var last = UInt64(5)
    for publisher in publishers {
      let (places, refusals, open, _) = publisher.finish()
      #expect(refusals.isEmpty && open == 0)
      last += UInt64(places.count)
    }
    try cluster.until("the new owner has dropped what is too much") {
      ((try? first()) ?? 0) + 200 > last
    }
    for node in cluster.nodes {
      let again = try publish(node, channel, producer: 78, number: 5)
      #expect(again.sequence == 5 && again.duplicate)
      let reader = try MovingReader(node, channel, follow: false)
      try reader.read(.max)
      let from = last + 1 - UInt64(reader.sequences.count)
      #expect(reader.sequences == Array(from...last))
      #expect((60...200).contains(reader.sequences.count))
    }
    // No record is left of what is gone: the log names those that are kept.
    let records = try cluster.nodes[2].store.rows(
      in: SlotRange(.records, slot: slot), limitBytes: .max)
    let named = try cluster.nodes[2].store.rows(in: SlotRange(logOf: slot), limitBytes: .max)
    #expect(Set(records.map(\.key)).isSubset(of: Set(named.map(\.value))))
  }

  /// All of it is there, by any node; a retry of its first and last message is known.
  private func expect(_ cluster: MovingCluster, _ channel: String, has count: Int) throws {
    for node in cluster.living {
      let reader = try MovingReader(node, channel, follow: false)
      try reader.read(.max)
      #expect(reader.sequences == (0..<count).map { UInt64($0 + 1) })
      #expect(
        reader.texts.enumerated().allSatisfy { $0.element.hasPrefix("\($0.offset + 1) ") })
      let client = try GrpcBlockingClient(try #require(Endpoint(node.addresses.grpc)))
      let call = client.bidi(ChannelService.publish.path)
      for n in [1, count] {
        var request = PublishRequest()
        request.channel = channel
        (request.producerID, request.producerSequence) = (77, UInt64(n))
        request.payload = Array("again".utf8)
        call.send(request)
        let answer = try #require(try call.next(PublishResponse.self, timeout: .seconds(20)))
        #expect(answer.sequence == UInt64(n) && answer.duplicate)
      }
      call.cancel()
    }
  }

  @Test(
    "A node that ends while a slot leaves it, or comes to it, goes on with that when it is back",
    arguments: [1, 2])
  func ended(who: Int) throws {
    let cluster = try MovingCluster()
    let channel = try filled(cluster, at: 1, 500)
    cluster.slow(1)
    let slot = cluster.slot(channel)
    try cluster.ask([(slot, 2)])
    // Some pages are over.
    try cluster.until("pages are sent") { cluster.facts(1).bytesSent > 600_000 }
    #expect(cluster.facts(1).seals == 0)
    cluster.stop(who)
    #expect(cluster.place(of: slot) == 1)
    try cluster.start(again: who)
    try cluster.moved([(slot, 2)])
    try expect(cluster, channel, has: 500)
    #expect(try rows(cluster.nodes[1], slot) == 0)
  }

  /// How many rows a node has of a slot.
  private func rows(_ node: NodeHost, _ slot: UInt16) throws -> Int {
    try SlotRows.all(slot).reduce(0) {
      $0 + (try node.store.rows(in: $1, limitBytes: .max).count)
    }
  }

  @Test("Few records of many bytes go while the slot is served, not under its seal")
  func largeRecords() throws {
    let cluster = try MovingCluster()
    let channel = try filled(cluster, at: 1, 50, bytes: 256 << 10)
    cluster.slow(1)
    let slot = cluster.slot(channel)
    try cluster.ask([(slot, 2)])
    try cluster.until("pages are sent") { cluster.facts(1).bytesSent > 4 << 20 }
    #expect(cluster.facts(1).seals == 0)
    try cluster.moved([(slot, 2)])
    #expect(cluster.facts(1).seals == 1 && cluster.facts(1).opens == 0)
    try expect(cluster, channel, has: 50)
  }

  @Test(
    "A move that is taken back leaves the slot where it was, and nothing of it at the other node")
  func reverted() throws {
    let cluster = try MovingCluster()
    let channel = try filled(cluster, at: 1, 500)
    cluster.slow(1)
    let slot = cluster.slot(channel)
    let epoch = cluster.map.epoch(of: slot)
    try cluster.ask([(slot, 2)])
    try cluster.until("pages are sent") { cluster.facts(1).bytesSent > 600_000 }
    try cluster.revert([slot])
    try cluster.settle()
    #expect(cluster.place(of: slot) == 1 && cluster.map.epoch(of: slot) == epoch)
    #expect(try rows(cluster.nodes[2], slot) == 0)
    try expect(cluster, channel, has: 500)
    // And once more, to the end.
    try cluster.ask([(slot, 2)])
    try cluster.moved([(slot, 2)])
    try expect(cluster, channel, has: 500)
  }

  @Test("Both ended when the source had written its last word: back again, they hand over")
  func resumed() throws {
    let cluster = try MovingCluster()
    let channel = try filled(cluster, at: 1, 40)
    let slot = cluster.slot(channel)
    cluster.stop(2)
    try cluster.ask([(slot, 2)])
    try cluster.until("the source has heard") {
      cluster.nodes[1].cluster!.map.value.move(of: slot) != nil
    }
    cluster.stop(1)
    try writeLastWords(cluster, try #require(SlotMoveID(cluster.map, slot: slot)))
    try cluster.start(again: 1)
    // The map has it that way before the target knows.
    try cluster.until("the map names the target") { cluster.place(of: slot) == 2 }
    #expect(try rows(cluster.nodes[1], slot) > 0)
    try cluster.start(again: 2)
    try cluster.moved([(slot, 2)])
    try expect(cluster, channel, has: 40)
    #expect(try rows(cluster.nodes[1], slot) == 0)
  }

  /// What both have on their disks when the source is about to ask the map: the target all of the slot, with the mark
  /// that it is complete; the source its intent.
  private func writeLastWords(_ cluster: MovingCluster, _ id: SlotMoveID) throws {
    let source = try Store(path: cluster.data(1))
    let target = try Store(path: cluster.data(2))
    defer {
      try? source.close()
      try? target.close()
    }
    let seal = SlotSeal(run: 7, count: 1)
    let head = try source.slotHead(id.slot)
    let intent = SlotIntent(move: id, sealedAt: head, seal: seal)
    var set = WriteSet()
    set.put(.meta, key: SlotMoveRow.intentKey(id.slot), value: SlotMoveRow.value(intent))
    try write(set, source)
    set = WriteSet()
    for range in SlotRows.all(id.slot) {
      for row in try source.rows(in: range, limitBytes: .max) {
        set.put(range.table, key: row.key, value: row.value)
      }
    }
    let copy = SlotMoveRow.Copy(
      id: id, run: 7, have: head, complete: SlotMoveRow.Complete(at: head, seal: seal))
    set.put(.meta, key: SlotMoveRow.copyKey(id.slot), value: SlotMoveRow.value(copy))
    try write(set, target)
  }

  private func write(_ set: WriteSet, _ store: Store) throws {
    let written = Handoff<Bool>()
    store.submit(set, synced: true) { written.put((try? $0.get()) != nil) }
    guard case .element(true) = written.take(timeout: .seconds(10)) else { throw Fault(.internal) }
  }

  @Test(
    "A slot's tenants go with it: every node answers for them, also while they move and after a restart"
  )
  func tenants() throws {
    let cluster = try MovingCluster()
    let org = (0...).lazy.map { "org\($0)" }.first {
      cluster.place(of: TenantID(org: $0).slot) == 1
    }!
    let slot = TenantID(org: org).slot
    let made = try ask(cluster, 0, .createTenant(org: org, withKey: true)).get()
    guard case .tenantCreated(_, _, let key?) = made else { throw Fault(.internal, "\(made)") }
    let asked = Guarded((answers: 0, faults: [FaultCode](), isOver: false))
    let ended = Handoff<Void>()
    _ = WorkerThread(named: "asker") {
      var number = 0
      while !asked.value.isOver {
        number += 1
        let place = number % 3
        let result = self.ask(
          cluster, place, .createKey(org: nil, label: "k\(number)", scopes: [], ttlSeconds: nil),
          .bearer(key, peer: "10.0.0.9"))
        asked.change {
          $0.answers += 1
          if case .failure(let fault) = result { $0.faults.append(fault.code) }
        }
      }
      ended.put(())
    }
    for target in [2, 0, 1] {
      let before = asked.value.answers
      try cluster.until("it is asked") { asked.value.answers > before + 3 }
      try cluster.ask([(slot, target)])
      try cluster.moved([(slot, target)])
    }
    asked.change { $0.isOver = true }
    _ = ended.take(timeout: .seconds(20))
    let (answers, faults, _) = asked.value
    // Whoever asks on the way may have to ask again; nothing else goes wrong.
    #expect(faults.allSatisfy { $0 == .unavailable || $0 == .rateLimited })
    let kept = answers - faults.count
    func keys(_ place: Int) throws -> Int {
      guard case .keys(let list) = try ask(cluster, place, .listKeys(org: org)).get() else {
        throw Fault(.internal)
      }
      return list.count
    }
    for place in 0..<3 { #expect(try keys(place) == kept + 1) }
    for place in [0, 2] {
      let left = try SlotRows.accounts(slot).reduce(0) {
        $0 + (try cluster.nodes[place].store.rows(in: $1, limitBytes: .max).count)
      }
      #expect(left == 0)
    }
    cluster.stop(1)
    try cluster.start(again: 1)
    try cluster.settle()
    // The others hear where it is now within a second.
    try cluster.until("it is asked where it is now") { (try? keys(2)) != nil }
    #expect(try keys(2) == kept + 1)
  }

  private func ask(
    _ cluster: MovingCluster, _ place: Int, _ action: TokenAction,
    _ caller: TokenCaller = .admin(actor: "test")
  ) -> Result<TokenReply, Fault> {
    let answer = Handoff<Result<TokenReply, Fault>>()
    let node = cluster.nodes[place]
    node.authority.submit(TokenRequest(caller, action), from: node.loops[1]) { answer.put($0) }
    guard case .element(let result) = answer.take(timeout: .seconds(20)) else {
      return .failure(Fault(.deadlineExceeded))
    }
    return result
  }

  @Test(
    "A slot whose last owner is gone before it sent all begins empty at its new one, and is served")
  func lost() throws {
    let cluster = try MovingCluster()
    let channel = try filled(cluster, at: 1, 500)
    cluster.slow(1)
    let slot = cluster.slot(channel)
    try cluster.ask([(slot, 2)])
    try cluster.until("pages are sent") { cluster.facts(1).bytesSent > 600_000 }
    #expect(cluster.facts(1).seals == 0)
    cluster.stop(1)
    try cluster.lose(1)
    try cluster.settle()
    #expect(cluster.place(of: slot) == 2 && cluster.logged("begins empty"))
    let publisher = try MovingPublisher(cluster.nodes[0], channel, "anew")
    try cluster.until("it is published to") { publisher.count >= 8 }
    let (places, refusals, open, _) = publisher.finish()
    #expect(places == (0..<places.count).map { UInt64($0 + 1) } && refusals.isEmpty && open == 0)
    // Had it ended before the copy's row was removed, its next run would not begin empty once more.
    let id = SlotMoveID(
      slot: slot, attempt: 1, epoch: cluster.map.epoch(of: slot) - 1, source: NodeID(2),
      target: NodeID(3))
    cluster.stop(2)
    let store = try Store(path: cluster.data(2))
    var set = WriteSet()
    set.put(
      .meta, key: SlotMoveRow.copyKey(slot),
      value: SlotMoveRow.value(SlotMoveRow.Copy(nothingOf: id, run: 1)))
    try write(set, store)
    try store.close()
    try cluster.start(again: 2)
    try cluster.settle()
    for node in cluster.living {
      let reader = try MovingReader(node, channel, follow: false)
      try reader.read(.max)
      #expect(reader.sequences == places)
    }
    #expect(try cluster.nodes[2].store.get(.meta, key: SlotMoveRow.copyKey(slot)) == nil)
  }

  @Test("What comes with a good checksum and is no call, or one with foreign keys, is refused")
  func mutated() throws {
    let channel = ChannelID(family: .skytale, name: "acme/t/x")
    let id = SlotMoveID(
      slot: channel.slot, attempt: 9, epoch: 3, source: NodeID(1), target: NodeID(2))
    let seal = SlotSeal(run: 4, count: 2)
    let rows = (1...3).map {
      SlotMoveCall.LogRow(
        index: UInt64($0), key: RecordKey.key(channel, UInt64($0)), record: $0 == 2 ? nil : [1, 2])
    }
    let head = Row(key: HeadRow.key(channel), value: HeadRow().encoded)
    let bodies: [SlotMoveCall.Body] = [
      .message(.offer(head: 7)), .message(.sealed(at: 7, seal: seal)), .message(.opened),
      .log(from: 1, through: 4, rows),
      .rows(seal, page: 1, isLast: true, [SlotMoveCall.TableRow(table: .state, row: head)]),
    ]
    var word: UInt64 = 88_172_645_463_325_252
    func random(_ bound: Int) -> Int {
      word ^= word << 13
      word ^= word >> 7
      word ^= word << 17
      return Int(word % UInt64(bound))
    }
    var taken = 0
    for body in bodies {
      let whole = SlotMoveCall(id: id, run: 5, body).encoded
      #expect(try SlotMoveCall(whole) == SlotMoveCall(id: id, run: 5, body))
      for _ in 0..<4_000 {
        var bytes = Array(whole.dropLast(8))
        switch random(3) {
        case 0: bytes[random(bytes.count)] = UInt8(random(256))
        case 1: bytes.removeLast(random(bytes.count))
        default: bytes.append(contentsOf: bytes.prefix(random(bytes.count)))
        }
        let sum = bytes.withUnsafeBytes { xxh3_128($0).low }
        bytes += bigEndianBytes(sum)
        guard let read = try? SlotMoveCall(bytes) else { continue }
        taken += 1
        #expect(read.encoded == bytes)
        if case .log(_, _, let rows) = read.body {
          #expect(rows.allSatisfy { SlotRange(.records, slot: read.id.slot).holds($0.key) })
        }
      }
    }
    #expect(taken > 100)
  }

  @Test(
    "Pages that are damaged, of another slot, out of their turn, or of another node are refused")
  func refused() throws {
    let cluster = try MovingCluster()
    let channel = try filled(cluster, at: 1, 3)
    let slot = cluster.slot(channel)
    func ask(_ from: Int, _ bytes: [UInt8]) -> FaultCode? {
      let answer = Handoff<FaultCode?>()
      let source = cluster.nodes[from].cluster!
      source.calls.call(
        NodeID(3), SlotMoves.method, bytes, timeout: .seconds(5), on: cluster.nodes[from].loops[1]
      ) { result in
        if case .failure(let fault) = result { answer.put(fault.code) } else { answer.put(nil) }
      }
      guard case .element(let code) = answer.take(timeout: .seconds(10)) else { return .internal }
      return code
    }
    let id = SlotMoveID(
      slot: slot, attempt: cluster.map.revision, epoch: cluster.map.epoch(of: slot),
      source: NodeID(2), target: NodeID(3))
    let key = RecordKey.key(ChannelID(family: .skytale, name: channel), 1)
    let row = SlotMoveCall.LogRow(index: 1, key: key, record: [1, 2, 3])
    let page = SlotMoveCall(id: id, run: 5, .log(from: 1, through: 1, [row]))
    #expect(try SlotMoveCall(page.encoded) == page)
    // Well made, and not of any hand-over.
    #expect(ask(1, page.encoded) == .conflict)
    #expect(ask(0, page.encoded) == .forbidden)
    // Every bit counts.
    for at in 0..<page.encoded.count * 8 {
      var bytes = page.encoded
      bytes[at / 8] ^= 1 << UInt8(at % 8)
      #expect(throws: (any Error).self) { try SlotMoveCall(bytes) }
    }
    var flipped = page.encoded
    flipped[60] ^= 1
    #expect(ask(1, flipped) == .badRequest)
    var foreign = id
    foreign.slot ^= 1
    #expect(
      ask(1, SlotMoveCall(id: foreign, run: 5, .log(from: 1, through: 1, [row])).encoded)
        == .badRequest)
    #expect(try rows(cluster.nodes[2], slot) == 0)
  }
}
