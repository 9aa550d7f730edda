/// What routed services refer to, counted by how many do: a change of one of them asks none of the others.
import Addressing
import Cluster
import RouteIR

/// How often each of them is there.
struct Tally<Key: Hashable & Sendable>: Sendable {
    private var counts: [Key: Int] = [:]

    func contains(_ key: Key) -> Bool { counts[key] != nil }
    /// True if it was not there.
    @discardableResult mutating func add(_ key: Key) -> Bool {
        counts[key, default: 0] += 1
        return counts[key] == 1
    }
    /// True if it is not there any more.
    @discardableResult mutating func remove(_ key: Key) -> Bool {
        guard let count = counts[key] else { return false }
        counts[key] = count > 1 ? count - 1 : nil
        return count <= 1
    }
}

struct RouteReferences: Sendable {
    /// What a change of parents makes out of date.
    struct Changes {
        /// Those that came or went, or that speak another protocol.
        var upstreams: Set<UpstreamID> = []
        /// Where a routed service came, or went.
        var addresses: Set<IPAddress> = []
    }
    private var wanted = Tally<UpstreamID>()
    private var byService: [ObjectName: Set<UpstreamID>] = [:]
    private var calledByGRPC = Tally<UpstreamID>()
    private var addresses = Tally<IPAddress>()
    private var families = Tally<AddressFamily>()

    func isWanted(_ id: UpstreamID) -> Bool { wanted.contains(id) }
    func upstreams(of service: ObjectName) -> Set<UpstreamID> { byService[service] ?? [] }
    /// Whether a GRPCRoute sends there.
    func isCalledByGRPC(_ id: UpstreamID) -> Bool { calledByGRPC.contains(id) }
    /// Whether it is a cluster IP of a routed service.
    func isRouted(_ address: IPAddress) -> Bool { addresses.contains(address) }
    func isRouted(_ family: AddressFamily) -> Bool { families.contains(family) }

    /// `new` goes before `old`, so that what is in both is never away.
    mutating func replace(_ old: RouteParent?, with new: RouteParent?, _ changes: inout Changes) {
        if let new { add(new, &changes) }
        if let old { remove(old, &changes) }
    }

    private mutating func add(_ parent: RouteParent, _ changes: inout Changes) {
        for id in parent.upstreams {
            guard wanted.add(id) else { continue }
            byService[id.object, default: []].insert(id)
            changes.upstreams.insert(id)
        }
        for id in parent.calledByGRPC {
            if calledByGRPC.add(id) { changes.upstreams.insert(id) }
        }
        for service in parent.routedServices {
            for frontend in service.frontends {
                guard addresses.add(frontend.address) else { continue }
                families.add(frontend.address.family)
                changes.addresses.insert(frontend.address)
            }
        }
    }

    private mutating func remove(_ parent: RouteParent, _ changes: inout Changes) {
        for id in parent.upstreams {
            guard wanted.remove(id) else { continue }
            byService[id.object]?.remove(id)
            if byService[id.object]?.isEmpty == true { byService[id.object] = nil }
            changes.upstreams.insert(id)
        }
        for id in parent.calledByGRPC {
            if calledByGRPC.remove(id) { changes.upstreams.insert(id) }
        }
        for service in parent.routedServices {
            for frontend in service.frontends {
                guard addresses.remove(frontend.address) else { continue }
                families.remove(frontend.address.family)
                changes.addresses.insert(frontend.address)
            }
        }
    }
}

/// A service that routes are attached to.
struct RouteParent: Sendable {
    var services: [RoutedService] = []
    /// Of its own and of its rules' backends.
    var upstreams: Set<UpstreamID> = []
    var calledByGRPC: Set<UpstreamID> = []
    /// Services named by rules, whether or not they exist.
    var named: Set<ObjectName> = []
    var findings: [Finding] = []

    /// What the proxy itself connects to at the address of one of these would come back to it.
    var routedServices: [RoutedService] { services.filter { $0.clientProtocol != .tcp } }

    mutating func add(_ service: RoutedService) {
        services.append(service)
        upstreams.insert(service.ownUpstream)
        upstreams.formUnion(service.targets)
        for rule in service.rulesOfAllClients where rule.kind == .grpc {
            calledByGRPC.formUnion(rule.backends.compactMap(\.target.upstream))
        }
    }
}

extension UpstreamID {
    var object: ObjectName { ObjectName(service.namespace, service.name) }
}

extension WeightedBackend.Target {
    fileprivate var upstream: UpstreamID? { if case .upstream(let id) = self { id } else { nil } }
}

extension RoutedService {
    fileprivate var rulesOfAllClients: [RouteRule] { (producerRoutes ?? []) + consumerRoutes.values.flatMap(\.self) }

    /// Every upstream its rules name, also for mirroring.
    fileprivate var targets: [UpstreamID] {
        let rules = rulesOfAllClients
        let filters = rules.flatMap { $0.filters + $0.backends.flatMap(\.filters) }
        let mirrors = filters.compactMap { if case .mirror(let mirror) = $0 { mirror.target } else { nil } }
        return (rules.flatMap { $0.backends.map(\.target) } + mirrors).compactMap(\.upstream)
    }
}
