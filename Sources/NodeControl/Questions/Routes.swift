/// What the admin socket says of routes: all of them, and the one that a request meets.
package import AdminAPI
import Addressing
import Cluster
import Compile
import DataplaneIR
import RouteIR

/// A request as a person describes it.
package struct ExplainedRequest: RequestView, Sendable {
    private let methodBytes: [UInt8]
    private let pathBytes: [UInt8]
    private let queryBytes: [UInt8]
    private let headers: [(name: String, value: [UInt8])]

    /// `headers`: lines of `name: value`.
    package init(method: String, target: String, headers: String) {
        methodBytes = Array(method.utf8)
        let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        pathBytes = Array(parts[0].utf8)
        queryBytes = parts.count > 1 ? Array(parts[1].utf8) : []
        self.headers = headers.split(separator: "\n").map { line in
            let sides = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            let value = sides.count > 1 ? sides[1].trimmed : ""
            return (sides[0].trimmed.lowercased(), Array(value.utf8))
        }
    }

    package func method<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body(methodBytes.span) }
    package func path<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body(pathBytes.span) }
    package func query<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body(queryBytes.span) }
    package func header(_ name: String, passes test: (Span<UInt8>) -> Bool) -> Bool {
        let values = headers.filter { $0.name == name }.map(\.value)
        let joined = Array(values.joined(separator: [UInt8(ascii: ",")]))
        return !values.isEmpty && test(joined.span)
    }
}

extension NodeController {
    /// So many matches that were not met are shown.
    private static let candidatesShown = 100

    package func routeList() -> RouteList {
        var entries: [RouteList.Entry] = []
        for service in proxy.published.services.values.sorted(by: { $0.id < $1.id }) {
            if let rules = service.producerRoutes { entries += routeEntries(service, "all", rules) }
            for (namespace, rules) in service.consumerRoutes.sorted(by: { $0.key < $1.key }) {
                entries += routeEntries(service, namespace, rules)
            }
        }
        return RouteList(
            entries: entries, generation: proxy.published.generation, findings: routes.findings.map(\.description))
    }

    private func routeEntries(_ service: RoutedService, _ clients: String, _ rules: [RouteRule]) -> [RouteList.Entry] {
        RouteMatcher(rules).order.map { position in
            let rule = rules[position.rule]
            var entry = RouteList.Entry(
                service: service.id.description, clients: clients, rule: rule.name,
                match: rule.matches[position.match].description)
            entry.filters = rule.filters.map(\.description)
            let total = rule.backends.reduce(0) { $0 + Double($1.weight) }
            entry.backends = rule.backends.map { backend in
                let share = total > 0 ? Double(backend.weight) / total * 100 : 0
                return "\(backend.target) \((share * 10).rounded() / 10)%"
            }
            entry.timeout = rule.timeouts.request.map { "\($0)" }
            entry.retries = rule.retry.map { retry in
                "\(retry.attempts)"
                    + (retry.codes.isEmpty ? "" : " on \(retry.codes.map(String.init).joined(separator: ","))")
            }
            return entry
        }
    }

    func routing(of request: ExplainedRequest, from client: IPAddress, to destination: SocketAddress) -> Routing? {
        let published = proxy.published
        guard let service = published.services.values.first(where: { $0.frontends.contains(destination) }) else {
            return nil
        }
        let namespace = published.workloads[client]?.namespace
        guard let rules = service.rules(forClientIn: namespace) else {
            var routing = Routing(outcome: "no route is for this client: balanced over \(service.id)")
            routing.backends = [
                .init(target: service.id.description, share: 100, endpoints: usable(service.ownUpstream))
            ]
            return routing
        }
        let matcher = RouteMatcher(rules)
        var routing = Routing(outcome: "")
        for (rank, position) in matcher.order.enumerated() {
            let rule = rules[position.rule]
            let mismatch = matcher.mismatch(at: rank, request)
            if mismatch == nil || routing.candidates.count < Self.candidatesShown {
                routing.candidates.append(
                    .init(
                        rule: rule.name, match: rule.matches[position.match].description,
                        mismatch: mismatch?.description))
            }
            guard mismatch == nil else { continue }
            describe(rule, in: &routing)
            return routing
        }
        let isCall = rules.contains { $0.kind == .grpc }
        routing.outcome = "no rule is met: " + (isCall ? "UNIMPLEMENTED" : "404")
        return routing
    }

    /// What the proxy knows of a client of a service with routes for single namespaces.
    func clientDecision(_ client: IPAddress, to destination: SocketAddress) -> Explanation.Decision? {
        let published = proxy.published
        guard let service = published.services.values.first(where: { $0.frontends.contains(destination) }),
            !service.consumerRoutes.isEmpty
        else { return nil }
        let outcome: String
        if let namespace = published.workloads[client]?.namespace {
            let hasOwn = service.consumerRoutes[namespace] != nil
            outcome = "\(namespace), which has \(hasOwn ? "routes of its own" : "none of its own") for this Service"
        } else if node.localAddresses.contains(client) {
            outcome = "none: a process of the node, or a pod on its network; the routes for all clients apply"
        } else {
            outcome =
                "UNKNOWN: no pod of this node is known to have \(client); its first connection waits for that up to "
                + "2 s, then the routes for all clients apply"
        }
        return .init(source: "the client's namespace", outcome: outcome, object: client.description)
    }

    private func describe(_ rule: RouteRule, in routing: inout Routing) {
        routing.rule = rule.name
        routing.filters = rule.filters.map(\.description)
        let total = rule.backends.reduce(0) { $0 + Double($1.weight) }
        routing.backends = rule.backends.map { backend in
            let share = total > 0 ? Double(backend.weight) / total * 100 : 0
            guard case .upstream(let id) = backend.target else {
                return .init(target: backend.target.description, share: share, endpoints: [])
            }
            return .init(target: id.description, share: share, endpoints: usable(id))
        }
        for filter in rule.filters {
            switch filter {
            case .redirect: return routing.outcome = "\(rule.name): \(filter)"
            case .unresolved: return routing.outcome = "\(rule.name): \(filter)"
            default: break
            }
        }
        routing.outcome = total > 0 ? "\(rule.name): to one of its backends" : "\(rule.name): 500, it has no backend"
    }

    private func usable(_ id: UpstreamID) -> [String] {
        (proxy.published.upstreams[id]?.endpoints ?? []).filter { !$0.isDraining }.map(\.address.description)
    }
}
