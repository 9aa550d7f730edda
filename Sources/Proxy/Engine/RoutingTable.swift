/// A snapshot made ready for use: what can be worked out once per configuration is worked out here. Immutable, shared
/// by all event loops; a change replaces the whole table, and requests under way keep the one they began with.
package import Addressing
import Balancing
package import RouteIR
import Synchronization

package final class RoutingTable: Sendable {
    package let snapshot: ProxySnapshot
    private let frontends: [SocketAddress: RoutedServiceEntry]
    private let workloads: [IPAddress: WorkloadEntry]
    /// Some service has routes for single namespaces, so that it matters who a client is.
    let hasConsumers: Bool
    /// Asked for each request.
    let isInMesh: Bool
    /// Of the pods of this node that have some.
    let policies: [IPAddress: PodPolicies]
    /// Pods that take tunnels no more, or of which is known now that they do not.
    let formerPods: Set<IPAddress>

    /// `old` lends the matchers and workload entries that stay the same.
    package init(_ snapshot: ProxySnapshot, replacing old: RoutingTable? = nil) {
        self.snapshot = snapshot
        var known: [RoutedServiceID: RoutedServiceEntry] = [:]
        for entry in old?.frontends.values ?? [:].values { known[entry.service.id] = entry }
        var frontends: [SocketAddress: RoutedServiceEntry] = [:]
        for (id, service) in snapshot.services {
            let kept = known[id].flatMap { $0.service == service ? $0 : nil }
            let entry = kept ?? RoutedServiceEntry(service)
            for address in service.frontends { frontends[address] = entry }
        }
        self.frontends = frontends
        isInMesh = snapshot.mesh != nil
        policies = PodPolicies.all(of: snapshot, replacing: old?.policies ?? [:])
        hasConsumers = snapshot.services.values.contains { !$0.consumerRoutes.isEmpty }
        var workloads: [IPAddress: WorkloadEntry] = [:]
        workloads.reserveCapacity(snapshot.workloads.count)
        for (address, workload) in snapshot.workloads {
            let kept = old?.workloads[address].flatMap { $0.workload == workload ? $0 : nil }
            workloads[address] = kept ?? WorkloadEntry(workload)
        }
        self.workloads = workloads
        var former = old?.snapshot.unknownPods ?? []
        for (address, entry) in old?.workloads ?? [:] where workloads[address] !== entry {
            entry.retire()
            if entry.workload.isEnrolled { former.insert(address) }
        }
        formerPods = former.filter { address in
            workloads[address]?.workload.isEnrolled != true && !snapshot.unknownPods.contains(address)
        }
    }

    package func service(at frontend: SocketAddress) -> RoutedServiceEntry? { frontends[frontend] }
    package func workload(at address: IPAddress) -> WorkloadEntry? { workloads[address] }
}

/// One object per workload, so that telemetry can tell workloads apart without comparing names.
package final class WorkloadEntry: Sendable {
    package let workload: Workload
    private let retired = Atomic(false)
    init(_ workload: Workload) { self.workload = workload }

    /// No configuration has it any more: its series may go.
    var isGone: Bool { retired.load(ordering: .relaxed) }
    fileprivate func retire() { retired.store(true, ordering: .relaxed) }
}

package final class RoutedServiceEntry: Sendable {
    package let service: RoutedService
    let name: UpstreamID
    /// For requests to which no routes apply.
    let ownPlan: RulePlan
    private let producer: RuleSet?
    private let consumers: [String: RuleSet]

    init(_ service: RoutedService) {
        self.service = service
        name = UpstreamID(service.id)
        var own = RouteRule(name: "-", kind: service.clientProtocol == .grpc ? .grpc : .http)
        own.backends = [WeightedBackend(.upstream(service.ownUpstream))]
        ownPlan = RulePlan(own)
        producer = service.producerRoutes.map(RuleSet.init)
        consumers = service.consumerRoutes.mapValues(RuleSet.init)
    }

    var hasConsumers: Bool { !consumers.isEmpty }

    /// nil: no routes, the service's own endpoints answer.
    func rules(forClientIn namespace: String?) -> RuleSet? { namespace.flatMap { consumers[$0] } ?? producer }
}

final class RuleSet: Sendable {
    let matcher: RouteMatcher
    let plans: [RulePlan]

    init(_ rules: [RouteRule]) {
        matcher = RouteMatcher(rules)
        plans = rules.map(RulePlan.init)
    }
}

/// A rule with its filters sorted by what they are for.
final class RulePlan: Sendable {
    let rule: RouteRule
    let filters: FilterPlan
    let backends: [BackendPlan]
    let sampler: WeightedSampler

    init(_ rule: RouteRule) {
        self.rule = rule
        filters = FilterPlan(rule.filters)
        backends = rule.backends.map(BackendPlan.init)
        sampler = WeightedSampler(rule.backends.map(\.weight))
    }
}

/// An object, so that a request keeps one reference to it and not one to each list of its filters.
final class BackendPlan: Sendable {
    let target: WeightedBackend.Target
    let filters: FilterPlan

    init(_ backend: WeightedBackend) {
        target = backend.target
        filters = FilterPlan(backend.filters)
    }
}

struct FilterPlan: Sendable {
    var requestHeaders: [HeaderEdit] = []
    var responseHeaders: [HeaderEdit] = []
    var redirect: Redirect?
    var rewrite: Rewrite?
    var mirrors: [Mirror] = []
    var cors: CORSPolicy?
    /// Why requests cannot pass.
    var unresolved: String?

    init(_ filters: [RouteFilter]) {
        for filter in filters {
            switch filter {
            case .requestHeaders(let edit): requestHeaders.append(edit)
            case .responseHeaders(let edit): responseHeaders.append(edit)
            case .redirect(let redirect): self.redirect = redirect
            case .rewrite(let rewrite): self.rewrite = rewrite
            case .mirror(let mirror): mirrors.append(mirror)
            case .cors(let policy): cors = policy
            case .unresolved(let reason): unresolved = reason
            }
        }
    }
}
