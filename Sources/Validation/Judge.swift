/// Judges a set of objects: what the agents' compiler finds, and what only several objects show. The order in which
/// they were given decides nothing.
import Addressing
import Cluster
import Compile
import RouteIR

package func judge(_ set: ObjectSet) -> Report {
    var judging = Judging(set)
    judging.compile()
    for route in judging.state.routes.values where !route.parents.isEmpty { judging.judge(route) }
    for service in set.state.services.values { judging.judge(service) }
    for namespace in set.state.namespaces.values { judging.judge(namespace) }
    return judging.report()
}

private struct Judging {
    let set: ObjectSet
    let state: ClusterState
    private let unknown: Set<ObjectName>
    private var found: Set<Judgement> = []
    private var comparisons = 0
    private var unknownEndpoints = 0
    private var selected: [Selector: SelectedPods] = [:]

    private struct Selector: Hashable {
        let namespace: String
        let labels: [String: String]
    }
    private struct PortName: Hashable {
        let name: String
        let transport: TransportProtocol
    }
    private struct SelectedPods {
        var isEmpty = true
        var ports: Set<PortName> = []
    }

    init(_ set: ObjectSet) {
        self.set = set
        let assumptions = Assumptions(set)
        state = assumptions.state
        unknown = assumptions.unknownServices
    }

    func report() -> Report {
        var report = Report()
        report.judgements = found.sorted()
        report.unknownServices = unknown.sorted()
        report.routesOfGateways = set.state.routes.values.count { $0.parents.isEmpty }
        report.servicesOfUnknownEndpoints = unknownEndpoints
        report.comparisons = comparisons
        return report
    }

    private mutating func warn(_ code: String, _ object: ObjectID, _ field: String, _ message: String) {
        found.insert(Judgement(.warning, code, object, field: field, message))
    }

    // MARK: The compiler's findings, and matches that never get a request

    mutating func compile() {
        let node = NodeFacts(name: "")
        var services = Compiler(node: node)
        _ = services.update(state.knownServices, from: state)
        comparisons += services.made
        var routes = RouteCompiler(node: node)
        _ = routes.update(
            state.knownServices.union(state.routedServices), pods: [], node: node, own: OwnSockets(), from: state)
        for finding in services.findings.values.joined() { found.insert(Judgement(finding)) }
        for finding in routes.findings { found.insert(Judgement(finding)) }
        compileUnused(routes.snapshot)
        for service in routes.snapshot.services.values {
            let parent = ObjectName(service.id.namespace, service.id.name)
            var rules: [String: (ObjectID, Int)] = [:]
            for route in state.routes(of: parent) {
                for index in route.rules.indices { rules[route.ruleName(index)] = (route.id, index) }
            }
            for table in [service.producerRoutes ?? []] + service.consumerRoutes.values { note(table, rules) }
        }
    }

    /// The rules of routes that no port takes are judged all the same, each route on a Service of its own.
    private mutating func compileUnused(_ snapshot: ProxySnapshot) {
        let tables = snapshot.services.values.flatMap { [$0.producerRoutes ?? []] + $0.consumerRoutes.values }
        let used = Set(tables.joined().map(\.name))
        var state = self.state
        var parents: Set<ObjectName> = []
        for var route in self.state.routes.values where !route.parents.isEmpty {
            guard !route.rules.indices.contains(where: { used.contains(route.ruleName($0)) }) else { continue }
            // No name of the API has a capital.
            var parent = Service(name: ObjectName(route.name.namespace, "\(route.id.kind.rawValue) \(route.name.name)"))
            parent.clusterIPs = ObjectSet.unallocated
            parent.ports = [Service.Port(name: "http", port: 80)]
            route.parents = [Route.Parent(service: parent.name)]
            parents.insert(parent.name)
            _ = state.apply(.upsert(.service(parent)))
            _ = state.apply(.upsert(.route(route)))
        }
        let node = NodeFacts(name: "")
        var compiler = RouteCompiler(node: node)
        _ = compiler.update(parents, pods: [], node: node, own: OwnSockets(), from: state)
        for finding in compiler.findings where finding.object.kind == .httpRoute || finding.object.kind == .grpcRoute {
            found.insert(Judgement(finding))
        }
    }

