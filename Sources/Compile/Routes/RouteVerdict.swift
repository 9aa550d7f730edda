/// What becomes of the routes of one service, for whoever writes their status: by the code that compiles them.
package import Cluster
import RouteIR

package struct RouteVerdict: Equatable, Sendable {
    /// Ports of the service where a parent put the route in force, by the parent's number in `Route.parents`.
    package var ports: [Int: [UInt16]] = [:]
    /// About its parents.
    package var refusals: [Finding] = []
    /// About its rules, on each port.
    package var rules: [UInt16: [Finding]] = [:]
    /// The same of a route that is in force on no port.
    package var elsewhere: [Finding] = []

    package init() {}
}

/// Of all routes that are attached to `service`; empty if it does not exist or is not ours.
package func judge(_ service: ObjectName, _ state: borrowing ClusterState, _ options: CompilerOptions)
    -> RoutesOfService
{
    var result = RoutesOfService()
    let routes = state.routes(of: service)
    let services = state.services
    result.named = namedServices(routes)
    guard let service = services[service], options.handles(service) else { return result }
    for route in routes { result.verdicts[route.id] = RouteVerdict() }
    let attached = attach(routes, to: service, options) { result.verdicts[$0.object]?.refusals.append($0) }
    for (port, attached) in attached.sorted(by: { $0.key < $1.key }) {
        for group in [attached.producer] + attached.consumers.values {
            for attachment in group {
                for parent in attachment.parents {
                    result.verdicts[attachment.route.id]?.ports[parent, default: []].append(port)
                }
            }
            _ = compileRules(group.map(\.route), services) {
                result.verdicts[$0.object]?.rules[port, default: []].append($0)
            }
        }
    }
    for route in routes where result.verdicts[route.id]?.ports.isEmpty == true {
        _ = compileRules([route], services) { result.verdicts[route.id]?.elsewhere.append($0) }
    }
    return result
}

package struct RoutesOfService: Equatable, Sendable {
    package var verdicts: [ObjectID: RouteVerdict] = [:]
    /// Services that their rules name, whether or not they exist.
    package var named: Set<ObjectName> = []

    package init() {}

    /// What the compiler finds in them, each once: a route on several ports says the same several times.
    package var findings: [Finding] {
        var once: Set<Finding> = []
        return verdicts.sorted { ($0.key.name, $0.key.kind.rawValue) < ($1.key.name, $1.key.kind.rawValue) }
            .flatMap { $0.value.refusals + $0.value.rules.sorted { $0.key < $1.key }.flatMap(\.value) }
            .filter { once.insert($0).inserted }
    }
    /// Some route is in force, so that what its annotations say is used.
    package var isRouted: Bool { verdicts.values.contains { !$0.ports.isEmpty } }
}

package func findingsWithout(parent name: ObjectName, of routes: [Route]) -> [Finding] {
    routes.map {
        Finding(
            reason: "no-parent", object: $0.id, field: "spec.parentRefs",
            message: "Service \(name) does not exist, so nothing is routed for it; create it or remove the reference")
    }
}

/// What is wrong with the annotations of a service that routes use.
package func policyFindings(of service: Service) -> [Finding] {
    service.annotations.isEmpty ? [] : ServicePolicy(service).findings
}
