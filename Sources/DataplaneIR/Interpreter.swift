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
    /// To the L7 proxy of this node, which chooses for each request. nil: what was dialled is the address of a pod of
    /// the mesh, and it goes there through a tunnel.
    case proxy(service: ServicePortID?, listener: SocketAddress)
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

    package func verdict(for flow: Flow) -> Verdict { explain(flow).verdict }

    /// One thing that was decided on the way to a verdict.
    package struct Decision: Equatable, Sendable, CustomStringConvertible {
        /// What it rests on: a field of an object, an option of the agent, or the node's own state.
        package let source: String
        /// `policy Local: only endpoints on this node`
        package let outcome: String

        package init(_ source: String, _ outcome: String) {
            self.source = source
            self.outcome = outcome
        }
        package var description: String { "\(source): \(outcome)" }
    }

    package struct Explanation: Equatable, Sendable {
        package var verdict: Verdict
        /// The service port whose frontend was met.
        package var service: ServicePortID?
        /// The policy whose set of endpoints applies; nil when it did not come to that.
        package var set: TrafficPolicy?
        /// In the order they were taken.
        package var decisions: [Decision]
    }

    /// The verdict and how it came about: the same steps, noted.
    package func explain(_ flow: Flow) -> Explanation {
        var explanation = decide(flow)
        explanation.decisions += doors(behind: explanation.verdict, flow)
        return explanation
    }

    private func decide(_ flow: Flow) -> Explanation {
        var steps: [Decision] = []
        guard let (frontend, service) = find(flow, &steps) else {
            let verdict = meshed(flow, &steps) ?? unknown(flow, &steps)
            return Explanation(verdict: verdict, decisions: steps)
        }
        func end(_ verdict: Verdict, set: TrafficPolicy? = nil) -> Explanation {
            Explanation(verdict: verdict, service: service.id, set: set, decisions: steps)
        }
        guard isAllowed(flow.source, frontend, &steps) else { return end(.drop) }
        if frontend.action == .proxy {
            return end(proxied(service.id, "HTTPRoute, GRPCRoute", "routes are attached to it", flow, &steps))
        }
        if frontend.action == .tunnel, node.mesh.pods[flow.source] != nil {
            let reason = "\(flow.source) is a pod of the mesh, and so are endpoints"
            return end(proxied(service.id, Self.enrolment, reason, flow, &steps))
        }
        guard service.hasEndpoints else {
            steps.append(Decision("endpoints", "none is usable anywhere: refused"))
            return end(.reject)
        }
        let set =
            frontend.kind.isExternal ? externalSet(flow, service, &steps) : internalSet(service, &steps)
        let range = service.range(for: set)
        guard !range.isEmpty else {
            steps.append(Decision("endpoints", "usable ones exist, but none on this node: dropped"))
            return end(.drop, set: set)
        }
        let rule =
            frontend.kind.isExternal ? externalRule(flow, service, &steps) : internalRule(flow, service, &steps)
        if let seconds = service.affinitySeconds {
            steps.append(
                Decision(
                    "spec.sessionAffinity", "a client returns to its endpoint within \(seconds) s, if still usable"))
        }
        return end(
            .balance(service: service.id, candidates: service.backends[range].map(\.address), source: rule), set: set)
    }

    /// Why the L7 proxy cannot be reached, and what to do.
    package static func noListener(_ family: AddressFamily) -> String {
        "this node has no \(family) address but loopback and link-local ones, at which its L7 proxy could be reached; "
            + "give one of its interfaces an address"
    }

    /// The exact address goes before the node port (spec row 94).
    private func find(_ flow: Flow, _ steps: inout [Decision]) -> (Frontend, ServiceProgram)? {
        let (address, port) = (flow.destination.address, flow.destination.port)
        let key = { Key(address: $0, port: port, transport: flow.transport, family: address.family) }
        if let exact = frontends[key(address)] {
            steps.append(
                Decision(
                    "\(flow.destination)/\(flow.transport)", "\(exact.0.kind.rawValue) of \(exact.1.id.displayName)"))
            return exact
        }
        guard let wildcard = frontends[key(nil)] else { return nil }
        guard node.nodePortAddresses.contains(address), !address.isLoopback else {
            steps.append(
                Decision(
                    "--node-port-addresses",
                    "port \(port) is a node port of \(wildcard.1.id.displayName), but \(address) is no address "
                        + "where this node serves them"))
            return nil
        }
        steps.append(
            Decision("\(flow.destination)/\(flow.transport)", "node port of \(wildcard.1.id.displayName)"))
        return wildcard
    }

    /// The labels of pods and their namespaces.
    package static let enrolment = "istio.io/dataplane-mode, heddle.io/mesh"

    private func proxied(
        _ service: ServicePortID?, _ source: String, _ reason: String, _ flow: Flow, _ steps: inout [Decision]
    ) -> Verdict {
        let family = flow.destination.address.family
        let listener = node.proxyListener(family)
        let outcome = listener.map { "to the L7 proxy at \($0)" } ?? "refused: \(Self.noListener(family))"
        steps.append(Decision(source, "\(reason): \(outcome)"))
        return listener.map { .proxy(service: service, listener: $0) } ?? .reject
    }

    /// A pod of the mesh dials a pod of the mesh, not itself, by its address. nil: it is no such flow.
    private func meshed(_ flow: Flow, _ steps: inout [Decision]) -> Verdict? {
        let address = flow.destination.address
        guard flow.transport == .tcp, node.mesh.pods[flow.source] != nil else { return nil }
        let isUnlisted =
            !node.mesh.enrolled.contains(address) && node.mesh.unlisted.contains { $0.contains(address) }
            && !node.serviceCIDRs.contains { $0.contains(address) }
        guard isUnlisted || node.mesh.enrolled.contains(address) else { return nil }
        guard address != flow.source, flow.destination.port != MeshProgram.tunnelPort else {
            let reason = address == flow.source ? "a pod that dials itself" : "the port where tunnels arrive"
            steps.append(Decision("\(flow.destination)", "\(reason): left alone"))
            return nil
        }
        let reason =
            isUnlisted
            ? "\(flow.source) is a pod of the mesh, and \(address) may be one: those of other nodes are not listed yet"
            : "\(flow.source) and \(address) are pods of the mesh"
        return proxied(nil, Self.enrolment, reason, flow, &steps)
    }

    /// What pods of this node say to who comes to them in the clear. How it went until there is the verdict's.
    private func doors(behind verdict: Verdict, _ flow: Flow) -> [Decision] {
        let reached: [SocketAddress] =
            switch verdict {
            case .passthrough: [flow.destination]
            case .balance(_, let candidates, _): candidates
            case .reject, .drop, .proxy: []
            }
        guard flow.transport == .tcp else { return [] }
        return reached.compactMap { destination in
            guard let pod = node.mesh.pods[destination.address] else { return nil }
            let visitor: MeshDoor.Visitor =
                flow.source == destination.address ? .itself : flow.origin == .node ? .probe : .anybody
            guard MeshDoor([destination.address: pod]).verdict(for: visitor, to: destination) == .refused else {
                return nil
            }
            return Decision(
                Self.door, "STRICT at \(destination) of \(pod.name): it takes tunnels only, and refuses this")
        }
    }
    package static let door = "PeerAuthentication"

    /// Spec rows 102, 103, 105.
    private func unknown(_ flow: Flow, _ steps: inout [Decision]) -> Verdict {
        let address = flow.destination.address
        if clusterIPs.contains(address) {
            steps.append(
                Decision("\(address)", "a cluster IP without port \(flow.destination.port)/\(flow.transport): refused"))
            return .reject
        }
        if let range = node.serviceCIDRs.first(where: { $0.contains(address) }) {
            steps.append(Decision("ServiceCIDR \(range)", "no service has \(address): dropped"))
            return .drop
        }
        steps.append(Decision("\(flow.destination)/\(flow.transport)", "no service's address: left alone"))
        return .passthrough
    }

    /// Spec rows 36, 37: the address itself may be the source when it is bound on a node that is let in.
    private func isAllowed(_ source: IPAddress, _ frontend: Frontend, _ steps: inout [Decision]) -> Bool {
        let ranges = frontend.sourceRanges
        guard !ranges.isEmpty else { return true }
        let field = "spec.loadBalancerSourceRanges"
        if let range = ranges.first(where: { $0.contains(source) }) {
            steps.append(Decision(field, "\(range) lets \(source) in"))
            return true
        }
        let isOwn =
            source == frontend.address
            && node.localAddresses.contains { address in ranges.contains { $0.contains(address) } }
        steps.append(
            Decision(field, isOwn ? "\(source) is this node, which is let in" : "no range has \(source): dropped"))
        return isOwn
    }

    private func internalSet(_ service: ServiceProgram, _ steps: inout [Decision]) -> TrafficPolicy {
        steps.append(Decision("spec.internalTrafficPolicy", Self.meaning(service.internalPolicy)))
        return service.internalPolicy
    }

    /// Spec rows 77-79: policy Local is about traffic from outside the node only.
    private func externalSet(
        _ flow: Flow, _ service: ServiceProgram, _ steps: inout [Decision]
    ) -> TrafficPolicy {
        let field = "spec.externalTrafficPolicy"
        guard service.externalPolicy == .local else {
            steps.append(Decision(field, Self.meaning(.cluster)))
            return .cluster
        }
        if isFromPodHere(flow) {
            steps.append(Decision(field, "Local, but a pod of this node reaches every usable endpoint"))
            return .cluster
        }
        if isFromNode(flow) {
            steps.append(Decision(field, "Local, but this node itself reaches every usable endpoint"))
            return .cluster
        }
        steps.append(Decision(field, Self.meaning(.local)))
        return .local
    }

    private static func meaning(_ policy: TrafficPolicy) -> String {
        policy == .cluster ? "Cluster: every usable endpoint" : "Local: only usable endpoints on this node"
    }

    /// Spec rows 71-74.
    private func internalRule(
        _ flow: Flow, _ service: ServiceProgram, _ steps: inout [Decision]
    ) -> SourceRule {
        if node.masqueradeAll {
            steps.append(Decision("--masquerade-all", "the source becomes this node's address"))
            return .masquerade
        }
        guard node.detector.tellsApart(flow.source.family) else {
            steps.append(Decision("--cluster-cidr", "not given for \(flow.source.family): the source is kept"))
            return keep(service)
        }
        let isPod = isFromLocalPod(flow)
        steps.append(
            Decision(
                "--detect-local",
                isPod ? "a pod of this node: the source is kept" : "no pod of this node: the source becomes the node's")
        )
        return isPod ? keep(service) : .masquerade
    }

    /// Spec rows 75-78.
    private func externalRule(
        _ flow: Flow, _ service: ServiceProgram, _ steps: inout [Decision]
    ) -> SourceRule {
        let isKept = service.externalPolicy == .local && (isFromPodHere(flow) || !isFromNode(flow))
        steps.append(
            Decision(
                "spec.externalTrafficPolicy",
                isKept
                    ? "Local: the source is kept"
                    : "\(service.externalPolicy.rawValue): the source becomes this node's address"))
        return isKept ? keep(service) : .masquerade
    }

    private func keep(_ service: ServiceProgram) -> SourceRule {
        .keepExceptHairpin(localBackends: Set(service.backends.filter(\.isLocal).map(\.address.address)))
    }

    private func isFromNode(_ flow: Flow) -> Bool {
        flow.origin == .node || node.localAddresses.contains(flow.source)
    }

    /// Spec row 85: a range of all pods of the cluster does not tell those of this node.
    private func isFromPodHere(_ flow: Flow) -> Bool {
        if case .interface(let name) = flow.origin, node.uplinks.contains(name) { return false }
        return isFromLocalPod(flow)
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
