/// The rules of the chains that services need, made from the chain's ID.
import Addressing
import DataplaneIR
import Nftables

/// A service with session affinity, as its chains need it.
struct StickyService: Equatable, Sendable {
    struct Endpoint: Equatable, Sendable {
        let hash: UInt64
        let backend: Backend
    }
    let name: String
    let transport: TransportProtocol
    let seconds: UInt32
    let endpoints: [Endpoint]
    let clusterRange: Range<Int>
    let localRange: Range<Int>

    /// nil: no affinity.
    init?(_ program: ServiceProgram) {
        guard let seconds = program.affinitySeconds else { return nil }
        let id = program.id.description
        self.name = program.id.displayName
        self.transport = program.id.transport
        self.seconds = seconds
        self.endpoints = program.backends.map {
            Endpoint(hash: stableHash("\(id) \($0.address)"), backend: $0)
        }
        self.clusterRange = program.clusterRange
        self.localRange = program.localRange
    }
    static func hash(_ id: ServicePortID) -> UInt64 { stableHash(id.description) }

    func endpoints(_ policy: TrafficPolicy) -> ArraySlice<Endpoint> {
        endpoints[policy == .cluster ? clusterRange : localRange]
    }
}

/// Everything the rules depend on besides the chain's ID.
struct ChainContext {
    let family: AddressFamily
    let node: NodeProgram
    /// Services with affinity by hash.
    let sticky: (UInt64) -> StickyService?
    /// Their endpoints by hash.
    let stickyEndpoint: (UInt64) -> (StickyService, Backend)?

    private var parts: RuleParts { RuleParts(family: family, node: node) }
    private var natFamily: NATFamily { family == .ipv4 ? .ipv4 : .ipv6 }

    func spec(_ id: ChainID) -> ChainSpec {
        var spec = ChainSpec(name: id.name)
        switch id {
        case .target(.spread(let space, let offset, let count)):
            spec.rules = [spread(space, UInt32(offset), UInt32(count))]
        case .target(.sticky(let hash, let policy)): stick(&spec, hash, policy)
        case .clusterIP(let target):
            spec.rules = [Rule([.verdict(.jump(ConstantChain.markClusterIP))]), goto(target)]
            spec.uses = [.target(target)]
        case .external(let target):
            spec.rules = [Rule(parts.setMark), goto(target)]
            spec.uses = [.target(target)]
        case .externalLocal(let cluster, let local):
            spec.rules = externalLocal(cluster, local)
            spec.uses = [cluster, local].compactMap { $0.map(ChainID.target) }
        case .tunnel(let others):
            let verdict = Expression.verdict(.goto(ConstantChain.tunnels(family, node)))
            spec.rules = [Rule(parts.isFromMesh + [verdict], comment: "a pod of the mesh")]
            guard let others else { break }
            spec.rules.append(Rule([.verdict(.goto(others.name))]))
            spec.uses = [others]
        case .stickyEndpoint(let hash):
            spec.rules = stickyEndpoint(id, hash)
            spec.affinitySet = id.affinitySet
        }
        return spec
    }

    private func goto(_ target: Target) -> Rule { Rule([.verdict(.goto(target.name))]) }

    /// `dnat to KEY . numgen random mod COUNT map @endpoints`
    private func spread(_ space: Keyspace, _ offset: UInt32, _ count: UInt32) -> Rule {
        let isAddress = space == .address
        let slot = isAddress ? parts.addressRegisters + 2 : 2
        let map = isAddress ? TableSet.endpoints : .nodePortEndpoints
        return Rule(
            (isAddress ? parts.service : parts.nodePortService())
                + [
                    .random(modulo: count, offset: offset, to: slot), .map(map.name, key: 0, to: 0),
                    .destinationNAT(natFamily, address: 0, port: parts.addressRegisters),
                ])
    }

    /// Spec rows 77-79. Traffic that matches nothing goes on without DNAT; the check of endpoints drops it.
    private func externalLocal(_ cluster: Target?, _ local: Target?) -> [Rule] {
        let toCluster: Expression? = cluster.map { .verdict(.goto($0.name)) }
        var rules: [Rule] = []
        if let pod = parts.podHere {
            let verdict = toCluster ?? .verdict(.goto(ConstantChain.noEndpoints))
            rules.append(Rule(pod + [verdict], comment: "a pod of this node"))
        }
        let verdict = toCluster ?? .verdict(.goto(ConstantChain.noEndpoints))
        rules.append(Rule(parts.isSourceLocal + parts.setMark + [verdict], comment: "this node"))
        if let local { rules.append(goto(local)) }
        return rules
    }

    /// First whoever is remembered, then a random choice (spec rows 24-27).
    private func stick(_ spec: inout ChainSpec, _ hash: UInt64, _ policy: TrafficPolicy) {
        guard let service = sticky(hash) else { return }
        let endpoints = service.endpoints(policy)
        for endpoint in endpoints {
            let id = ChainID.stickyEndpoint(endpoint.hash)
            spec.uses.append(id)
            spec.rules.append(
                Rule(
                    [
                        parts.source(), .lookup(set: id.affinitySet ?? "", key: 0), .verdict(.goto(id.name)),
                    ], comment: comment(endpoint.backend)))
        }
        // One in N, then one in N-1 of the rest, and so on: all alike.
        for (index, id) in spec.uses.enumerated() {
            let left = UInt32(spec.uses.count - index)
            let chance: [Expression] =
                left == 1
                ? []
                : [.random(modulo: left, offset: 0, to: 0), .compare(register: 0, isEqual: true, parts.bytes(0))]
            spec.rules.append(Rule(chance + [.verdict(.goto(id.name))]))
        }
    }

    private func stickyEndpoint(_ id: ChainID, _ hash: UInt64) -> [Rule] {
        guard let (service, backend) = stickyEndpoint(hash), let set = id.affinitySet else { return [] }
        let address = backend.address
        return [
            // Of its own, so that a full set costs stickiness and not the connection.
            Rule(
                [
                    parts.source(),
                    .update(set: set, key: 0, timeoutMilliseconds: UInt64(service.seconds) * 1000),
                ], comment: service.name),
            Rule(
                [
                    .meta(.transportProtocol, to: 0),
                    .compare(register: 0, isEqual: true, [service.transport.rawValue]),
                    .load(address.address.networkBytes, to: 0),
                    .load([UInt8(address.port >> 8), UInt8(address.port & 255)], to: parts.addressRegisters),
                    .destinationNAT(natFamily, address: 0, port: parts.addressRegisters),
                ]),
        ]
    }

    private func comment(_ backend: Backend) -> String {
        (["\(backend.address)"] + endpointFlags(backend)).joined(separator: " ")
    }
}

/// What `dump-maps` must know of an endpoint besides its address.
func endpointFlags(_ backend: Backend) -> [String] {
    (backend.isLocal ? ["local"] : []) + (backend.state.contains(.terminating) ? ["terminating"] : [])
}
func endpointComment(_ backend: Backend) -> String {
    switch (backend.isLocal, backend.state.contains(.terminating)) {
    case (false, false): ""
    case (true, false): "local"
    case (false, true): "terminating"
    case (true, true): "local terminating"
    }
}
