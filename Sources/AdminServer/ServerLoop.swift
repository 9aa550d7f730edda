/// The thread of the small servers and of all timers. It never does the agent's work itself, so a scrape of a large
/// `/metrics` cannot hold up a kernel write, nor the other way round.
import Glibc
package import NIOCore
import NIOPosix
package import Posix
import Synchronization

package final class ServerLoop: Sendable {
    private let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    package var loop: any EventLoop { group.next() }

    package init() {}

    /// Runs `body` on the loop once `delay` has passed, unless cancelled before.
    package func schedule(after delay: Duration, _ body: @escaping @Sendable () -> Void) -> Timer {
        let task = loop.scheduleTask(in: TimeAmount(delay), body)
        return Timer { task.cancel() }
    }

    package struct Timer: Sendable {
        package let cancel: @Sendable () -> Void
    }

    package func shutdown() async { try? await group.shutdownGracefully() }

    func bind(_ address: ListenAddress, _ setup: ConnectionSetup) -> EventLoopFuture<any Channel> {
        let bootstrap = ServerBootstrap(group: loop)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .serverChannelOption(.backlog, value: 128)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture { try setup.setUp(channel) }
            }
        switch address {
        case .tcp(let host, let port):
            // A literal: nothing here may ever wait for a name server.
            guard let address = try? SocketAddress(ipAddress: host, port: Int(port)) else {
                return loop.makeFailedFuture(IOError(errnoCode: EINVAL, reason: "\(host) is not an IP address"))
            }
            return bootstrap.bind(to: address)
        case .unix(let socket): return bootstrap.withBoundSocket(socket.descriptor)
        }
    }
}

package enum ListenAddress: Sendable, Hashable, CustomStringConvertible {
    case tcp(host: String, port: UInt16)
    case unix(BoundUnixSocket)

    package var description: String {
        switch self {
        case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        case .unix(let socket): socket.path
        }
    }
}
