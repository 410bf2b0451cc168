internal import Base
internal import Codec
internal import Grpc
internal import Http
internal import Loop
internal import Messages
internal import Report
internal import Synchronization
import Testing

@Suite("gRPC over h2c", .timeLimit(.minutes(2))) struct GrpcTests {
  private func start(
    _ endpoint: Endpoint = .tcp(host: "127.0.0.1", port: 0), loops: Int = 1,
    settings: Http2Settings = .init()
  ) throws -> (Rig, GrpcBlockingClient) {
    let rig = try Rig(loops: loops, settings: settings)
    let listener = try rig.server.listen(endpoint)
    rig.endpoint = listener.endpoint
    return (rig, try GrpcBlockingClient(listener.endpoint))
  }

  private func failure(_ body: () throws(GrpcError) -> Void) -> GrpcError? {
    do throws(GrpcError) {
      try body()
      return nil
    } catch {
      return error
    }
  }

  @Test("unary calls answer, fail with a fault of the catalogue, and are refused") func unary()
    throws
  {
    let (rig, client) = try start()
    defer { withExtendedLifetime(rig) {} }
    #expect(try client.unary("/t.T/Reverse", [1, 2, 3]) == [3, 2, 1])
    let empty = failure { () throws(GrpcError) in _ = try client.unary("/t.T/Reverse", []) }
    #expect(empty?.status == .invalidArgument && empty?.code == "bad_request")
    let unknown = failure { () throws(GrpcError) in _ = try client.unary("/t.T/None", [1]) }
    #expect(unknown?.status == .unimplemented)
    let refused = failure { () throws(GrpcError) in _ = try client.unary("/t.T/Refused", [1]) }
    #expect(refused?.status == .permissionDenied && refused?.message == "no: 100 %")
  }

  @Test(
    "A long error text is cut between characters and arrives", arguments: ["a", "ä", "€", "🙂", "%"])
  func longText(_ letter: String) throws {
    let (rig, client) = try start()
    defer { withExtendedLifetime(rig) {} }
    let said = failure { () throws(GrpcError) in
      _ = try client.unary("/t.T/Wordy", Array(letter.utf8))
    }
    let text = said?.message ?? ""
    #expect(said?.status == .invalidArgument && said?.code == "bad_request")
    #expect(text.hasSuffix(letter + "..."))
    #expect(!text.contains("\u{fffd}"))
    #expect((Limits.grpcMessageBytes - 3...Limits.grpcMessageBytes).contains(text.utf8.count))
  }

  @Test("Calls that end as they should are no resets: as many as one likes go over one connection")
  func manyCalls() throws {
    var settings = Http2Settings()
    settings.maximumStreams = 8
    let (rig, client) = try start(settings: settings)
    defer { withExtendedLifetime(rig) {} }
    let allowed = settings.maximumStreams + Limits.resetsPerSecond
    for _ in 0..<allowed * 10 {
      #expect(try client.unary("/t.T/Reverse", [1, 2, 3]) == [3, 2, 1])
    }
  }

  @Test("messages of every size come back", arguments: [0, 1, 16_379, 16_384, 100_000, 4 << 20])
  func sizes(size: Int) throws {
    let (rig, client) = try start()
    defer { withExtendedLifetime(rig) {} }
    let body = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    let stream = client.bidi("/t.T/Echo", timeout: .seconds(30))
    for _ in 0..<3 { stream.send(body) }
    stream.halfClose()
    for _ in 0..<3 { #expect(try stream.next() == body) }
    #expect(try stream.next() == nil)
    #expect(stream.trailers.contains { $0 == ("x-done", "yes") })
  }

  @Test("a message over the limit ends the call before it is buffered") func tooLarge() throws {
    let (rig, client) = try start()
    defer { withExtendedLifetime(rig) {} }
    let stream = client.bidi("/t.T/Small", timeout: .seconds(10))
    stream.send([UInt8](repeating: 0, count: 11))
    let error = failure { () throws(GrpcError) in _ = try stream.next() }
    #expect(error?.status == .resourceExhausted)
  }

  @Test("a deadline ends the call on both sides") func deadline() throws {
    let (rig, client) = try start()
    let stream = client.bidi("/t.T/Silent", timeout: .milliseconds(50))
    let error = failure { () throws(GrpcError) in _ = try stream.next() }
    #expect(error?.status == .deadlineExceeded)
    #expect(poll { rig.log.withLock { $0.filter { $0.hasPrefix("closed") }.count } == 1 })
  }

  @Test("cancelling reaches the handler exactly once") func cancel() throws {
    let (rig, client) = try start()
    let stream = client.bidi("/t.T/Silent")
    stream.send([1, 2, 3])
    #expect(poll { rig.log.withLock { $0.contains("message 3") } })
    stream.cancel()
    #expect(poll { rig.log.withLock { $0.contains("closed reset (8)") } })
    let error = failure { () throws(GrpcError) in _ = try stream.next() }
    #expect(error?.status == .cancelled)
    #expect(rig.log.withLock { $0.filter { $0.hasPrefix("closed") }.count } == 1)
  }

  @Test("a lost connection ends calls on both sides") func lost() throws {
    let (rig, client) = try start()
    let stream = client.bidi("/t.T/Silent")
    stream.send([1])
    #expect(poll { rig.log.withLock { $0.contains("message 1") } })
    client.close()
    let error = failure { () throws(GrpcError) in _ = try stream.next() }
    #expect(error?.status == .unavailable)
    #expect(poll { rig.log.withLock { $0.contains("closed connection lost") } })
    #expect(try client.unary("/t.T/Reverse", [1, 2]) == [2, 1], "the next call connects again")
  }

  @Test("a paused stream slows its sender and loses nothing") func backPressure() throws {
    let (rig, client) = try start()
    let stream = client.bidi("/t.T/Paused", timeout: .seconds(60))
    let frame = framed([UInt8](repeating: 5, count: 64 << 10))
    // More than window, queue and socket hold together.
    let total = 400
    let done = Handoff<Int>()
    let sender = try EventLoop.start(index: 9, name: "sender")
    defer { sender.stop() }
    sender.post {
      for _ in 0..<total { stream.send(framed: frame) }
      stream.halfClose()
      done.put(total)
    }
    #expect(poll { rig.held.withLock { $0.count } == 1 })
    let call = try #require(rig.held.withLock { $0.first })
    // The window is used up: the handler got nothing, and what is held is bounded by the window.
    #expect(poll { call.loop.call { call.unconsumed } ?? 0 >= Limits.streamWindowBytes - 70_000 })
    #expect(call.loop.call { call.unconsumed } ?? .max <= Limits.streamWindowBytes + 65_536)
    if case .element = done.take(timeout: .milliseconds(100)) {
      Issue.record("the sender was not slowed")
    }
    call.loop.post { call.resumeReading() }
    var got = 0
    while let message = try stream.next(timeout: .seconds(20)) {
      #expect(message.count == 64 << 10)
      got += 1
    }
    #expect(got == total)
  }

  @Test("a fast server keeps its queue bounded and delivers everything") func drained() throws {
    let (rig, client) = try start()
    defer { withExtendedLifetime(rig) {} }
    let stream = client.serverStream("/t.T/Flood", [1], timeout: .seconds(60))
    var got = 0
    while let message = try stream.next() { got += message.count }
    #expect(got == 1_000 * 65_536)
  }

  @Test("connections spread over the loops, also on a Unix socket") func spread() throws {
    let path = "/tmp/posthouse-test-\(UInt32.random(in: 0 ... .max)).sock"
    let rig = try Rig(loops: 2)
    let listener = try rig.server.listen(.unix(path: path))
    defer { listener.close() }
    let clients = try (0..<4).map { _ in try GrpcBlockingClient(.unix(path: path)) }
    for client in clients { client.bidi("/t.T/Silent").send([1]) }
    #expect(poll { rig.held.withLock { $0.count } == 4 })
    let indexes = rig.held.withLock { $0.map { $0.loop.index } }
    #expect(indexes.filter { $0 == 0 }.count == 2)
    #expect(rig.held.withLock { $0.allSatisfy { $0.peer.isUnix && $0.peer.user != nil } })
    // A second server must not take a living socket away.
    #expect(throws: SocketError.self) { _ = try rig.server.listen(.unix(path: path)) }
  }

  @Test("draining lets calls go on and refuses new ones") func drain() throws {
    let (rig, client) = try start()
    let stream = client.bidi("/t.T/Echo")
    stream.send([1])
    #expect(try stream.next() == [1])
    rig.server.drain()
    stream.send([2])
    #expect(try stream.next() == [2])
    stream.halfClose()
    #expect(try stream.next() == nil)
    #expect(poll { rig.server.sessionCount.load(ordering: .relaxed) == 0 })
    let error = failure { () throws(GrpcError) in
      _ = try client.unary("/t.T/Reverse", [1], timeout: .seconds(5))
    }
    #expect(error?.status == .unavailable)
  }

  @Test("closing all ends every call with the status") func closeAll() throws {
    let (rig, client) = try start()
    let streams = (0..<10).map { _ in client.bidi("/t.T/Silent") }
    for stream in streams { stream.send([1]) }
    #expect(poll { rig.held.withLock { $0.count } == 10 })
    rig.server.closeAll(.unavailable, "going")
    for stream in streams {
      let error = failure { () throws(GrpcError) in _ = try stream.next() }
      #expect(error?.status == .unavailable && error?.message == "going")
    }
    #expect(poll { rig.server.sessionCount.load(ordering: .relaxed) == 0 })
  }

  @Test("a quiet peer that answers pings is kept, one that does not is cut") func keepalive() throws
  {
    var settings = Http2Settings()
    settings.keepalive = .milliseconds(50)
    settings.keepaliveTimeout = .milliseconds(50)
    let (rig, client) = try start(settings: settings)
    let stream = client.bidi("/t.T/Echo")
    stream.send([1])
    #expect(try stream.next() == [1])
    let before = TransportCounts.shared.keepaliveTimeouts.load(ordering: .relaxed)
    // Speaks the preface and then never again.
    let deaf = try EventLoop.start(index: 8, name: "deaf")
    defer { deaf.stop() }
    let endpoint = try #require(rig.endpoint)
    deaf.post {
      _ = try? Connection.dial(endpoint, on: deaf, wire: nil, driver: DeafClient())
    }
    #expect(
      poll { TransportCounts.shared.keepaliveTimeouts.load(ordering: .relaxed) > before })
    stream.send([2])
    #expect(try stream.next() == [2])
  }

  @Test("health tells states and changes") func health() throws {
    let rig = try Rig()
    let health = HealthServer()
    health.register(on: rig.server)
    health.set("a", .serving)
    let client = try GrpcBlockingClient(
      try rig.server.listen(.tcp(host: "127.0.0.1", port: 0)).endpoint)
    var request = HealthCheckRequest()
    request.service = "a"
    let watch = client.serverStream(HealthService.watch.path, request.encoded())
    #expect(try watch.next(HealthCheckResponse.self)?.status == .serving)
    health.setAll(.notServing)
    #expect(try watch.next(HealthCheckResponse.self)?.status == .notServing)
    let now = try client.unary(HealthService.check, request, HealthCheckResponse.self)
    #expect(now.status == .notServing)
    watch.cancel()
  }

  @Test("reflection names the files a symbol needs, and refuses who may not ask") func reflection()
    throws
  {
    let rig = try Rig()
    ReflectionServer(services: ["grpc.health.v1.Health"]).register(on: rig.server) {
      $0.metadata("x-admin") != nil
    }
    let client = try GrpcBlockingClient(
      try rig.server.listen(.tcp(host: "127.0.0.1", port: 0)).endpoint)
    var request = ReflectionRequest()
    request.messageRequest = .fileContainingSymbol("grpc.health.v1.Health")
    let path = ReflectionService.serverReflectionInfo.path
    let refused = failure { () throws(GrpcError) in
      _ = try client.serverStream(path, request.encoded()).next()
    }
    #expect(refused?.status == .permissionDenied)
    let stream = client.serverStream(path, request.encoded(), metadata: [("x-admin", "1")])
    let answer = try #require(try stream.next(ReflectionResponse.self))
    guard case .fileDescriptorResponse(let files)? = answer.messageResponse else {
      Issue.record("no file in \(answer)")
      return
    }
    #expect(files.fileDescriptorProto.count == 1)
  }
}

/// Sends the HTTP/2 preface and empty SETTINGS, answers nothing.
private final class DeafClient: ConnectionDriver {
  override func receiveOpened() {
    connection.output.append(utf8: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    connection.output.append([0, 0, 0, 4, 0, 0, 0, 0, 0])
    connection.markDirty()
  }
}
