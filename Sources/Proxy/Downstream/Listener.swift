/// Where clients come in. What an accepted connection is gets decided here and nowhere else: what was dialled, how
/// requests on it are spoken, who is at its other end, and which handlers serve it.
import Addressing
import Balancing
import Glibc
import NIOCore
import NIOPosix
import Posix

/// An accepted connection, the same for all requests on it.
final class Arrival {
    let peer: Peer
    /// A service's address, as the client knew it; our own if the connection was not redirected.
    let dialled: SocketAddress
    let wasRedirected: Bool
    /// Of URIs on this connection (RFC 9110, 4.2): plaintext.
    var scheme: String { "http" }
    /// Whose account its memory goes to, and its share of that (`Shard.hold`).
    let source: MemorySource
    var held = 0

    /// nil: it is over already, or its address may have no connection more.
    init?(_ channel: any Channel, _ shard: Shard) {
        guard let address = SocketAddress(channel.remoteAddress), let local = SocketAddress(channel.localAddress),
            let source = shard.admit(address.address)
        else { return nil }
        peer = Peer(address)
        dialled = OriginalDestination.of(channel) ?? local
        wasRedirected = dialled != local
        self.source = source
    }

    private var table: RoutingTable?
    private var found: (WorkloadEntry?, RoutedServiceEntry?)

    /// Who the client is and what it dialled; looked up once for each configuration.
    func entries(in table: RoutingTable) -> (source: WorkloadEntry?, service: RoutedServiceEntry?) {
        if table !== self.table {
            self.table = table
            found = (peer.workload(in: table), table.service(at: dialled))
        }
        return found
    }
}

extension RequestRecord {
    init(began: Moment, _ arrival: Arrival) {
        self.init(
            began: began, ended: began, scheme: arrival.scheme, client: arrival.peer.address, dialled: arrival.dialled)
    }
}

enum Listener {
    /// Opens one on the shard's loop, so that the kernel spreads connections over all loops, and over an old process
    /// and the new one that takes its place.
    static func open(_ address: SocketAddress, for shard: Shard) async throws -> any Channel {
        let bootstrap = ServerBootstrap(group: shard.loop, childGroup: shard.loop)
            .serverChannelOption(.backlog, value: 4096)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelOption(.socketOption(.init(rawValue: SO_REUSEPORT)), value: 1)
            .serverChannelOption(.maxMessagesPerRead, value: 16)
            // Linux hands these two on to each connection.
            .serverChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .serverChannelOption(.socketOption(.so_keepalive), value: 1)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    // Here and not at the bootstrap, where each has a future of its own.
                    let options = channel.syncOptions
                    try options?.setOption(.allowRemoteHalfClosure, value: true)
                    try options?.setOption(.recvAllocator, value: ReadAllocator(shard.buffers))
                    try options?.setOption(.writeBufferWaterMark, value: ReadSizes.unread)
                    try options?.setOption(.maxMessagesPerRead, value: ReadSizes.readsPerTurn)
                    try channel.pipeline.syncOperations.addHandler(Door(shard))
                }
            }
        if !address.address.isIPv4 {
            // IPv4 has a listener of its own: only there SO_ORIGINAL_DST finds its connections.
            _ = bootstrap.serverChannelOption(
                ChannelOptions.Types.SocketOption(level: .ipv6, name: .init(rawValue: IPV6_V6ONLY)), value: 1)
        }
        do { return try await bootstrap.bind(to: address.nio()).get() } catch let error as IOError {
            throw PosixError("cannot listen on \(address): \(error)", code: error.errnoCode)
        }
    }
}

extension Shard {
    fileprivate func relay(_ arrival: Arrival, on channel: any Channel) {
        do { try RelayDialer.start(channel, arrival, on: self) } catch {
            dismiss(arrival)
            channel.close(promise: nil)
        }
    }
}

/// Alone in the pipeline until the connection can be asked what it is.
private final class Door: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    private let shard: Shard

    init(_ shard: Shard) { self.shard = shard }

    func channelActive(context: ChannelHandlerContext) {
        guard let arrival = Arrival(context.channel, shard) else { return context.close(promise: nil) }
        let pipeline = context.pipeline.syncOperations
        let channel = context.channel
        do {
            let hold = shard.hold(for: arrival)
            if let hold { try pipeline.addHandler(hold) }
            if !shard.isRelayed(arrival) {
                try pipeline.addHandler(Downstream(shard, arrival))
            } else if let hold {
                hold.then = { [shard] isThere in
                    if isThere { shard.relay(arrival, on: channel) } else { shard.dismiss(arrival) }
                }
            } else {
                shard.relay(arrival, on: channel)
            }
            pipeline.removeHandler(self, promise: nil)
        } catch {
            shard.dismiss(arrival)
            context.close(promise: nil)
        }
    }
}
