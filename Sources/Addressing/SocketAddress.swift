/// Transport protocols and address:port pairs.

package enum TransportProtocol: UInt8, Hashable, Sendable, Codable, CaseIterable, CustomStringConvertible {
    case tcp = 6
    case udp = 17
    case sctp = 132

    /// Reads Kubernetes' names, in any case; nil for a protocol no Service can have.
    package init?(_ name: some StringProtocol) {
        switch name.uppercased() {
        case "TCP": self = .tcp
        case "UDP": self = .udp
        case "SCTP": self = .sctp
        default: return nil
        }
    }
    package var description: String {
        switch self {
        case .tcp: "TCP"
        case .udp: "UDP"
        case .sctp: "SCTP"
        }
    }
}

extension TransportProtocol: Comparable {
    package static func < (a: TransportProtocol, b: TransportProtocol) -> Bool { a.rawValue < b.rawValue }
}

package struct SocketAddress: Hashable, Sendable, BitwiseCopyable, CustomStringConvertible {
    package let address: IPAddress
    package let port: UInt16

    package init(_ address: IPAddress, _ port: UInt16) {
        self.address = address
        self.port = port
    }
    /// Reads `10.0.0.1:80` or `[fd00::1]:80`.
    package init?(_ text: some StringProtocol) {
        guard let colon = text.lastIndex(of: ":"), text[text.index(after: colon)...].first?.isNumber == true,
            let port = UInt16(text[text.index(after: colon)...])
        else { return nil }
        var host = text[..<colon]
        if host.first == "[", host.last == "]" {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            return nil
        }
        guard let address = IPAddress(host) else { return nil }
        self.init(address, port)
    }
    package var description: String { address.isIPv4 ? "\(address):\(port)" : "[\(address)]:\(port)" }
}

extension SocketAddress: Comparable {
    package static func < (a: SocketAddress, b: SocketAddress) -> Bool {
        a.address == b.address ? a.port < b.port : a.address < b.address
    }
}
