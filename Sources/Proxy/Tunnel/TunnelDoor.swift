/// Where tunnels of other nodes come in: a listening socket for each enrolled pod of this node, made by the agent in
/// the pod's network namespace. The certificate that is shown is the pod's.
import Addressing
import Balancing
import CertificateAuthority
import NIOCore
import NIOPosix
import NIOSSL
import RouteIR

enum TunnelListener {
    /// Takes the descriptor over. Connections are spread over all loops.
    static func open(
        _ descriptor: Int32, of pod: IPAddress, group: MultiThreadedEventLoopGroup, for shards: [Shard]
    ) async throws -> any Channel {
        try await ServerBootstrap(group: group, childGroup: group)
            .serverChannelOption(.maxMessagesPerRead, value: 16)
            .serverChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .serverChannelOption(.socketOption(.so_keepalive), value: 1)
            .childChannelOption(.maxMessagesPerRead, value: ReadSizes.readsPerTurn)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    guard let shard = shards.first(where: { $0.loop === channel.eventLoop }) else { return }
                    try channel.syncOptions?.setOption(.recvAllocator, value: ReadAllocator(shard.buffers))
                    try channel.pipeline.syncOperations.addHandler(TunnelThreshold(shard, pod))
                }
            }
            .withBoundSocket(descriptor).get()
    }
}

/// Alone in the pipeline until the connection can be asked who it is from.
private final class TunnelThreshold: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    private let shard: Shard
    private let pod: IPAddress

    init(_ shard: Shard, _ pod: IPAddress) { (self.shard, self.pod) = (shard, pod) }

    func channelActive(context: ChannelHandlerContext) {
        let pipeline = context.pipeline.syncOperations
        guard shard.doors.count(of: pod) < Tunnel.handshakes, let arrival = Arrival(context.channel, shard) else {
            shard.refusedTunnel(TunnelRefusal(.overload, "too many connections are being set up"), "to \(pod)")
            return context.close(promise: nil)
        }
        do {
            try pipeline.addHandler(TunnelDoor(shard, pod, arrival))
            pipeline.removeHandler(self, promise: nil)
        } catch {
            shard.dismiss(arrival)
            context.close(promise: nil)
        }
    }
}

/// Stands in the pipeline until the client is known. It is on the client's account from the beginning.
final class TunnelDoor: ChannelDuplexHandler, RemovableChannelHandler, ClientConnection {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer

    private let shard: Shard
    let pod: IPAddress
    private let arrival: Arrival
    private var context: ChannelHandlerContext?
    private let deadline: Moment
    private var wantsRead = false
    /// For the pod's certificate.
    private var isWaiting = true
    private var isOver = false

    init(_ shard: Shard, _ pod: IPAddress, _ arrival: Arrival) {
        (self.shard, self.pod, self.arrival) = (shard, pod, arrival)
        deadline = shard.now + Tunnel.handshakeTimeout
    }

    /// The channel is active already.
    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        shard.opened(self)
        shard.doors.add(self)
        shard.hold(MemoryLimits.http2Connection, arrival)
        goOn()
    }
    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    /// Nothing is read before there is a certificate to answer with.
    func read(context: ChannelHandlerContext) { if isWaiting { wantsRead = true } else { context.read() } }

    /// Also called when there is a new configuration, or new certificates.
    func goOn() {
        guard isWaiting, let context else { return }
        do throws(TunnelRefusal) {
            let snapshot = shard.table.snapshot
            // The agent may be about to tell of the pod, or of its certificate.
            guard let mesh = snapshot.mesh, let entry = snapshot.meshPods[pod] else { return }
            guard let own = mesh.identity(of: entry) else {
                throw TunnelRefusal(.identity, "\(entry.namespace)/\(entry.name) names no service account")
            }
            guard let credential = try shard.credentials.context(for: own) else { return }
            isWaiting = false
            start(credential, own, context)
        } catch { refuse(error) }
    }

    private func start(
        _ credential: TunnelCredentials.Context, _ own: WorkloadIdentity, _ context: ChannelHandlerContext
    ) {
        let channel = context.channel
        let tls = NIOSSLServerHandler(context: credential.tls)
        let (shard, pod, arrival) = (shard, pod, arrival)
        let handshake = TunnelHandshake(tls, roots: credential.roots) { facts throws(TunnelRefusal) in
            guard let mesh = shard.table.snapshot.mesh else {
                throw .noMesh
            }
            return try PeerCheck.client(facts, mesh, at: wallClock())
        } then: { [self] result in
            guard leave() else { return }
            switch result {
            case .success(let client):
                let server = TunnelServer(shard, arrival, of: pod, own: own, client: client)
                do { try channel.pipeline.syncOperations.addHandler(server) } catch {
                    shard.dismiss(arrival)
                    channel.close(promise: nil)
                }
                channel.pipeline.syncOperations.removeHandler(self, promise: nil)
            case .failure(let refusal):
                shard.refusedTunnel(refusal, "from \(arrival.peer.address) to \(pod)")
                shard.dismiss(arrival)
            }
        }
        do {
            try channel.pipeline.syncOperations.addHandlers([tls, handshake], position: .after(self))
        } catch { return cut() }
        guard wantsRead else { return }
        wantsRead = false
        context.read()
    }

    /// Its account goes on with whoever takes its place. False: it is over already.
    private func leave() -> Bool {
        guard !isOver else { return false }
        isOver = true
        shard.doors.remove(self)
        shard.hold(-MemoryLimits.http2Connection, arrival)
        shard.replaced(self)
        return true
    }
    private func refuse(_ refusal: TunnelRefusal) {
        shard.refusedTunnel(refusal, "to \(pod)")
        cut()
    }

    func channelInactive(context: ChannelHandlerContext) {
        // First those behind, who may know why.
        context.fireChannelInactive()
        if leave() { shard.dismiss(arrival) }
    }

    // MARK: For the shard

    var held: Int { arrival.held }
    var source: MemorySource { arrival.source }
    /// Who has knocked is let in.
    func drain() {}
    func abort() { cut() }
    private func cut() { context?.channel.cut() }
    func checkDeadline(_ now: Moment) {
        guard isWaiting, now > deadline else { return }
        refuse(
            TunnelRefusal(
                .identity, "there is no certificate for it within \(Tunnel.handshakeTimeout): see agentctl certificates"
            ))
    }
}

/// Of one loop: those that wait for a certificate or for TLS.
struct TunnelDoors {
    private var doors: [IPAddress: [ObjectIdentifier: TunnelDoor]] = [:]

    func count(of pod: IPAddress) -> Int { doors[pod]?.count ?? 0 }
    mutating func add(_ door: TunnelDoor) { doors[door.pod, default: [:]][ObjectIdentifier(door)] = door }
    mutating func remove(_ door: TunnelDoor) {
        doors[door.pod]?[ObjectIdentifier(door)] = nil
        if doors[door.pod]?.isEmpty == true { doors[door.pod] = nil }
    }
    var all: [TunnelDoor] { doors.values.flatMap(\.values) }
}