    private mutating func note(_ table: [RouteRule], _ sources: [String: (ObjectID, Int)]) {
        let search = ShadowSearch(table)
        comparisons += search.comparisons
        for shadow in search.shadows {
            let (hidden, winner) = (table[shadow.hidden.rule], table[shadow.by.rule])
            let (match, other) = (hidden.matches[shadow.hidden.match], winner.matches[shadow.by.match])
            // Of matches that are written alike the compiler tells.
            guard match != other, let (route, index) = sources[hidden.name] else { continue }
            warn(
                "shadowed-match", route, "spec.rules[\(index)].matches",
                "the match \(match) never gets a request: \(other) of \(winner.name) is asked first and takes in all "
                    + "of it; change one of them, or put the narrower one first")
        }
    }

    /// The pods that a service selects; nil: nothing is known of pods in its namespace.
    private mutating func pods(of service: Service) -> SelectedPods? {
        // Services often select the same pods.
        let selector = Selector(namespace: service.name.namespace, labels: service.selector)
        if let known = selected[selector] { return known }
        guard let candidates = set.candidates(for: service) else { return nil }
        comparisons += candidates.count
        var pods = SelectedPods()
        for pod in candidates where service.selector.allSatisfy({ pod.labels[$0] == $1 }) {
            pods.isEmpty = false
            for port in pod.namedPorts { pods.ports.insert(PortName(name: port.name, transport: port.transport)) }
        }
        selected[selector] = pods
        return pods
    }

    // MARK: Routes

    mutating func judge(_ route: Route) {
        for (index, rule) in route.rules.enumerated() { judge(rule, at: "spec.rules[\(index)]", of: route) }
    }

    private mutating func judge(_ rule: Route.Rule, at path: String, of route: Route) {
        let redirects = rule.filters.contains { if case .redirect = $0 { true } else { false } }
        if rule.backends.isEmpty, !redirects {
            warn(
                "no-backends", route.id, "\(path).backendRefs",
                "there are none, so requests are answered with 500; name a Service or redirect")
        }
        judgeRetries(rule, at: path, of: route)
        for (number, backend) in rule.backends.enumerated() where backend.reference.isService {
            judge(backend.reference, at: "\(path).backendRefs[\(number)]", of: route)
        }
    }

