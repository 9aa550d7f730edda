/// What a proxy writes before a connection's first byte, so that the application hears of the client behind it: the
/// PROXY protocol, version 2 (https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt).
package import Addressing

package struct ProxyHeader: Hashable, Sendable {
    package var source: SocketAddress
    package var destination: SocketAddress
    /// SPIFFE name that the client has proved, as ztunnel tells it to a waypoint (spec 3.2.7).
    package var identity: String?

    private static let signature: [UInt8] = [
        0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a,
    ]
    /// Version 2, and that this is a client's connection and none of the proxy's own.
    private static let proxied: UInt8 = 0x21
    /// Of TCP over IPv4, and over IPv6.
    private static let (tcp4, tcp6): (UInt8, UInt8) = (0x11, 0x21)
    /// Of those that are left to private use.
    private static let identityType: UInt8 = 0xd0

    package init(from source: SocketAddress, to destination: SocketAddress, identity: String? = nil) {
        (self.source, self.destination, self.identity) = (source, destination, identity)
    }

    package var bytes: [UInt8] {
        let isIPv4 = source.address.isIPv4 && destination.address.isIPv4
        var body: [UInt8] = []
        // There is one family for both.
        for address in [source.address, destination.address] {
            body += isIPv4 ? address.networkBytes : address.mappedBytes
        }
        for port in [source.port, destination.port] { body += Self.number(port) }
        // One too long to be told is no identity (SPIFFE allows 2048 bytes).
        if let identity, let length = UInt16(exactly: identity.utf8.count), length <= 2048 {
            body.append(Self.identityType)
            body += Self.number(length)
            body += identity.utf8
        }
        return Self.signature + [Self.proxied, isIPv4 ? Self.tcp4 : Self.tcp6]
            + Self.number(UInt16(truncatingIfNeeded: body.count)) + body
    }

    private static func number(_ value: UInt16) -> [UInt8] {
        [UInt8(value >> 8), UInt8(truncatingIfNeeded: value)]
    }
}
