/// The TCP connection below a tunnel: it leaves with the pod's own address where there is a socket of the pod's network
/// namespace for it.
import Addressing
import Balancing
import Glibc
import NIOCore
import NIOPosix

enum TunnelSocket {
    /// `install` puts the handlers into the new channel. `failed` is not called once they are there and the channel has
    /// become active: they hear of its end.
    static func connect(
        from pod: IPAddress, to address: SocketAddress, on shard: Shard,
        install: @escaping (any Channel) throws -> Void, failed: @escaping (TunnelRefusal) -> Void
    ) {
        let installer = NIOLoopBound(install, eventLoop: shard.loop)
        let bootstrap = ClientBootstrap(group: shard.loop)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(.socketOption(.so_keepalive), value: 1)
            .channelOption(.recvAllocator, value: ReadAllocator(shard.buffers))
            .channelOption(.maxMessagesPerRead, value: ReadSizes.readsPerTurn)
            .connectTimeout(.nanoseconds(Int64(clamping: Tunnel.connectTimeout.wholeNanoseconds)))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try installer.value(channel) }
            }
        let connecting: EventLoopFuture<any Channel>
        do {
            if let refusal = shard.options.targets.refusal(of: address, in: shard.table) {
                throw TunnelRefusal(.connect, refusal)
            }
            // A pod without an address of that family has no socket that could go there, and what a pod sends to itself
            // never comes to its door.
            let mayBeginThere = pod.family == address.address.family && pod != address.address
            if mayBeginThere, let descriptor = shard.options.makeSocket(pod) {
                try begin(descriptor, to: address)
                connecting = bootstrap.withConnectedSocket(descriptor)
            } else {
                connecting = bootstrap.connect(to: try address.nio())
            }
        } catch {
            return shard.loop.assumeIsolated().execute { failed(refusal(error, address)) }
        }
        connecting.assumeIsolated().whenFailure { error in
            // Not from inside the caller, whatever fails at once.
            shard.loop.assumeIsolated().execute { failed(refusal(error, address)) }
        }
    }

    /// NIO takes it for connected; what is written before it is waits in the kernel's answer EAGAIN.
    private static func begin(_ descriptor: Int32, to address: SocketAddress) throws(TunnelRefusal) {
        let flags = fcntl(descriptor, F_GETFL)
        guard fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) == 0,
            address.withSockaddr({ Glibc.connect(descriptor, $0, $1) }) == 0 || errno == EINPROGRESS
        else {
            let reason = String(cString: strerror(errno))
            Glibc.close(descriptor)
            throw TunnelRefusal(.connect, "cannot connect to \(address): \(reason)")
        }
    }

    private static func refusal(_ error: any Error, _ address: SocketAddress) -> TunnelRefusal {
        if let refusal = error as? TunnelRefusal { return refusal }
        let hint = "maybe a NetworkPolicy blocks port \(Tunnel.port), or the pod's node has no proxy"
        if case .connectTimeout? = error as? ChannelError {
            return TunnelRefusal(.connect, "\(address) does not answer: \(hint)")
        }
        return TunnelRefusal(.connect, "cannot connect to \(address) (\(hint)): \(error)")
    }
}
