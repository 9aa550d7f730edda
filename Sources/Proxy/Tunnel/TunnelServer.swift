/// A connection of another node, or of another pod here, to an enrolled pod of this node. Each stream is a connection
/// to a port of the pod.
import Addressing
import Balancing
import CertificateAuthority
import HTTP2Wire
import NIOCore
import NIOSSL
import RouteIR

final class TunnelServer: HTTP2Connection, ClientConnection {
    let arrival: Arrival
    let pod: IPAddress
    /// Whose certificate was shown here, and there.
    let own: WorkloadIdentity
    let client: WorkloadIdentity
    /// Since when the client knows that it shall open no more streams.
    private var drainedAt: Moment?
    private var isLast = false
    private var idleSince: Moment
    private var pulse: Pulse
    private var ownHeld = 0
    private var pending = 0
    private var size = MemoryLimits.http2Connection

    init(_ shard: Shard, _ arrival: Arrival, of pod: IPAddress, own: WorkloadIdentity, client: WorkloadIdentity) {
        (self.arrival, self.pod, self.own, self.client) = (arrival, pod, own, client)
        idleSince = shard.now
        pulse = Pulse(shard.now)
        super.init(shard, .server) { Tunnel.limit(&$0) }
    }

    override var sendsDirectly: Bool { false }

    override func began(_ context: ChannelHandlerContext) {
        super.began(context)
        try? context.channel.syncOptions?.setOption(.writeBufferWaterMark, value: ReadSizes.unreadFrames)
        shard.opened(self)
        hold(size)
    }
    override func closed() {
        hold(-ownHeld)
        shard.dismiss(arrival)
        shard.closed(self)
    }

    // MARK: On the client's account

    private func hold(_ bytes: Int) {
        ownHeld += bytes
        shard.hold(bytes, arrival)
    }
    override func queuedChanged(by bytes: Int) { shard.hold(bytes, arrival) }
    override func pendingChanged(to bytes: Int) {
        hold(bytes - pending)
        pending = bytes
    }
    var held: Int { arrival.held }
    var source: MemorySource { arrival.source }
    override var readsAlways: Bool { false }
    override var unread: Int { max(0, arrival.held - ownHeld - queued) }

    // MARK: From the client

    override func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        pulse.heard(shard.now)
        super.channelRead(context: context, data: data)
    }
    override func opened(_ id: UInt32) -> HTTP2Stream? { ServerTunnelStream(id, on: self) }
    override func malformed(_ id: UInt32, _ fault: HTTP2Fault) {
        let stream = ServerTunnelStream(id, on: self)
        add(stream)
        stream.refuse(400, TunnelRefusal(.badRequest, "CONNECT cannot be read: \(fault.kind.rawValue)"))
    }
    override func violated(_ fault: HTTP2Fault) { shard.stats.violations[fault.kind.rawValue, default: 0] += 1 }
    override func streamEnded() {
        idleSince = shard.now
        if isLast, streams.isEmpty { end() }
    }

    // MARK: The end

    func drain() {
        guard drainedAt == nil else { return }
        drainedAt = shard.now
        // First without a limit: what the client opens meanwhile is served (RFC 9113, 6.8).
        machine.beginShutdown()
        flushLater()
    }
    private func stopAccepting() {
        isLast = true
        machine.finishShutdown()
        flushLater()
        if streams.isEmpty { end() }
    }
    private func end() { shard.loop.assumeIsolated().execute { if self.streams.isEmpty { self.closeAfterSending() } } }
    func abort() { cut() }

    func checkDeadline(_ now: Moment) {
        returnHeldWindows()
        let size = max(MemoryLimits.http2Connection, machine.memory)
        hold(size - self.size)
        self.size = size
        if let drainedAt, !isLast, now.since(drainedAt) >= .seconds(1) { stopAccepting() }
        // The client's node ends what rests; this is for one that does not.
        if streams.isEmpty, now.since(idleSince) > Tunnel.idleTimeout * 2 { drain() }
        switch pulse.tick(now) {
        case .ask:
            machine.ping(now.nanoseconds)
            flushLater()
        case .dead: cut()
        case .alive: break
        }
    }
}

/// One connection to the pod.
final class ServerTunnelStream: TunnelStream {
    private var server: TunnelServer? { connection as? TunnelServer }

    override func receivedHead(_ facts: HeadFacts, isLast: Bool) {
        guard let server, user == nil else { return }
        do throws(TunnelRefusal) {
            let request = try ConnectHead(server.shard.fields, facts)
            try accept(request, on: server)
            if isLast { user?.inputEnded() }
        } catch { refuse(error.kind == .application ? 503 : 400, error) }
    }

    private func accept(_ request: ConnectHead, on server: TunnelServer) throws(TunnelRefusal) {
        let shard = server.shard
        let pods = shard.table.snapshot.meshPods
        // Whatever is dialled here is at the pod that was dialled: a tunnel leads nowhere else.
        guard let entry = pods[server.pod], request.target.address == server.arrival.dialled.address,
            pods[request.target.address]?.uid == entry.uid
        else {
            throw TunnelRefusal(
                .badRequest, "CONNECT \(request.target) came to \(server.arrival.dialled.address), which is no such pod"
            )
        }
        guard !Tunnel.ownPorts.contains(request.target.port), request.target.port != shard.options.tunnelPort else {
            throw TunnelRefusal(.badRequest, "CONNECT to port \(request.target.port): the tunnel would come back")
        }
        let end = RelayStream(self)
        let relay = Relay(shard, server.arrival, client: end, flow(request, on: server))
        let client = relay.flow.client
        Connector.connect(toPod: request.target, for: client, within: Tunnel.connectTimeout, on: shard) { result in
            switch result {
            case .success(let socket):
                guard !relay.isOver else { return socket.reset() }
                self.open()
                relay.start(socket)
            case .failure(let failure):
                let refusal = TunnelRefusal(.application, failure.reason)
                self.user = nil
                self.refuse(503, refusal, isRecorded: true)
                relay.fail(refusal)
            }
        }
    }

    private func open() {
        guard let shard = server?.shard else { return }
        shard.heads.setTunnelAnswer()
        let answer = shard.heads.list
        try? sendHead(answer, isLast: false)
    }

    /// `isRecorded`: a relay has it in its record.
    func refuse(_ status: UInt16, _ refusal: TunnelRefusal, isRecorded: Bool = false) {
        guard let server else { return }
        let shard = server.shard
        if !isRecorded { shard.refusedTunnel(refusal, "from \(server.client) to \(server.pod)") }
        shard.heads.setAnswer(status)
        let answer = shard.heads.list
        try? sendHead(answer, isLast: true)
        resetAfterSending(.noError)
    }

    private func flow(_ request: ConnectHead, on server: TunnelServer) -> FlowRecord {
        let table = server.shard.table
        let peer = server.arrival.peer.address
        // What the client's node says of the client counts only where it says whose identity it has shown.
        let claimed = request.client.flatMap { claim in
            table.isWorkload(claim.address, server.client) ? claim : nil
        }
        var flow = FlowRecord(.inbound, began: server.shard.now, client: claimed ?? peer, dialled: request.target)
        flow.source =
            table.isWorkload(flow.client.address, server.client) ? table.workload(at: flow.client.address) : nil
        flow.destination = table.workload(at: request.target.address)
        flow.serviceHost = request.service
        flow.sourceIdentity = server.client
        flow.destinationIdentity = server.own
        flow.tunnel = server.arrival.dialled
        return flow
    }
}