    /// RFC 9110, 9.2.2.
    private static let repeatable: Set = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]

    private mutating func judgeRetries(_ rule: Route.Rule, at path: String, of route: Route) {
        guard rule.retry != nil, route.kind == .http else { return }
        let methods = rule.matches.isEmpty ? [nil] : rule.matches.map(\.method)
        let repeatsAll = route.annotations["heddle.io/retry-non-idempotent"] == "true"
        if let method = methods.lazy.compactMap({ $0 }).first(where: { !Self.repeatable.contains($0) }), !repeatsAll {
            warn(
                "retry-not-idempotent", route.id, "\(path).retry",
                "a \(method) request that a backend may have seen is not sent again; if it may be carried out twice "
                    + "set annotation heddle.io/retry-non-idempotent, else remove the retry")
        } else if repeatsAll, methods.contains(nil) {
            warn(
                "retry-repeats", route.id, "\(path).retry",
                "requests of every method are sent again, POST too, and may be carried out twice; match the methods "
                    + "that may be")
        }
    }

    private mutating func judge(_ reference: Route.BackendReference, at field: String, of route: Route) {
        guard !unknown.contains(reference.name), let service = state.services[reference.name],
            service.type != .externalName,
            let port = service.ports.first(where: { $0.port == reference.port && $0.transport == .tcp })
        else { return }
        judgeName(of: port, of: service, at: field, of: route)
        let slices = state.slices(of: service.name)
        if slices.isEmpty, pods(of: service)?.isEmpty == false { return }
        let isKnown = !slices.isEmpty || set.complete.contains(.endpointSlice)
        // The ports of a slice are those of the Service by their names.
        let serves = { (slice: EndpointSlice) in
            !slice.endpoints.isEmpty && slice.ports.contains { $0.name == port.name && $0.transport == .tcp }
        }
        guard isKnown, !slices.contains(where: serves) else { return }
        warn(
            "no-endpoints", route.id, field,
            "Service \(service.name) has no endpoints, so its share of requests is answered with 503; start its pods, "
                + "or correct its selector")
    }

    /// Of an appProtocol the compiler tells.
    private mutating func judgeName(of port: Service.Port, of service: Service, at field: String, of route: Route) {
        guard (port.appProtocol ?? "").isEmpty else { return }
        let declared = DeclaredProtocol(port)
        if declared == .other {
            warn(
                "backend-not-http", route.id, field,
                "requests are sent as HTTP without TLS to port \(port.port) of Service \(service.name), which speaks "
                    + "something else by its name; correct the name, or set appProtocol")
        } else if route.kind == .grpc, declared == .http(.http1) {
            warn(
                "grpc-over-http1", route.id, field,
                "gRPC needs HTTP/2, and port \(port.port) of Service \(service.name) speaks HTTP/1 by its name; set "
                    + "its appProtocol to kubernetes.io/h2c")
        }
    }

    // MARK: Services

    mutating func judge(_ service: Service) {
        let id = ObjectID(.service, service.name)
        for (index, port) in service.ports.enumerated() {
            guard let given = port.appProtocol, !given.isEmpty else { continue }
            var named = port
            named.appProtocol = nil
            guard case .http(let byName) = DeclaredProtocol(named) else { continue }
            var spoken = port
            (spoken.name, spoken.appProtocol) = (given.lowercased(), nil)
            // What neither list knows is somebody's own.
            let isContradiction =
                switch (DeclaredProtocol(port), DeclaredProtocol(spoken)) {
                case (.http(let stated), _): byName == .grpc && stated == .http1
                case (.other, .other): true
                default: false
                }
            guard isContradiction else { continue }
            warn(
                "protocol-contradiction", id, "spec.ports[\(index)].appProtocol",
                "\(given.debugDescription) contradicts the port's name \(port.name.debugDescription), and appProtocol "
                    + "counts; correct one of them")
        }
        guard !service.selector.isEmpty, service.type != .externalName else { return }
        guard let pods = pods(of: service) else {
            if state.slices(of: service.name).isEmpty, !set.complete.contains(.endpointSlice) { unknownEndpoints += 1 }
            return
        }
        guard !pods.isEmpty else {
            return warn(
                "selector-matches-nothing", id, "spec.selector",
                "no Pod or pod template of namespace \(service.name.namespace) that was given has these labels, so "
                    + "there are no endpoints; correct the selector or the labels")
        }
        for (index, port) in service.ports.enumerated() {
            guard case .name(let name) = port.targetPort,
                !pods.ports.contains(PortName(name: name, transport: port.transport))
            else { continue }
            warn(
                "no-such-target-port", id, "spec.ports[\(index)].targetPort",
                "no container of the selected pods has a port named \(name.debugDescription); name it there, or give a "
                    + "number")
        }
    }

    // MARK: Namespaces

    mutating func judge(_ namespace: Namespace) {
        let labels = namespace.labels
        let isOn = { (key: String) in ["enabled", "true"].contains(labels[key] ?? namespace.annotations[key] ?? "") }
        var products: [String] = []
        if isOn("heddle.io/mesh") { products.append("Heddle") }
        let hasRevision = labels["istio.io/rev"].map { !$0.isEmpty } ?? false
        if isOn("istio-injection") || hasRevision && labels["istio-injection"] != "disabled"
            || labels["istio.io/dataplane-mode"] == "ambient"
        {
            products.append("Istio")
        }
        if isOn("linkerd.io/inject") { products.append("Linkerd") }
        if isOn("kuma.io/sidecar-injection") { products.append("Kuma") }
        if isOn("io.cilium/mtls-enabled") { products.append("Cilium") }
        guard products.count > 1 else { return }
        warn(
            "two-meshes", ObjectID(.namespace, ObjectName("", namespace.name)), "metadata.labels",
            "\(products.joined(separator: " and ")) both claim the pods of this namespace, and each would take their "
                + "traffic; remove the labels of all but one")
    }
}
