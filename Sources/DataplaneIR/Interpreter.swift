/// Says what must happen to any flow. This is the meaning of the programs: both dataplanes are tested against it, and
/// `agentctl explain` prints it. Written for clarity; speed does not matter here.
package import Addressing

/// A new connection or datagram, as it leaves its sender or reaches the node.
package struct Flow: Hashable, Sendable {
    package enum Origin: Hashable, Sendable {
        /// A process in the node's own network namespace.
        case node
        /// Comes in through this interface: from a pod of this node or from outside.
        case interface(String)
    }
    package var source: IPAddress
    package var destination: SocketAddress
    package var transport: TransportProtocol
    package var origin: Origin

    package init(
        source: IPAddress, destination: SocketAddress, transport: TransportProtocol, origin: Origin
    ) {
        self.source = source
        self.destination = destination
        self.transport = transport
        self.origin = origin
    }
}

package enum Verdict: Equatable, Sendable {
    /// Not ours: the packet goes where it wants to go.
    case passthrough
    /// Refused at once (ICMP port unreachable, ECONNREFUSED).
    case reject
    /// Silence; from inside a connect() hook EHOSTUNREACH.
    case drop
    /// To one of `candidates`, each as likely as the others.
    case balance(service: ServicePortID, candidates: [SocketAddress], source: SourceRule)
}

/// What becomes of the packet's source address.
package enum SourceRule: Equatable, Sendable {
    /// Rewritten to a node address, whichever endpoint is chosen.
    case masquerade
    /// Rewritten only where the chosen endpoint is the sender itself, on this node (hairpin, spec row 80).
    case keepExceptHairpin(localBackends: Set<IPAddress>)

    package func isRewritten(source: IPAddress, chosen: IPAddress) -> Bool {
        switch self {
        case .masquerade: true
        case .keepExceptHairpin(let local): source == chosen && local.contains(chosen)
        }
    }
}

package struct Interpreter: Sendable {
    private struct Key: Hashable {
        let address: IPAddress?
        let port: UInt16
        let transport: TransportProtocol
        let family: AddressFamily
    }
    private let node: NodeProgram
    private var frontends: [Key: (Frontend, ServiceProgram)] = [:]
    private var clusterIPs: Set<IPAddress> = []

    package init(_ program: DataplaneProgram) {
        node = program.node
        for service in program.services.values {
            for frontend in service.frontends {
                let key = Key(
                    address: frontend.address, port: frontend.port, transport: service.id.transport,
                    family: service.id.family)
                frontends[key] = (frontend, service)
                if frontend.kind == .clusterIP, let address = frontend.address { clusterIPs.insert(address) }
            }
        }
    }

    package func verdict(for flow: Flow) -> Verdict {
        guard let (frontend, service) = find(flow) else { return unknown(flow) }
        guard isAllowed(flow.source, frontend) else { return .drop }
        guard service.hasEndpoints else { return .reject }
        let (range, rule) =
            frontend.kind.isExternal
            ? external(flow, service) : (service.range(for: service.internalPolicy), internalRule(flow, service))
        guard !range.isEmpty else { return .drop }
        return .balance(service: service.id, candidates: service.backends[range].map(\.address), source: rule)
    }

    /// The exact address goes before the node port (spec row 94).
    private func find(_ flow: Flow) -> (Frontend, ServiceProgram)? {
        let (address, port) = (flow.destination.address, flow.destination.port)
        let key = { Key(address: $0, port: port, transport: flow.transport, family: address.family) }
        if let exact = frontends[key(address)] { return exact }
        return node.nodePortAddresses.contains(address) && !address.isLoopback ? frontends[key(nil)] : nil
    }

    /// Spec rows 102, 103, 105.
    private func unknown(_ flow: Flow) -> Verdict {
        let address = flow.destination.address
        if clusterIPs.contains(address) { return .reject }
        return node.serviceCIDRs.contains { $0.contains(address) } ? .drop : .passthrough
    }

    /// Spec rows 36, 37: the address itself may be the source when it is bound on a node that is let in.
    private func isAllowed(_ source: IPAddress, _ frontend: Frontend) -> Bool {
        let ranges = frontend.sourceRanges
        let isInRange = { (address: IPAddress) in ranges.contains { $0.contains(address) } }
        if ranges.isEmpty || isInRange(source) { return true }
        return source == frontend.address && node.localAddresses.contains(where: isInRange)
    }

    /// Spec rows 71-74.
    private func internalRule(_ flow: Flow, _ service: ServiceProgram) -> SourceRule {
        if node.masqueradeAll { return .masquerade }
        if !node.detector.tellsApart(flow.source.family) { return keep(service) }
        return isFromLocalPod(flow) ? keep(service) : .masquerade
    }

    /// Spec rows 75-79.
    private func external(_ flow: Flow, _ service: ServiceProgram) -> (Range<Int>, SourceRule) {
        if service.externalPolicy == .cluster { return (service.clusterRange, .masquerade) }
        if isFromLocalPod(flow) { return (service.clusterRange, keep(service)) }
        if flow.origin == .node || node.localAddresses.contains(flow.source) {
            return (service.clusterRange, .masquerade)
        }
        return (service.localRange, keep(service))
    }

    private func keep(_ service: ServiceProgram) -> SourceRule {
        .keepExceptHairpin(localBackends: Set(service.backends.filter(\.isLocal).map(\.address.address)))
    }

    /// Spec rows 84, 86: packets the node makes itself arrive on no interface.
    private func isFromLocalPod(_ flow: Flow) -> Bool {
        switch node.detector {
        case .none: false
        case .cidrs: node.detector.cidr(flow.source.family)?.contains(flow.source) ?? false
        case .bridge(let name): flow.origin == .interface(name)
        case .interfacePrefix(let prefix):
            if case .interface(let name) = flow.origin { name.hasPrefix(prefix) } else { false }
        }
    }
}
