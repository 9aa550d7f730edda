/// Cluster state -> what the L7 proxy is told, incrementally: a change of endpoints makes one upstream anew, a change
/// of a route its services. Compiling everything from scratch gives the same result (tested).
package import Addressing
package import Cluster
import DataplaneIR
package import RouteIR

/// What an update of routes changed.
package struct RouteChanges: Equatable, Sendable {
    /// The snapshot is another.
    package var snapshot = false
    /// Some came or went.
    package var findings = false
    package var newFindings: [Finding] = []

    package init() {}

    mutating func replace(_ old: [Finding], with new: [Finding]) {
        guard old != new else { return }
        findings = true
        newFindings += Set(new).subtracting(old)
    }
}

package struct RouteCompiler: Sendable {
    /// Its generation grows with every update that changed something.
    package internal(set) var snapshot: ProxySnapshot
    let options: CompilerOptions
    var node: NodeFacts
    var mesh = MeshView()
    private var parents: [ObjectName: RouteParent] = [:]
    private var users = BackendUsers()
    var references = RouteReferences()
    var policyFindings: [ObjectName: [Finding]] = [:]
    var endpointFindings: [UpstreamID: [Finding]] = [:]
    var own = OwnSockets()
    /// The addresses of endpoints.
    var targets = Tally<IPAddress>()
    /// Of the update under way.
    var changes = RouteChanges()
    /// Addresses that the last update looked up: a change of pods must cost the change (tested).
    package internal(set) var lookups = 0
    /// Services with routes and upstreams that all updates together made anew: a change must cost the change (tested).
    package internal(set) var made = 0

    package init(node: NodeFacts, options: CompilerOptions = CompilerOptions()) {
        self.node = node
        self.options = options
        snapshot = ProxySnapshot(node: ProxyNode(name: node.name, zone: node.zone))
    }

    /// What is wrong with routes and with the annotations of services they use. A walk over everything.
    package var findings: [Finding] {
        parents.sorted { $0.key < $1.key }.flatMap(\.value.findings)
            + policyFindings.sorted { $0.key < $1.key }.flatMap(\.value)
            + endpointFindings.sorted { $0.key < $1.key }.flatMap(\.value)
    }
    /// Whether any route is attached to a service or a pod of this node makes tunnels, which a proxy is needed for.
    package var isNeeded: Bool { !snapshot.services.isEmpty || !snapshot.meshPods.isEmpty }
    /// Whether a routed service or a pod that makes tunnels has an address of it.
    package func isRouted(_ family: AddressFamily) -> Bool {
        references.isRouted(family) || snapshot.meshPods.keys.contains { $0.family == family }
    }

    /// Brings the snapshot up to date. `pods`: addresses of pods that came, went or changed; the services with an
    /// endpoint that takes tunnels, and did not, are dirty.
    package mutating func update(
        _ dirty: Set<ObjectName>, pods: Set<IPAddress>, node: NodeFacts, own: OwnSockets, mesh: MeshView = MeshView(),
        from state: borrowing ClusterState
    ) -> RouteChanges {
        lookups = 0
        changes = RouteChanges()
        let nodeDiffers = node != self.node || own != self.own
        let wasNeeded = isNeeded
        if mesh != self.mesh { take(mesh) }
        let services = dirty.filter {
            parents[$0] != nil || users.contains($0) || !state.routes(of: $0).isEmpty || isTunnelled($0, state)
        }
        guard nodeDiffers || !pods.isEmpty || !services.isEmpty || changes.snapshot else { return changes }
        (self.node, self.own) = (node, own)
        var touched = pods
        if nodeDiffers || !services.isEmpty { updateServices(services, nodeDiffers: nodeDiffers, state, &touched) }
        if isNeeded, nodeDiffers || !wasNeeded { touched.formUnion(state.podAddresses.values.joined()) }
        if updateWorkloads(at: touched, state) { changes.snapshot = true }
        if changes.snapshot { snapshot.generation += 1 }
        return changes
    }

    private mutating func updateServices(
        _ dirty: Set<ObjectName>, nodeDiffers: Bool, _ state: borrowing ClusterState, _ touched: inout Set<IPAddress>
    ) {
        let proxyNode = ProxyNode(name: node.name, zone: node.zone)
        if snapshot.node != proxyNode { (snapshot.node, changes.snapshot) = (proxyNode, true) }
        let queue = dirty.union(users.affected(by: dirty, state.services))
        var outdated = RouteReferences.Changes()
        for name in queue { compileParent(name, state, &outdated) }
        for name in dirty { outdated.upstreams.formUnion(references.upstreams(of: name)) }
        for address in outdated.addresses {
            // A connection of the proxy to an address that is routed would come back to it. Few endpoints have one.
            if !references.isRouted(address) {
                outdated.upstreams.formUnion(endpointFindings.keys)
            } else if targets.contains(address) {
                outdated.upstreams.formUnion(snapshot.upstreams.keys)
            }
        }
        if nodeDiffers { outdated.upstreams.formUnion(snapshot.upstreams.keys) }
        for id in outdated.upstreams {
            replace(id, references.isWanted(id) ? upstream(id, state) : nil, &touched)
        }
        updatePolicyFindings(of: Set(outdated.upstreams.map(\.object)), state)
    }

    // MARK: Services and rules

    private mutating func compileParent(
        _ name: ObjectName, _ state: borrowing ClusterState, _ outdated: inout RouteReferences.Changes
    ) {
        let old = parents[name]
        let routes = state.routes(of: name)
        let isTunnelled = isTunnelled(name, state)
        guard old != nil || !routes.isEmpty || isTunnelled else { return }
        made += 1
        let new = routes.isEmpty && !isTunnelled ? nil : compile(name, routes, isTunnelled: isTunnelled, state)
        parents[name] = new
        if old?.services ?? [] != new?.services ?? [] {
            for service in old?.services ?? [] { snapshot.services[service.id] = nil }
            for service in new?.services ?? [] { snapshot.services[service.id] = service }
            changes.snapshot = true
        }
        changes.replace(old?.findings ?? [], with: new?.findings ?? [])
        references.replace(old, with: new, &outdated)
        users.replace(old?.named ?? [], with: new?.named ?? [], of: name, state.services)
    }

    private func compile(
        _ name: ObjectName, _ routes: [Route], isTunnelled: Bool, _ state: borrowing ClusterState
    ) -> RouteParent {
        var result = RouteParent()
        guard let service = state.services[name], options.handles(service) else {
            result.findings = findingsWithout(parent: name, of: routes)
            return result
        }
        let attached = attach(routes, to: service, options) { result.findings.append($0) }
        let services = state.services
        func rules(_ routes: [Attachment]) -> [RouteRule] {
            compileRules(routes.map(\.route), services) { result.findings.append($0) }
        }
        for port in service.ports where port.transport == .tcp {
            let attached = attached[port.port]
            guard attached != nil || isTunnelled else { continue }
            let id = RoutedServiceID(namespace: name.namespace, name: name.name, port: port.port)
            // What no route looks into is not looked into at all.
            var routed = RoutedService(
                id: id, portName: port.name,
                clientSpeaks: attached.map { spoken(port, $0.producer.first?.route.kind) } ?? .tcp)
            let addresses = service.clusterIPs + (isTunnelled ? Array(service.outsideAddresses(options)) : [])
            routed.frontends = addresses.map { SocketAddress($0, port.port) }.sorted()
            guard let attached else {
                result.add(routed)
                continue
            }
            if !attached.producer.isEmpty { routed.producerRoutes = rules(attached.producer) }
            routed.consumerRoutes = attached.consumers.mapValues(rules)
            result.add(routed)
        }
        result.named = namedServices(routes)
        // The same route on several ports says the same several times.
        var once: Set<Finding> = []
        result.findings = result.findings.filter { once.insert($0).inserted }
        return result
    }
}
