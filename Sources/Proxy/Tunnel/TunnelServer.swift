/// A connection of another node, or of another pod here, to an enrolled pod of this node. Each stream is a connection
/// to a port of the pod.
import Addressing
import Balancing
import CertificateAuthority
import HTTP2Wire
import NIOCore
import NIOSSL
import ProxyProtocol
import RouteIR

final class TunnelServer: HTTP2ServerConnection {
    private let ownPod: IPAddress
    override var pod: IPAddress { ownPod }
    /// Whose certificate was shown here, and there.
    let own: WorkloadIdentity
    var client: TunnelPeer
    /// Since when the client knows that it shall open no more streams.
    private var drainedAt: Moment?
    private var isLast = false
    private var idleSince: Moment
    private var pulse: Pulse

    init(_ shard: Shard, _ arrival: Arrival, of pod: IPAddress, own: WorkloadIdentity, client: TunnelPeer) {
        (ownPod, self.own, self.client) = (pod, own, client)
        idleSince = shard.now
        pulse = Pulse(shard.now)
        super.init(shard, arrival) { Tunnel.limit(&$0) }
    }

    override var sendsDirectly: Bool { false }
    /// Relays are on the same account with what they keep beside the stream.
    override var unread: Int { max(0, super.unread) }

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

    func policiesChanged() {
        for stream in streams.values { (stream as? ServerTunnelStream)?.policiesChanged(on: shard) }
    }

    // MARK: The end

    override func drain() {
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
    override func abort() { context?.channel.cut() }

    override func checkDeadline(_ now: Moment) {
        super.checkDeadline(now)
        if let drainedAt, !isLast, now.since(drainedAt) >= .seconds(1) { stopAccepting() }
        // The client's node ends what rests; this is for one that does not.
        if streams.isEmpty, now.since(idleSince) > Tunnel.idleTimeout * 2 { drain() }
        switch pulse.tick(now) {
        case .ask:
            machine.ping(now.nanoseconds)
            flushLater()
        case .dead: context?.channel.cut()
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
        } catch { refuse(error.status, error) }
    }

    private func accept(_ request: ConnectHead, on server: TunnelServer) throws(TunnelRefusal) {
        let shard = server.shard
        try checkClient(of: server)
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
        let flow = flow(request, on: server)
        do throws(TunnelRefusal) { try shard.table.admit(flow) } catch {
            return deny(flow, error, on: server)
        }
        let end = RelayStream(self)
        let relay = Relay(shard, server.arrival, client: end, flow)
        let client = relay.flow.client
        Connector.connect(toPod: request.target, for: client, within: Tunnel.connectTimeout, on: shard) { result in
            switch result {
            case .success(let socket):
                guard !relay.isOver else { return socket.reset() }
                self.open()
                if entry.headerPorts.contains(request.target.port) { socket.send(relay.flow.proxyHeader) }
                relay.start(socket)
            case .failure(let failure):
                let refusal = TunnelRefusal(.application, failure.reason)
                self.user = nil
                self.refuse(503, refusal, isRecorded: true)
                relay.fail(refusal)
            }
        }
    }

    /// A connection may be older than what is believed: its certificate has ended, or its trust domain counts no more.
    private func checkClient(of server: TunnelServer) throws(TunnelRefusal) {
        do throws(TunnelRefusal) { try server.checkClient() } catch {
            server.drain()
            throw error
        }
    }

    private func open() {
        guard let shard = server?.shard else { return }
        shard.heads.setTunnelAnswer()
        let answer = shard.heads.list
        try? sendHead(answer, isLast: false)
    }

    private func deny(_ flow: FlowRecord, _ refusal: TunnelRefusal, on server: TunnelServer) {
        var flow = flow
        (flow.refusal, flow.ended) = (refusal, server.shard.now)
        server.shard.finish(flow)
        refuse(refusal.status, refusal)
    }

    /// `isRecorded`: a relay has it in its record.
    func refuse(_ status: UInt16, _ refusal: TunnelRefusal, isRecorded: Bool = false) {
        guard let server else { return }
        let shard = server.shard
        if !isRecorded { shard.refusedTunnel(refusal, "from \(server.client.identity) to \(server.pod)") }
        shard.heads.setAnswer(status)
        let answer = shard.heads.list
        try? sendHead(answer, isLast: true)
        resetAfterSending(.noError)
    }

    private func flow(_ request: ConnectHead, on server: TunnelServer) -> FlowRecord {
        let (table, identity) = (server.shard.table, server.client.identity)
        let peer = server.arrival.peer.address
        // What the client's node says of the client counts only where it says whose identity it has shown.
        let claimed = request.client.flatMap { claim in
            table.isWorkload(claim.address, identity) ? claim : nil
        }
        var flow = FlowRecord(.inbound, began: server.shard.now, client: claimed ?? peer, dialled: request.target)
        flow.source =
            table.isWorkload(flow.client.address, identity) ? table.workload(at: flow.client.address) : nil
        flow.destination = table.workload(at: request.target.address)
        flow.serviceHost = request.service
        flow.sourceIdentity = identity
        flow.destinationIdentity = server.own
        flow.tunnel = server.arrival.dialled
        return flow
    }
}

extension FlowRecord {
    /// What the application hears of the client before the client's first byte.
    fileprivate var proxyHeader: ByteBuffer {
        ByteBuffer(bytes: ProxyHeader(from: client, to: dialled, identity: sourceIdentity?.description).bytes)
    }
}
