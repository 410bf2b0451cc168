import Base
import Codec
import Crypto
import Engine
import Grpc
import Http
import Loop
import Messages
import Report
import Settings
import Store
import Tls
import Token

/// Everything a node listens with.
struct Listeners {
  var agents: GrpcServer?
  var admin: GrpcServer?
  var http: HttpServer?
  var registry: GrpcServer?
  var cluster: GrpcServer?
  var adminListener: Listener?
  /// By the names of their settings, in the order in which a successor gets them.
  var named: [(name: String, listener: Listener)] = []
  var tls: [TlsServerContext] = []
}

extension NodeHost {
  func listen(_ serving: Serving, _ goOnWaiting: () -> Bool) throws(Fault) {
    do {
      try listenAdmin()
      if serving == .all, let cluster {
        readiness.setWaiting("not in the cluster yet")
        try listenCluster(cluster)
        try cluster.waitForMap(goOnWaiting)
        authority.cluster?.waitForKeys(goOnWaiting)
        readiness.setWaiting(nil)
      }
      // Before the first connection is taken: one that waited in the backlog is answered at once.
      readiness.setServing()
      if serving == .all {
        try listenAgents()
        try listenHttp()
        if let registryHost { try listenRegistry(registryHost) }
      }
    } catch let fault as Fault {
      throw fault
    } catch {
      throw Fault(.unavailable, "\(error)")
    }
    publicAddresses.value = addresses
    if serving == .all { store.noteServing() }
  }

  private func listenAdmin() throws {
    let server = GrpcServer(loops: loops)
    register(on: server, trusted: true)
    let socket = try inheritance.admin ?? ListenSocket(.unix(path: settings.adminSocket))
    listeners.adminListener = server.listen(
      socket,
      aside: GrpcServer.Aside(firstByte: TakeoverWords.firstByte) { [unowned self] in
        TakeoverDriver(self)
      })
    listeners.admin = server
    addresses.admin = settings.adminSocket
  }

  /// For a node that waits for its directory: what accepts agents the moment it has it, before the database in it is
  /// open. Agents that lost their connections to the node before are accepted on the sockets it left, and SLIM apps get
  /// their links; all else waits in order until `listenAgents`. Whatever takes time is done now.
  func prepareEarly() -> @Sendable () -> Void {
    let server = GrpcServer(loops: loops)
    let gate = register(on: server, trusted: false)
    let keys = Guarded<SigningKeySet?>(nil)
    server.holdCalls(
      early: [DataPlaneService.openChannel.path: { gate.openEarly($0, keys: keys.value) }])
    listeners.agents = server
    // The keys may change until then; what reads them is ready after the first time.
    _ = try? SigningKeys.load(path: settings.data + "/" + SigningKeys.fileName)
    return { [unowned self] in
      do {
        // Before anything that touches the disk.
        try listenAgents(server) { inheritance.sockets[$0] != nil }
        try loadSigningKeys()
        keys.value = signing.value.set
      } catch {
        log.warn("nothing is accepted before the store is open", ["why": .of("\(error)")])
      }
    }
  }

  private func listenAgents() throws {
    if let early = listeners.agents {
      let done = Set(listeners.named.map(\.name))
      try listenAgents(early) { !done.contains($0) }
      early.serveHeld()
      return
    }
    let server = GrpcServer(loops: loops)
    register(on: server, trusted: false)
    listeners.agents = server
    try listenAgents(server) { _ in true }
  }

  /// `which`: by the names of the settings.
  private func listenAgents(_ server: GrpcServer, _ which: (String) -> Bool) throws {
    if let place = settings.grpc, which("grpc") {
      addresses.grpc = try listen("grpc", place) {
        server.listen($0, block: settings.loopBlock)
      }
    }
    if let place = settings.grpcTls, which("grpc_tls") {
      let context = try tlsContext([.h2])
      addresses.grpcTls = try listen("grpc_tls", place) {
        server.listen($0, tls: { context.makeWire() }, block: settings.loopBlock)
      }
    }
  }

  private func listenHttp() throws {
    // The token engine lives on loop 0, and so do its callers.
    let front = HttpFront(node: self)
    let place = addresses.grpc.isEmpty ? addresses.grpcTls : addresses.grpc
    let server = HttpServer(
      loops: [loops[0]],
      grpcAnswer: "this is the HTTP API (setting http); gRPC is served at \(place) (setting grpc)"
    ) { _ in front }
    if let place = settings.http {
      addresses.http = try listen("http", place) { server.listen($0) }
    }
    if let place = settings.httpTls {
      let context = try tlsContext([.h2, .http11])
      addresses.httpTls = try listen("http_tls", place) {
        server.listen($0, tls: { context.makeWire() })
      }
    }
    listeners.http = server
  }

