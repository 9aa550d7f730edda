/// What the client of a redirected connection dialled. The kernel answers in both dataplanes: conntrack for nftables,
/// our getsockopt program for eBPF (docs/architecture.md).
package import Addressing
package import Glibc
import NIOCore

/// NIO has a type of this name, too; here it always means ours.
package typealias SocketAddress = Addressing.SocketAddress

enum OriginalDestination {
    /// SO_ORIGINAL_DST of <linux/netfilter_ipv4.h> and IP6T_SO_ORIGINAL_DST: both are 80.
    private static let option = NIOBSDSocket.Option(rawValue: 80)

    /// nil: this connection was not redirected, it was made to the proxy itself.
    static func of(_ channel: any Channel) -> SocketAddress? {
        guard let provider = channel as? any SocketOptionProvider else { return nil }
        let isIPv4 = channel.localAddress?.protocol == .inet
        return isIPv4 ? read(provider, .ip, RawIPv4.self) : read(provider, .ipv6, RawIPv6.self)
    }

    private static func read<Raw: Sendable>(
        _ provider: any SocketOptionProvider, _ level: NIOBSDSocket.OptionLevel, _ type: Raw.Type
    ) -> SocketAddress? {
        let result: EventLoopFuture<Raw> = provider.unsafeGetSocketOption(level: level, name: option)
        var address: SocketAddress?
        // Called at once: this is the connection's loop, where the future is complete when it is returned.
        result.assumeIsolated().whenSuccess { raw in
            address = withUnsafeBytes(of: raw) { SocketAddress(sockaddr: $0) }
        }
        return address
    }
}

// sockaddr_in and sockaddr_in6 as bytes.
private struct RawIPv4: Sendable {
    var words: (UInt64, UInt64) = (0, 0)
}
private struct RawIPv6: Sendable {
    var words: (UInt64, UInt64, UInt64) = (0, 0, 0)
    var scope: UInt32 = 0
}

extension SocketAddress {
    init?(_ address: NIOCore.SocketAddress?) {
        guard
            let found = address?.withSockAddr({ SocketAddress(sockaddr: UnsafeRawBufferPointer(start: $0, count: $1)) })
        else { return nil }
        self = found
    }

    /// For system calls.
    package func withSockaddr<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        sockaddrBytes.withUnsafeBytes { raw in
            guard let start = raw.baseAddress else { preconditionFailure("an address has bytes") }
            return body(start.assumingMemoryBound(to: sockaddr.self), socklen_t(raw.count))
        }
    }

    /// For NIO.
    func nio() throws -> NIOCore.SocketAddress {
        try NIOCore.SocketAddress(packedIPAddress: ByteBuffer(bytes: address.networkBytes), port: Int(port))
    }
}
