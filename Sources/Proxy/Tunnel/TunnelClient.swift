/// A connection to the tunnel port of a pod: streams of one source identity to one destination identity.
import Addressing
import Balancing
import CertificateAuthority
import HTTP2Wire
import NIOCore
import NIOSSL
import RouteIR

final class TunnelClient: HTTP2Connection {
    let route: TunnelRoute
    /// What it was made with: a newer certificate begins with a newer connection.
    let credential: TunnelCredentials.Context
    unowned let pool: TunnelPool
    private var waiting: [TunnelRequest] = []
    /// What the server allows; until it has said so, what everybody does.
    private var maximumStreams = Tunnel.streams
    /// nil: it is being made.
    private var link: Connector.Link?
    private var isClosed = false
    private(set) var isDraining = false
    private(set) var peer: TunnelPeer?
    var lastRefusal: TunnelRefusal?
    private var idleSince: Moment
    private var pulse: Pulse
    /// Anything behind TLS.
    private var hasHeard = false

    init(_ route: TunnelRoute, _ credential: TunnelCredentials.Context, _ pool: TunnelPool, _ shard: Shard) {
        (self.route, self.credential, self.pool) = (route, credential, pool)
        idleSince = shard.now
        pulse = Pulse(shard.now)
        super.init(shard, .client) {
            Tunnel.limit(&$0)
            $0.unread = .max
        }
    }

    override var sendsDirectly: Bool { false }

    var streamCount: Int { streams.count + waiting.count }
    var hasRoom: Bool { !isDraining && !isClosed && machine.acceptsStreams && streamCount < maximumStreams }

    // MARK: Connecting

    func connect() {
        let name = route.destination
        TunnelSocket.connect(
            from: route.source.pod, to: SocketAddress(route.address, shard.options.tunnelPort), on: shard
        ) { [self] channel in
            let tls = try NIOSSLClientHandler(context: credential.tls, serverHostname: nil)
            let shard = shard
            try channel.pipeline.syncOperations.addHandlers(
                tls,
                TunnelHandshake(tls, roots: credential.roots) { facts throws(TunnelRefusal) in
                    guard let mesh = shard.table.snapshot.mesh else {
                        throw .noMesh
                    }
                    return try PeerCheck.server(facts, name, mesh, at: wallClock())
                } then: { result in
                    self.shookHands(result, on: channel)
                })
        } failed: { refusal in
            self.failed(refusal)
        }
    }

    private func shookHands(_ result: Result<TunnelPeer, TunnelRefusal>, on channel: any Channel) {
        do throws(TunnelRefusal) {
            peer = try result.get()
            try checkServer()
            guard !isClosed else { return channel.close(promise: nil) }
            do { try channel.pipeline.syncOperations.addHandler(self) } catch {
                throw TunnelRefusal(.connect, "the connection ended")
            }
        } catch { failed(error) }
    }

    /// Whether the server is still the one that was meant.
    func checkServer() throws(TunnelRefusal) {
        guard let mesh = shard.table.snapshot.mesh, let facts = peer?.facts else { throw .noMesh }
        _ = try PeerCheck.server(facts, route.destination, mesh, at: wallClock())
        try peer?.checkRoots(on: shard)
    }

    override func began(_ context: ChannelHandlerContext) {
        super.began(context)
        try? context.channel.syncOptions?.setOption(.writeBufferWaterMark, value: ReadSizes.unreadFrames)
        let link = Connector.Link(context.channel)
        self.link = link
        pulse = Pulse(shard.now)
        let waiting = waiting
        self.waiting = []
        for request in waiting where !request.isOver { open(request, link) }
    }
    private func failed(_ refusal: TunnelRefusal) {
        guard !isClosed else { return }
        isClosed = true
        lastRefusal = refusal
        shard.refusedTunnel(refusal, "to \(route.destination) at \(route.address)")
        pool.closed(self)
        turnAway(refusal)
    }
    private func turnAway(_ refusal: TunnelRefusal) {
        let waiting = waiting
        self.waiting = []
        for request in waiting { request.finish(.failure(refusal)) }
    }

