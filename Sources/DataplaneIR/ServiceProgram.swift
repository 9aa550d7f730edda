/// What the kernel must do for one port of one service in one address family. Plain values: the compiler makes them,
/// the dataplanes diff and write them, the interpreter says what they mean for a flow.
package import Addressing

/// The key everything hangs off (spec row 1): namespace, service, port name and protocol; and the family, because the
/// two families of a service are independent (spec row 3).
package struct ServicePortID: Hashable, Sendable, CustomStringConvertible {
    package let namespace: String
    package let service: String
    package let portName: String
    package let transport: TransportProtocol
    package let family: AddressFamily

    package init(
        namespace: String, service: String, portName: String, transport: TransportProtocol, family: AddressFamily
    ) {
        self.namespace = namespace
        self.service = service
        self.portName = portName
        self.transport = transport
        self.family = family
    }
    /// `namespace/service:port-name`, the form users see.
    package var displayName: String {
        portName.isEmpty ? "\(namespace)/\(service)" : "\(namespace)/\(service):\(portName)"
    }
    package var description: String { "\(displayName)/\(transport)/\(family)" }
}

extension ServicePortID: Comparable {
    package static func < (a: ServicePortID, b: ServicePortID) -> Bool {
        (a.namespace, a.service, a.portName, a.transport, a.family.rawValue)
            < (b.namespace, b.service, b.portName, b.transport, b.family.rawValue)
    }
}

package enum TrafficPolicy: String, Hashable, Sendable {
    case cluster = "Cluster"
    case local = "Local"
}

/// An address and port that traffic for the service arrives at.
package struct Frontend: Hashable, Sendable {
    package enum Kind: String, Hashable, Sendable, CaseIterable {
        case clusterIP = "ClusterIP"
        case externalIP = "ExternalIP"
        case loadBalancer = "LoadBalancer"
        case nodePort = "NodePort"

        /// Governed by externalTrafficPolicy and always masqueraded under Cluster (spec rows 30-34, 75).
        package var isExternal: Bool { self != .clusterIP }
    }
    /// What becomes of a connection that its service has endpoints for.
    package enum Action: String, Hashable, Sendable {
        /// It goes to one of them.
        case balance
        /// The node's L7 proxy answers it (`NodeProgram.proxyListeners`). TCP to a cluster IP only.
        case proxy
        /// Those of enrolled pods of this node the proxy answers, all others are balanced.
        case tunnel
    }
    package let kind: Kind
    /// nil for a node port: every address in `NodeProgram.nodePortAddresses`, without a copy for each.
    package let address: IPAddress?
    package let port: UInt16
    /// Clients allowed in; empty: everybody. Load-balancer addresses only (spec row 36).
    package let sourceRanges: [IPPrefix]
    package let action: Action

    package init(
        _ kind: Kind, _ address: IPAddress?, _ port: UInt16, sourceRanges: [IPPrefix] = [], action: Action = .balance
    ) {
        precondition(action != .proxy || kind == .clusterIP, "only cluster IPs are routed")
        precondition(action != .tunnel || address != nil, "the proxy knows services by their addresses")
        self.action = action
        self.kind = kind
        self.address = address
        self.port = port
        self.sourceRanges = sourceRanges
    }
}

extension Frontend: Comparable {
    private static let unspecified = IPAddress(high: 0, low: 0)
    package static func < (a: Frontend, b: Frontend) -> Bool {
        (a.kind.rawValue, a.address ?? unspecified, a.port) < (b.kind.rawValue, b.address ?? unspecified, b.port)
    }
}

package struct Backend: Hashable, Sendable {
    package struct State: OptionSet, Hashable, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }
        /// On this node: `nodeName` equals ours (spec row 56).
        package static let local = State(rawValue: 1)
        package static let terminating = State(rawValue: 2)
        /// Serving, whether or not selected: UDP flows to it are kept (spec row 116).
        package static let serving = State(rawValue: 4)
    }
    package let address: SocketAddress
    package let state: State

    package init(_ address: SocketAddress, state: State = .serving) {
        self.address = address
        self.state = state
    }
    package var isLocal: Bool { state.contains(.local) }
}

package struct ServiceProgram: Equatable, Sendable {
    package let id: ServicePortID
    /// Sorted, no two alike.
    package let frontends: [Frontend]
    /// One ordered block: `[cluster set only | both | local set only | others that still serve]`. Each set is one range
    /// of it. Within a part: sorted by address, so equal inputs give equal programs.
    package let backends: [Backend]
    /// The endpoints for traffic under policy Cluster; starts at 0.
    package let clusterRange: Range<Int>
    /// The endpoints for traffic under policy Local.
    package let localRange: Range<Int>
    package let internalPolicy: TrafficPolicy
    package let externalPolicy: TrafficPolicy
    /// Session affinity ClientIP: seconds since the client's last connection; nil: none.
    package let affinitySeconds: UInt32?
    package let appProtocol: String?

    package init(
        id: ServicePortID, frontends: [Frontend], backends: [Backend], clusterRange: Range<Int>,
        localRange: Range<Int>, internalPolicy: TrafficPolicy = .cluster, externalPolicy: TrafficPolicy = .cluster,
        affinitySeconds: UInt32? = nil, appProtocol: String? = nil
    ) {
        precondition(clusterRange.lowerBound == 0 && clusterRange.upperBound <= backends.count)
        precondition(localRange.upperBound <= backends.count)
        self.id = id
        self.frontends = frontends
        self.backends = backends
        self.clusterRange = clusterRange
        self.localRange = localRange
        self.internalPolicy = internalPolicy
        self.externalPolicy = externalPolicy
        self.affinitySeconds = affinitySeconds
        self.appProtocol = appProtocol
    }

    /// Usable endpoints exist somewhere: without any, every frontend refuses (spec row 98); with some, traffic under
    /// policy Local that finds none here is dropped (spec row 99).
    package var hasEndpoints: Bool { !clusterRange.isEmpty || !localRange.isEmpty }

    /// Some of its connections go to the L7 proxy.
    package var isProxied: Bool { frontends.contains { $0.action != .balance } }

    package func policy(for kind: Frontend.Kind) -> TrafficPolicy { kind.isExternal ? externalPolicy : internalPolicy }
    package func range(for policy: TrafficPolicy) -> Range<Int> { policy == .cluster ? clusterRange : localRange }

    /// Endpoints whose UDP flows must be left alone when others go (spec rows 114-116).
    package var servingAddresses: Set<SocketAddress> {
        var result = Set<SocketAddress>()
        for (index, backend) in backends.enumerated()
        where backend.state.contains(.serving) || clusterRange.contains(index) || localRange.contains(index) {
            result.insert(backend.address)
        }
        return result
    }
}
