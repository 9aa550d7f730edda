/// Cluster state -> what the L7 proxy is told, incrementally: a change of endpoints makes one upstream anew, a change
/// of a route its services. Compiling everything from scratch gives the same result (tested).
package import Addressing
package import Cluster
import DataplaneIR
package import RouteIR

package struct RouteCompiler: Sendable {
    /// Its generation grows with every update that changed something.
    package internal(set) var snapshot: ProxySnapshot
    let options: CompilerOptions
    var node: NodeFacts
    /// Services that routes are attached to.
    private var parents: [ObjectName: Parent] = [:]
    /// Services that rules name, and by whose routes.
    private var users: [ObjectName: Set<ObjectName>] = [:]
    /// Of each service in `users`: what a reference to it depends on.
    private var seen: [ObjectName: Service] = [:]
    var policyFindings: [ObjectName: [Finding]] = [:]
    var endpointFindings: [UpstreamID: [Finding]] = [:]
    var own = OwnSockets()
    /// How many endpoints have an address.
    var targets: [IPAddress: Int] = [:]
    /// Addresses that the last update looked up: a change of pods must cost the change (tested).
    package internal(set) var lookups = 0

    private struct Parent: Sendable {
        var services: [RoutedService] = []
        /// Of its own and of its rules' backends.
        var upstreams: Set<UpstreamID> = []
        /// Services named by rules, whether or not they exist.
        var named: Set<ObjectName> = []
        var findings: [Finding] = []
    }

    package init(node: NodeFacts, options: CompilerOptions = CompilerOptions()) {
        self.node = node
        self.options = options
        snapshot = ProxySnapshot(node: ProxyNode(name: node.name, zone: node.zone))
    }

    /// What is wrong with routes and with the annotations of services they use.
    package var findings: [Finding] {
        parents.sorted { $0.key < $1.key }.flatMap(\.value.findings)
            + policyFindings.sorted { $0.key < $1.key }.flatMap(\.value)
            + endpointFindings.sorted { $0.key < $1.key }.flatMap(\.value)
    }
    /// Whether any route is attached to a service, which is what a proxy is needed for.
    package var isNeeded: Bool { !snapshot.services.isEmpty }

    /// Brings the snapshot up to date; false if nothing changed. `pods`: addresses of pods that came, went or changed.
    package mutating func update(
        _ dirty: Set<ObjectName>, pods: Set<IPAddress>, node: NodeFacts, own: OwnSockets,
        from state: borrowing ClusterState
    ) -> Bool {
        lookups = 0
        let nodeDiffers = node != self.node || own != self.own
        guard nodeDiffers || !pods.isEmpty || !dirty.isEmpty else { return false }
        (self.node, self.own) = (node, own)
        let wasNeeded = isNeeded
        var touched = pods
        var differs = false
        if nodeDiffers || !dirty.isEmpty {
            differs = updateServices(dirty, nodeDiffers: nodeDiffers, state, &touched)
        }
        if isNeeded, nodeDiffers || !wasNeeded { touched.formUnion(state.podAddresses.values.joined()) }
        if updateWorkloads(at: touched, state) { differs = true }
        if differs { snapshot.generation += 1 }
        return differs
    }

    private mutating func updateServices(
        _ dirty: Set<ObjectName>, nodeDiffers: Bool, _ state: borrowing ClusterState, _ touched: inout Set<IPAddress>
    ) -> Bool {
        let before = (snapshot.services, snapshot.upstreams, snapshot.node)
        snapshot.node = ProxyNode(name: node.name, zone: node.zone)
        var upstreams = Set(snapshot.upstreams.keys.filter { nodeDiffers || dirty.contains($0.object) })
        var queue = dirty
        for name in dirty where users[name] != nil && !isSameTarget(seen[name], state.services[name]) {
            queue.formUnion(users[name] ?? [])
        }
        let virtualBefore = routedAddresses
        for name in queue { upstreams.formUnion(compileParent(name, state)) }
        // A connection of the proxy to an address that is routed would come back to it.
        let virtual = routedAddresses
        if virtual != virtualBefore { upstreams.formUnion(snapshot.upstreams.keys) }
        let wanted = parents.values.reduce(into: Set<UpstreamID>()) { $0.formUnion($1.upstreams) }
        for id in snapshot.upstreams.keys where !wanted.contains(id) { replace(id, nil, &touched) }
        upstreams.formUnion(wanted.filter { snapshot.upstreams[$0] == nil })
        for id in upstreams where wanted.contains(id) { replace(id, upstream(id, state, virtual), &touched) }
        updatePolicyFindings(wanted, state)
        return before != (snapshot.services, snapshot.upstreams, snapshot.node)
    }

    var routedAddresses: Set<IPAddress> {
        Set(snapshot.services.values.flatMap { $0.frontends.map(\.address) })
    }

    // MARK: Services and rules

    /// Returns the upstreams that must be made anew.
    private mutating func compileParent(_ name: ObjectName, _ state: borrowing ClusterState) -> Set<UpstreamID> {
        let old = parents[name]
        let routes = state.routes(of: name)
        let new = routes.isEmpty ? nil : compile(name, routes, state)
        parents[name] = new
        for service in old?.services ?? [] { snapshot.services[service.id] = nil }
        for service in new?.services ?? [] { snapshot.services[service.id] = service }
        for used in old?.named.subtracting(new?.named ?? []) ?? [] {
            users[used]?.remove(name)
            if users[used]?.isEmpty == true { (users[used], seen[used]) = (nil, nil) }
        }
        for used in new?.named ?? [] {
            users[used, default: []].insert(name)
            seen[used] = state.services[used]
        }
        // A new kind of route may change what an upstream speaks.
        return old?.services == new?.services ? [] : (new?.upstreams ?? [])
    }

    private func compile(_ name: ObjectName, _ routes: [Route], _ state: borrowing ClusterState) -> Parent {
        var result = Parent()
        guard let service = state.services[name], options.handles(service) else {
            result.findings = routes.map {
                Finding(
                    reason: "no-parent", object: $0.id, field: "spec.parentRefs",
                    message: "Service \(name) does not exist, so nothing is routed for it; create it or remove the "
                        + "reference")
            }
            return result
        }
        let attached = attach(routes, to: service, options) { result.findings.append($0) }
        let services = state.services
        func rules(_ routes: [Route]) -> [RouteRule] {
            var statesLeft = Pattern.maximumTableStates
            let rules = routes.flatMap { route in
                var compiler = RuleCompiler(route, statesLeft: statesLeft) { target($0, services) }
                let rules = compiler.rules()
                statesLeft = compiler.statesLeft
                result.findings += compiler.findings
                return rules
            }
            result.findings += conflicts(routes, rules)
            return rules
        }
        for port in service.ports where port.transport == .tcp {
            guard let attached = attached[port.port] else { continue }
            let id = RoutedServiceID(namespace: name.namespace, name: name.name, port: port.port)
            var routed = RoutedService(
                id: id, portName: port.name, clientSpeaks: spoken(port, attached.producer.first?.kind))
            routed.frontends = service.clusterIPs.map { SocketAddress($0, port.port) }.sorted()
            if !attached.producer.isEmpty { routed.producerRoutes = rules(attached.producer) }
            routed.consumerRoutes = attached.consumers.mapValues(rules)
            result.services.append(routed)
            result.upstreams.insert(routed.ownUpstream)
            result.upstreams.formUnion(routed.targets)
        }
        result.named = Set(
            routes.flatMap(\.rules).flatMap { rule in
                rule.backends.map(\.reference.name) + rule.mirrored + rule.backends.flatMap(\.mirrored)
            })
        // The same route on several ports says the same several times.
        var once: Set<Finding> = []
        result.findings = result.findings.filter { once.insert($0).inserted }
        return result
    }

    private func isSameTarget(_ a: Service?, _ b: Service?) -> Bool {
        a?.ports == b?.ports && a?.type == b?.type && (a == nil) == (b == nil)
    }

    /// Two rules with one and the same match: the later one never gets a request by it.
    private func conflicts(_ routes: [Route], _ rules: [RouteRule]) -> [Finding] {
        var first: [RouteMatch: String] = [:]
        var findings: [Finding] = []
        // What stands for patterns that are too much says nothing of the rule's own matches.
        for rule in rules where !rule.filters.contains(.unresolved(RuleCompiler.tooManyStates)) {
            for match in rule.matches {
                guard let winner = first[match] else {
                    first[match] = rule.name
                    continue
                }
                guard let route = routes.first(where: { rule.name.hasPrefix("\($0.name) ") }) else { continue }
                findings.append(
                    Finding(
                        reason: "route-conflict", object: route.id, field: "spec.rules",
                        message: "a match of \(rule.name) is also one of \(winner), which is older and gets the "
                            + "requests; change one of them"))
            }
        }
        return findings
    }
}

