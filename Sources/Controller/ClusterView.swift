/// What the controller knows of the cluster, as a value: events of the source in, answers out. Routes are judged by the
/// compiler of the agents, so that both say one sentence about the same fault.
import AdminAPI
import Cluster
import Compile
import InForce
import RouteStatus
import Validation

struct ClusterView: Sendable {
    /// What the watches bring; before the first lists are complete anything may be missing.
    private static let followed: Set<ObjectKind> = [.service, .endpointSlice, .namespace, .httpRoute, .grpcRoute]
    /// A status names no more findings than this; `findingCount` says how many there are.
    private static let findingsShown = 200

    /// Of what the watches bring, so that one object can be judged at the cost of its neighbours.
    private var objects = ObjectSet()
    var state: ClusterState { objects.state }
    private(set) var statuses: RouteStatusBook
    private(set) var isComplete = false
    private(set) var problems: [String] = []

    init(proxyName: String? = nil) {
        statuses = RouteStatusBook(options: CompilerOptions(proxyName: proxyName))
    }

    var serviceCount: Int { state.services.count }
    /// Those with a Service as a parent: the others are somebody else's.
    var routeCount: Int { state.routes.values.count { !$0.parents.isEmpty } }

    /// Everything, judged.
    func judged() -> Report { judge(objects) }
    /// What one object is judged against: nothing, as long as anything may be missing.
    var known: ObjectSet { isComplete ? objects : ObjectSet() }

    /// What is wrong with routes. A walk over everything.
    var findings: [Finding] { statuses.findings }

    /// The routes whose status must be written now that this is known.
    @discardableResult mutating func take(_ event: SourceEvent) -> Set<ObjectID> {
        switch event {
        case .changes(let changes):
            // Pods are agents: `InForceBook` has them.
            for change in changes where change.id.kind != .pod { objects.apply(change.withoutRecord) }
            return statuses.apply(changes)
        case .synced:
            isComplete = true
            objects.complete = Self.followed
            return statuses.markSynced()
        case .problems(let list): problems = list.map(\.description)
        case .podsKnown, .reached: break
        }
        return []
    }

    func fill(_ status: inout ControllerStatus) {
        status.ready = isComplete
        status.source.complete = isComplete
        status.source.problems = problems
        status.services = serviceCount
        status.routes = routeCount
        status.statusesToWrite = statuses.outstanding.count
        let findings = findings
        status.findings = findings.prefix(Self.findingsShown).map(\.description)
        status.findingCount = findings.count
    }

    /// Every route of ours, or of those of one service, with what is wrong with it.
    func routeList(_ standing: Standing? = nil, of service: String? = nil) -> ClusterRoutes {
        let faults = Dictionary(grouping: findings, by: \.object)
        let routes = state.routes.values
            .filter { route in
                guard let service else { return !route.parents.isEmpty }
                return route.parents.contains { text($0) == service || text($0).hasPrefix(service + ":") }
            }
            .sorted { ($0.name, $0.id.kind.rawValue) < ($1.name, $1.id.kind.rawValue) }
        return ClusterRoutes(
            entries: routes.map { route in
                var entry = ClusterRoutes.Entry(
                    route: route.id.description, parents: route.parents.map(text), rules: route.rules.count,
                    findings: (faults[route.id] ?? []).map { "\($0.field): \($0.message)" })
                entry.inForce = standing?.progress(of: route)
                return entry
            })
    }
}

extension Change {
    /// What only the status is made of is no change of a route.
    fileprivate var withoutRecord: Change {
        guard case .upsert(.route(var route)) = self else { return self }
        route.record = nil
        return .upsert(.route(route))
    }
}

/// `shop/web`, `shop/web:80`, `shop/web:http`
private func text(_ parent: Route.Parent) -> String {
    let port = parent.port.map { "\($0)" } ?? parent.sectionName
    return "\(parent.service)" + (port.map { ":\($0)" } ?? "")
}
