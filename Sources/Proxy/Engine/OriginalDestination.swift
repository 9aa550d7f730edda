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
            address = withUnsafeBytes(of: raw) { SocketAddress(raw: $0) }
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
    /// From a sockaddr; nil if it is not an address and port of the internet's.
    init?(raw: UnsafeRawBufferPointer) {
        guard raw.count >= 8 else { return nil }
        let port = UInt16(bigEndian: raw.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
        let range: Range<Int>
        switch CInt(raw.loadUnaligned(as: UInt16.self)) {
        case AF_INET: range = 4..<8
        case AF_INET6: range = 8..<24
        default: return nil
        }
        guard port != 0, raw.count >= range.upperBound,
            let address = IPAddress(networkBytes: UnsafeRawBufferPointer(rebasing: raw[range]))
        else { return nil }
        self.init(address, port)
    }

    init?(_ address: NIOCore.SocketAddress?) {
        guard let found = address?.withSockAddr({ SocketAddress(raw: UnsafeRawBufferPointer(start: $0, count: $1)) })
        else { return nil }
        self = found
    }

    /// For system calls.
    package func withSockaddr<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        var bytes: [UInt8] = []
        withUnsafeBytes(of: UInt16(address.isIPv4 ? AF_INET : AF_INET6)) { bytes += $0 }
        withUnsafeBytes(of: port.bigEndian) { bytes += $0 }
        // IPv6 has a flow label before the address and a scope behind it.
        bytes +=
            address.isIPv4
            ? address.networkBytes + [UInt8](repeating: 0, count: 8)
            : [0, 0, 0, 0] + address.mappedBytes + [0, 0, 0, 0]
        return bytes.withUnsafeBytes { raw in
            guard let start = raw.baseAddress else { preconditionFailure("an address has bytes") }
            return body(start.assumingMemoryBound(to: sockaddr.self), socklen_t(raw.count))
        }
    }

    /// For NIO.
    func nio() throws -> NIOCore.SocketAddress {
        try NIOCore.SocketAddress(packedIPAddress: ByteBuffer(bytes: address.networkBytes), port: Int(port))
    }
}