private func target(_ reference: Route.BackendReference, _ services: [ObjectName: Service]) -> WeightedBackend.Target {
    guard reference.group.isEmpty || reference.group == "core", reference.kind == "Service" else {
        return .invalid("kind \(reference.kind) is not supported, only Service is")
    }
    guard let service = services[reference.name], service.type != .externalName else {
        return .invalid("Service \(reference.name) does not exist")
    }
    guard let port = reference.port, service.ports.contains(where: { $0.port == port && $0.transport == .tcp }) else {
        return .invalid(
            "Service \(reference.name) has no TCP port \(reference.port.map(String.init) ?? "of no number")")
    }
    return .upstream(
        UpstreamID(RoutedServiceID(namespace: reference.name.namespace, name: reference.name.name, port: port)))
}

extension UpstreamID {
    var object: ObjectName { ObjectName(service.namespace, service.name) }
}

extension RoutedService {
    /// Every upstream its rules name, also for mirroring.
    fileprivate var targets: [UpstreamID] {
        let rules = (producerRoutes ?? []) + consumerRoutes.values.flatMap(\.self)
        let filters = rules.flatMap { $0.filters + $0.backends.flatMap(\.filters) }
        let mirrors = filters.compactMap { if case .mirror(let mirror) = $0 { mirror.target } else { nil } }
        return (rules.flatMap { $0.backends.map(\.target) } + mirrors).compactMap { target in
            if case .upstream(let id) = target { id } else { nil }
        }
    }
}

extension Route.Rule {
    fileprivate var mirrored: [ObjectName] { mirrorTargets(filters) }
}
extension Route.Backend {
    fileprivate var mirrored: [ObjectName] { mirrorTargets(filters) }
}
private func mirrorTargets(_ filters: [Route.Filter]) -> [ObjectName] {
    filters.compactMap { if case .mirror(let reference, _, _) = $0 { reference.name } else { nil } }
}
