/// Who and what takes part in a flow. As text, which is what goes over the wire and what people read and ask for, each
/// is one word.
package import Addressing
package import DataplaneIR

/// A service port as users name it, of all transports and families: `namespace/service:port-name`.
package struct ServicePortName: RawRepresentable, Hashable, Sendable, Codable {
    package let namespace: String
    package let service: String
    /// Empty: the service's only port, which needs no name.
    package let portName: String

    package init(_ id: ServicePortID) {
        namespace = id.namespace
        service = id.service
        portName = id.portName
    }
    package init?(rawValue text: String) {
        guard let (namespace, rest) = halves(text, "/") else { return nil }
        self.namespace = namespace
        (service, portName) = halves(rest, ":") ?? (rest, "")
    }
    package var rawValue: String { "\(namespace)/\(service)" + (portName.isEmpty ? "" : ":\(portName)") }

    /// The agent's own service is none of the cluster.
    package var isOwn: Bool { namespace == ServicePortID.ownNamespace }
}

/// Who is at one end of a flow.
package enum FlowEnd: RawRepresentable, Hashable, Sendable, Codable {
    case pod(namespace: String, name: String)
    /// As a client: a program on the node's own network.
    case node
    /// As a backend: the L7 proxy, which chooses one itself.
    case proxy

    package init?(rawValue text: String) {
        switch text {
        case "node": self = .node
        case "l7-proxy": self = .proxy
        default:
            guard let (namespace, name) = halves(text, "/") else { return nil }
            self = .pod(namespace: namespace, name: name)
        }
    }
    package var rawValue: String {
        switch self {
        case .pod(let namespace, let name): "\(namespace)/\(name)"
        case .node: "node"
        case .proxy: "l7-proxy"
        }
    }
}

/// What carries a flow.
package enum FlowTransport: RawRepresentable, Hashable, Sendable, Codable {
    case known(TransportProtocol)
    /// No Service has it.
    case number(UInt8)
    /// Of a sum: not one alone.
    case several

    /// By the number in the IP header.
    package init(_ number: UInt8) { self = TransportProtocol(rawValue: number).map { .known($0) } ?? .number(number) }
    package init?(rawValue text: String) {
        if let known = TransportProtocol(text) {
            self = .known(known)
        } else if let number = UInt8(text) {
            self = .number(number)
        } else if text.isEmpty {
            self = .several
        } else {
            return nil
        }
    }
    package var rawValue: String {
        switch self {
        case .known(let transport): transport.description
        case .number(let number): "\(number)"
        case .several: ""
        }
    }
}

/// What is before and behind the first separator; nil: there is none.
private func halves(_ text: String, _ separator: Character) -> (String, String)? {
    guard let index = text.firstIndex(of: separator) else { return nil }
    return (String(text[..<index]), String(text[text.index(after: index)...]))
}