  private func listenRegistry(_ host: RegistryHost) throws {
    // Agents send the same fields with each heartbeat and look-up, and no credential.
    var http = Http2Settings()
    http.headerTableBytes = Limits.registryHeaderTableBytes
    let server = GrpcServer(loops: [host.loop], settings: http)
    RegistryRoutes(host: host).register(on: server)
    health.register(on: server)
    let services = [
      RegistryService.serviceName, FederationService.serviceName, HealthService.serviceName,
      ReflectionService.serviceName, ReflectionAlphaService.serviceName,
    ]
    for service in services { health.set(service, .serving) }
    let gate = StreamGate(node: self, trusted: false)
    ReflectionServer(services: services).register(on: server) { gate.isOperator($0) }
    if let place = settings.registryAddress {
      addresses.registry = try listen("registry.listen", place) { server.listen($0) }
    }
    if let place = settings.federationAddress, let files = settings.registry.tls {
      let context = try TlsServerContext(
        TlsFiles(
          certificate: files.certificate, key: files.key,
          clientAuthority: settings.registry.authority), protocols: [.h2])
      listeners.tls.append(context)
      addresses.federation = try listen("federation.listen", place) {
        server.listen($0, tls: { context.makeWire() })
      }
    }
    listeners.registry = server
  }

  /// Other nodes call here, all of them on loop 0.
  private func listenCluster(_ host: ClusterHost) throws {
    let server = GrpcServer(loops: [loops[0]], settings: LinkHost.httpSettings)
    host.calls.register(on: server, home: loops[0])
    links?.register(on: server)
    let tls = host.tls
    addresses.cluster = try listen("cluster.listen", host.settings.listen) {
      server.listen($0, tls: { tls.makeServerWire() }, maximumConnections: Limits.ringNodes * 4)
    }
    listeners.cluster = server
    guard let place = HostPort(addresses.cluster) else {
      throw Fault(.internal, "listening on \(addresses.cluster)")
    }
    host.open(at: place)
  }

  /// A directory is not made, nor keys in it, for a node that cannot listen. One that is there is opened first: that
  /// another node has it says more than that its addresses are in use.
  func bindBeforeData() throws(Fault) {
    guard !inheritance.mayWait, !Store.exists(at: settings.data) else { return }
    for (name, place) in settings.listening {
      if let place { bound[name] = try socket(name, place) }
    }
  }

  /// The inherited socket of this name, the one bound already, or a new one.
  private func socket(_ name: String, _ place: HostPort) throws(Fault) -> ListenSocket {
    if let known = inheritance.sockets[name] ?? bound.removeValue(forKey: name) { return known }
    let flag = SettingSchema.node(data: "", nodeName: "").key(name)?.flag
    let setting = "setting \(name)" + (flag.map { ", \($0)" } ?? "")
    guard let endpoint = Endpoint(place.description) else {
      throw Fault(.badSetting, "\(place) is no address to listen on (\(setting))")
    }
    do {
      return try ListenSocket(endpoint)
    } catch {
      throw Fault(.unavailable, "\(error) (\(setting))")
    }
  }

  private func listen(
    _ name: String, _ place: HostPort, _ make: (ListenSocket) -> Listener
  ) throws -> String {
    let listener = make(try socket(name, place))
    listeners.named.append((name, listener))
    return listener.endpoint.description
  }

  private func tlsContext(_ protocols: [ApplicationProtocol]) throws -> TlsServerContext {
    guard let files = settings.tls else {
      throw Fault(.badSetting, "a TLS listener wants --cert and --key")
    }
    let context = try TlsServerContext(
      TlsFiles(certificate: files.certificate, key: files.key), protocols: protocols)
    listeners.tls.append(context)
    return context
  }

  /// SIGHUP: new connections get the certificate that is in the files now.
  public func reloadCertificates() {
    if let cluster {
      do {
        try cluster.tls.reload()
        log.info("certificate of the cluster reloaded")
      } catch {
        log.error("the certificate of the cluster stays as it was", ["why": .of("\(error)")])
      }
    }
    for context in listeners.tls {
      do {
        try context.reload()
        log.info("certificate reloaded")
      } catch {
        log.error("the certificate stays as it was", ["why": .of("\(error)")])
      }
    }
  }

  // MARK: gRPC services

  @discardableResult
  private func register(on server: GrpcServer, trusted: Bool) -> StreamGate {
    let gate = StreamGate(node: self, trusted: trusted)
    let limits = GrpcLimits(messageBytes: Limits.messageBytes)
    server.register(DataPlaneService.openChannel, limits: limits) { call in
      gate.open(call) {
        DataPlaneSession(id: $0, shard: $1, principal: $2, kind: .skytale, call: call)
      }
    }
    server.register(ChannelService.publish, limits: limits) { call in
      gate.open(call) {
        PublishSession(id: $0, shard: $1, principal: $2, kind: .service, call: call)
      }
    }
    server.register(ChannelService.read, limits: limits) { call in
      gate.open(call) {
        ReadSession(id: $0, shard: $1, principal: $2, kind: .service, call: call)
      }
    }
    AdminRoutes(node: self, gate: gate).register(on: server)
    health.register(on: server)
    let services = [
      DataPlaneService.serviceName, ChannelService.serviceName, AdminService.serviceName,
      HealthService.serviceName, ReflectionService.serviceName, ReflectionAlphaService.serviceName,
    ]
    for service in services { health.set(service, .serving) }
    ReflectionServer(services: services).register(on: server) { gate.isOperator($0) }
    return gate
  }
}