    // MARK: Streams

    func serve(_ request: TunnelRequest) {
        if let link { open(request, link) } else { waiting.append(request) }
    }
    private func open(_ request: TunnelRequest, _ link: Connector.Link) {
        let stream = ClientTunnelStream(request, on: self, link)
        do throws(SendRefusal) {
            stream.id = try machine.open(request.fields, isLast: false)
            add(stream)
            stream.wrote(isLast: false)
        } catch {
            // Not from inside whoever asks.
            shard.loop.assumeIsolated().execute {
                request.finish(.failure(TunnelRefusal(.connect, "the tunnel takes no stream: \(error)")))
            }
        }
    }

    override func receivedSettings() {
        maximumStreams = min(Tunnel.streams, machine.peer.maxConcurrentStreams.map { Int($0) } ?? Tunnel.streams)
    }
    override func receivedGoAway() { drain() }
    override func violated(_ fault: HTTP2Fault) {
        guard fault.stream == 0 else { return }
        isDraining = true
        lastRefusal = TunnelRefusal(.handshake, "the server's node broke the rules of HTTP/2: \(fault.kind.rawValue)")
    }
    override var unsentLimit: Int { 1 << 20 }
    override func streamEnded() {
        idleSince = shard.now
        if isDraining { endIfUnused() }
    }

    // MARK: The end

    /// Nothing new; it ends with its last stream.
    func drain() {
        if !isDraining {
            isDraining = true
            for stream in streams.values { (stream as? TunnelStream)?.user?.tunnelLeaves() }
        }
        endIfUnused()
    }
    private func endIfUnused() {
        guard streamCount == 0 else { return }
        shard.loop.assumeIsolated().execute { if self.streamCount == 0 { self.closeAfterSending() } }
    }
    /// Also what waits for it.
    func abort() {
        isDraining = true
        if let context { context.channel.cut() } else { failed(TunnelRefusal(.connect, "the pod is gone")) }
    }

    override func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        pulse.heard(shard.now)
        hasHeard = true
        super.channelRead(context: context, data: data)
    }
    /// In TLS 1.3 a server tells only now what it thinks of our certificate.
    override func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if lastRefusal == nil, error is NIOSSLError || error is BoringSSLError { lastRefusal = tlsRefusal("\(error)") }
        super.errorCaught(context: context, error: error)
    }
    override func closed() {
        guard !isClosed else { return }
        isClosed = true
        // What we have sent since can cost us the alert of a server that refuses our certificate. All others begin with
        // their settings.
        if lastRefusal == nil, !hasHeard, !isDraining {
            lastRefusal = TunnelRefusal(
                .refusedByPeer, "the peer ended the connection as soon as TLS was set up: \(refusedCertificate)")
        }
        if let lastRefusal { shard.refusedTunnel(lastRefusal, "to \(route.destination) at \(route.address)") }
        pool.closed(self)
        turnAway(lastRefusal ?? TunnelRefusal(.connect, "the server's node closed the tunnel"))
    }

    func tick(_ now: Moment) {
        guard link != nil, !isClosed else { return }
        if streamCount == 0, now.since(idleSince) > Tunnel.idleTimeout { return drain() }
        switch pulse.tick(now) {
        case .ask:
            machine.ping(now.nanoseconds)
            flushLater()
        case .dead:
            lastRefusal = TunnelRefusal(.connect, "nothing was heard of the server's node for \(Tunnel.silence)")
            context?.channel.cut()
        case .alive: break
        }
    }
}

/// Whether the other side of a connection is still there.
struct Pulse {
    enum Finding { case alive, ask, dead }
    private var heardAt: Moment
    private var askedAt: Moment?

    init(_ now: Moment) { heardAt = now }
    mutating func heard(_ now: Moment) { (heardAt, askedAt) = (now, nil) }
    mutating func tick(_ now: Moment) -> Finding {
        let silence = now.since(heardAt)
        if askedAt != nil, silence > Tunnel.silence { return .dead }
        guard silence >= Tunnel.pingInterval, askedAt == nil else { return .alive }
        askedAt = now
        return .ask
    }
}
