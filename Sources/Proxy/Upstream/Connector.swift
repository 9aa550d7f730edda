/// How connections to endpoints are made, for whoever sends on them: TCP, or a stream of a tunnel. What is known of a
/// connection comes from the same place.
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
        /// Both sides have shown who they are, and nobody else reads it.
        let isTunnel: Bool

        init(_ channel: any Channel) {
            local = SocketAddress(channel.localAddress)
            isTunnel = channel is StreamChannel
        }
    }

    struct Failure: Error {
        let reason: String
        var isTimeout = false
        /// The server's node does not let this client in: nothing is wrong with the endpoint.
        var isDenied = false
    }

    /// `install` puts the handlers into the new channel; `then` is never called from within this call.
    static func connect(
        to address: SocketAddress, speaking wire: Upstream.Wire, by way: Way = .plain, within limit: Duration,
        on shard: Shard, install: @escaping (any Channel) throws -> Void,
        then: @escaping (Result<Link, Failure>) -> Void
    ) {
        switch way {
        case .plain:
            connect(to: address, bootstrap(halfCloses: wire == .http1, on: shard), within: limit, on: shard) {
                try install($0)
            } then: { result in
                then(result.map(Link.init))
            }
        case .tunnel(let route, let caller):
            let channel = StreamChannel(shard.loop)
            do { try install(channel) } catch {
                return shard.loop.assumeIsolated().execute { then(.failure(failure(error))) }
            }
            let request = shard.tunnels.request(to: address, by: route, caller) { result in
                switch result {
                case .success(let stream):
                    channel.opened(stream)
                    then(.success(Link(channel)))
                case .failure(let refusal):
                    channel.failed()
                    then(.failure(Failure(reason: refusal.sentence, isDenied: refusal.kind == .policy)))
                }
            }
            channel.waits(for: request)
            shard.tunnels.open(request, within: limit)
        case .none(let refusal):
            shard.refusedTunnel(refusal, "to \(address)")
            shard.loop.assumeIsolated().execute { then(.failure(Failure(reason: refusal.sentence))) }
        }
    }

    /// For bytes that nobody looks at. What comes back gives it up.
    static func relay(
        to address: SocketAddress, by way: Way, within limit: Duration, on shard: Shard,
        then: @escaping (Result<any RelayEnd, TunnelRefusal>) -> Void
    ) -> () -> Void {
        switch way {
        case .plain:
            let socket = RelaySocket(shard)
            connect(to: address, bootstrap(halfCloses: true, on: shard), within: limit, on: shard) { channel in
                try channel.pipeline.syncOperations.addHandler(socket)
            } then: { result in
                then(result.map { _ in socket }.mapError { TunnelRefusal(.connect, "\(address): \($0.reason)") })
            }
            return { socket.reset() }
        case .tunnel(let route, let caller):
            let request = shard.tunnels.request(to: address, by: route, caller) { result in
                then(result.map { RelayStream($0) })
            }
            shard.tunnels.open(request, within: limit)
            return { request.cancel() }
        case .none(let refusal):
            shard.refusedTunnel(refusal, "to \(address)")
            shard.loop.assumeIsolated().execute { then(.failure(refusal)) }
            return {}
        }
    }

    /// To an application of this node, for a tunnel that leads there.
    static func connect(
        toPod target: SocketAddress, for client: SocketAddress, within limit: Duration, on shard: Shard,
        then: @escaping (Result<RelaySocket, Failure>) -> Void
    ) {
        let socket = RelaySocket(shard)
        let bootstrap = bootstrap(halfCloses: true, on: shard)
        let install: (any Channel) throws -> Void = { try $0.pipeline.syncOperations.addHandler(socket) }
        innerSocket(of: target.address, for: client, on: shard, until: .now() + patience) { descriptor in
            guard let descriptor else {
                return connect(to: target, bootstrap, within: limit, on: shard, install: install) { result in
                    then(result.map { _ in socket })
                }
            }
            connect(descriptor, to: target, bootstrap, within: limit, on: shard, install: install) { result in
                then(result.map { _ in socket })
            }
        }
    }

    /// For a socket of the pod's own. Then one of the node is tried: a pod that takes plaintext lets it in.
    private static let patience = TimeAmount.seconds(1)

    /// nil: there is none.
    private static func innerSocket(
        of pod: IPAddress, for client: SocketAddress, on shard: Shard, after pause: TimeAmount = .milliseconds(1),
        until end: NIODeadline, then: @escaping (Int32?) -> Void
    ) {
        if let descriptor = shard.options.makeInnerSocket(pod, client) { return then(descriptor) }
        guard shard.options.connectsInside(), NIODeadline.now() < end else { return then(nil) }
        shard.loop.assumeIsolated().scheduleTask(in: pause) {
            innerSocket(
                of: pod, for: client, on: shard, after: min(pause * 2, .milliseconds(50)), until: end, then: then)
        }
    }

    /// With a socket that somebody else made.
    private static func connect(
        _ descriptor: Int32, to target: SocketAddress, _ bootstrap: ClientBootstrap, within limit: Duration,
        on shard: Shard, install: @escaping (any Channel) throws -> Void,
        then: @escaping (Result<any Channel, Failure>) -> Void
    ) {
        PendingSocket(descriptor, to: target, within: limit, on: shard.loop).connect { result in
            switch result {
            case .success(let descriptor):
                let installer = installer(install, on: shard)
                bootstrap
                    .channelInitializer { channel in
                        channel.eventLoop.makeCompletedFuture { try installer.value(channel) }
                    }
                    .withConnectedSocket(descriptor).assumeIsolated().whenComplete { result in
                        then(result.mapError(failure))
                    }
            case .failure(let failure): then(.failure(failure))
            }
        }
    }

    private static func connect(
        to address: SocketAddress, _ bootstrap: ClientBootstrap, within limit: Duration, on shard: Shard,
        install: @escaping (any Channel) throws -> Void, then: @escaping (Result<any Channel, Failure>) -> Void
    ) {
        let target: NIOCore.SocketAddress
        do {
            if let refusal = shard.options.targets.refusal(of: address, in: shard.table) {
                throw Failure(reason: refusal)
            }
            target = try address.nio()
        } catch { return shard.loop.assumeIsolated().execute { then(.failure(failure(error))) } }
        let installer = installer(install, on: shard)
        // Without a descriptor or a route it has failed before `connect` returns.
        var isWithin = true
        defer { isWithin = false }
        bootstrap
            .connectTimeout(.nanoseconds(Int64(clamping: limit.wholeNanoseconds)))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try installer.value(channel) }
            }
            .connect(to: target)
            .assumeIsolated().whenComplete { result in
                let result = result.mapError(failure)
                if isWithin { shard.loop.assumeIsolated().execute { then(result) } } else { then(result) }
            }
    }

    /// Streams of HTTP/2 end by themselves.
    private static func bootstrap(halfCloses: Bool, on shard: Shard) -> ClientBootstrap {
        let bootstrap = ClientBootstrap(group: shard.loop)
        return halfCloses ? bootstrap.channelOption(.allowRemoteHalfClosure, value: true) : bootstrap
    }
    private static func installer(
        _ install: @escaping (any Channel) throws -> Void, on shard: Shard
    ) -> NIOLoopBound<(any Channel) throws -> Void> {
        let all = { (channel: any Channel) throws in
            // Here and not at the bootstrap, where each has a future of its own.
            let options = channel.syncOptions
            try options?.setOption(.tcpOption(.tcp_nodelay), value: 1)
            try options?.setOption(.socketOption(.so_keepalive), value: 1)
            try options?.setOption(.recvAllocator, value: ReadAllocator(shard.buffers))
            try options?.setOption(.maxMessagesPerRead, value: ReadSizes.readsPerTurn)
            try install(channel)
        }
        return NIOLoopBound(all, eventLoop: shard.loop)
    }

    private static func failure(_ error: any Error) -> Failure {
        if let failure = error as? Failure { return failure }
        let isTimeout = if case .connectTimeout? = error as? ChannelError { true } else { false }
        return Failure(reason: "\(error)", isTimeout: isTimeout)
    }
}
