/// How connections to endpoints are made, for both protocols. What is known of a connection comes from the same place.
import Addressing
import Balancing
import NIOCore
import NIOPosix
import RouteIR

enum Connector {
    /// What is known of a connection that was made.
    struct Link {
        /// Our end of it.
        let local: SocketAddress?

        init(_ channel: any Channel) { local = SocketAddress(channel.localAddress) }
    }

    struct Failure: Error {
        let reason: String
        var isTimeout = false
    }

    /// `install` puts the handlers into the new channel; `then` is never called from within this call.
    static func connect(
        to address: SocketAddress, speaking wire: Upstream.Wire, within limit: Duration, on shard: Shard,
        install: @escaping (any Channel) throws -> Void, then: @escaping (Result<Link, Failure>) -> Void
    ) {
        let target: NIOCore.SocketAddress
        do {
            if let refusal = shard.options.targets.refusal(of: address, in: shard.table) {
                throw Failure(reason: refusal)
            }
            target = try address.nio()
        } catch { return shard.loop.assumeIsolated().execute { then(.failure(failure(error))) } }
        let installer = NIOLoopBound(install, eventLoop: shard.loop)
        // Without a descriptor or a route it has failed before `connect` returns.
        var isWithin = true
        defer { isWithin = false }
        bootstrap(for: wire, on: shard)
            .connectTimeout(.nanoseconds(Int64(clamping: limit.wholeNanoseconds)))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try installer.value(channel) }
            }
            .connect(to: target)
            .assumeIsolated().whenComplete { result in
                let result = result.map(Link.init).mapError(failure)
                if isWithin { shard.loop.assumeIsolated().execute { then(result) } } else { then(result) }
            }
    }

    private static func bootstrap(for wire: Upstream.Wire, on shard: Shard) -> ClientBootstrap {
        let bootstrap = ClientBootstrap(group: shard.loop)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(.socketOption(.so_keepalive), value: 1)
            .channelOption(.recvAllocator, value: ReadAllocator(shard.buffers))
            .channelOption(.maxMessagesPerRead, value: ReadSizes.readsPerTurn)
        // Streams of HTTP/2 end by themselves.
        return wire == .http1 ? bootstrap.channelOption(.allowRemoteHalfClosure, value: true) : bootstrap
    }

    private static func failure(_ error: any Error) -> Failure {
        if let failure = error as? Failure { return failure }
        let isTimeout = if case .connectTimeout? = error as? ChannelError { true } else { false }
        return Failure(reason: "\(error)", isTimeout: isTimeout)
    }
}
