/// The Gateway API conformance cases, as far as routes decide them: which rule, which backend, which answer. What the
/// proxy does on the wire is tested with the proxy. The cases are data beside the repository; without them the test is
/// skipped.
import Addressing
import Cluster
import Compile
import RouteIR
import TestSupport
import Testing
import YAML

private let casesPath =
    #filePath.split(separator: "/").dropLast(4).map { "/" + $0 }.joined() + "/shared/conformance/l7-public-cases.yaml"

@Suite(.enabled(if: !readText(casesPath).isEmpty, "there are no cases beside the repository")) struct RouteCasesTests {
    @Test func everyCaseIsDecidedAsItSays() throws {
        let documents = try YAMLStream.documents(in: Array(readText(casesPath).utf8))
        let cases = try #require(documents.first?.root["cases"])
        var decided = 0
        for node in cases.elements {
            let replay = Replay(node)
            for (number, step) in list(node["steps"]).enumerated() {
                let complaint = replay.complaint(about: step)
                #expect(complaint == nil, "\(node["id"]?.text ?? "?"), step \(number): \(complaint ?? "")")
                decided += 1
            }
        }
        #expect(decided > 50, "only \(decided) steps were found")
    }
}

/// One case: its routes compiled, its steps asked.
private struct Replay {
    private var compiler = RouteCompiler(node: NodeFacts(name: "node"))

    init(_ node: YAMLNode) {
        var state = ClusterState()
        var names: Set<String> = ["echo"]
        let onBackend = node["filters_on"]?.text == "backendRef"
        for (index, source) in list(node["routes"]).enumerated() {
            let (route, used) = makeRoute(source, "r\(index)", filtersOnBackend: onBackend)
            names.formUnion(used)
            _ = state.apply(.upsert(.route(route)))
        }
        for (index, name) in names.sorted().enumerated() where name != "echo-v3" {
            var service = Service(name: ObjectName("ns", name))
            service.clusterIPs = [IPAddress(v4: 0x0a60_0001 + UInt32(index))]
            service.ports = [("http", 80), ("http-alt", 8080), ("tcp", 9090), ("grpc", 7070)].map {
                Service.Port(name: $0.0, port: $0.1)
            }
            _ = state.apply(.upsert(.service(service)))
        }
        _ = compiler.update(
            Set(names.map { ObjectName("ns", $0) }), workloads: false, node: NodeFacts(name: "node"), from: state)
    }

    func complaint(about step: YAMLNode) -> String? {
        let dial = (step["dial"]?.text ?? "gateway").split(separator: ":").map(String.init)
        let port = dial.count > 1 ? UInt16(dial[1]) ?? 80 : 80
        let want = step["want"]
        let words = (step["req"]?.text ?? "GET /").split(separator: " ").map(String.init)
        let isCall = words[0] == "GRPC"
        let target = isCall ? "/" + words[1] : words[1]
        let parts = target.split(separator: "?", maxSplits: 1).map(String.init)
        let headers = map(step["h"]).map { ($0.key.lowercased(), $0.value) }
        let request = CaseRequest(
            methodText: isCall ? "POST" : words[0], pathText: parts[0], queryText: parts.count > 1 ? parts[1] : "",
            headers: headers)
        let id = RoutedServiceID(namespace: "ns", name: dial[0], port: port)
        guard let rules = compiler.snapshot.services[id]?.rules(forClientIn: "ns") else {
            return want?["backend"].map { $0.text == dial[0] } ?? true ? nil : "not routed at all"
        }
        let statuses = want?["status"].map { $0.kind == .sequence ? list($0).map(\.text) : [$0.text] } ?? ["200"]
        guard let rule = RouteMatcher(rules).match(request).map({ rules[$0] }) else {
            return statuses.contains("404") ? nil : "no rule is met"
        }
        return complaint(rule, want, request, statuses, host: step["host"]?.text ?? dial[0])
    }

    private func complaint(
        _ rule: RouteRule, _ want: YAMLNode?, _ request: CaseRequest, _ statuses: [String], host: String
    ) -> String? {
        if statuses == ["404"] { return "\(rule.name) is met, but none should be" }
        for filter in rule.filters {
            guard case .redirect(let redirect) = filter else { continue }
            let location = redirect.location(
                scheme: "http", host: host, port: 80, path: Array(request.pathText.utf8), query: nil)
            let text = String(decoding: location, as: UTF8.self)
            let wanted = map(want?["location"])
            let isRight =
                text.hasPrefix("\(wanted["scheme"] ?? "http")://\(wanted["host"] ?? host)")
                && text.hasSuffix(wanted["path"] ?? request.pathText)
                && (wanted["port"].map { text.contains($0) } ?? true)
            return isRight && statuses.contains("\(redirect.status)") ? nil : "redirects to \(text)"
        }
        let targets = rule.backends.filter { $0.weight > 0 }.map(\.target.description)
        if let backend = want?["backend"]?.text, !targets.contains(where: { $0.hasPrefix("ns/\(backend):") }) {
            return "\(rule.name) leads to \(targets)"
        }
        return complaint(aboutShares: want, rule) ?? complaint(aboutRewrite: want, rule, request, host: host)
    }

    private func complaint(aboutShares want: YAMLNode?, _ rule: RouteRule) -> String? {
        let total = rule.backends.reduce(0) { $0 + Double($1.weight) }
        for (name, share) in map(want?["shares"]) {
            let weight = rule.backends.first { "\($0.target)".contains(name) }.map { Double($0.weight) } ?? 0
            if abs(weight / total - (Double(share) ?? -1)) > 0.001 { return "\(name) gets \(weight) of \(total)" }
        }
        return nil
    }

    private func complaint(
        aboutRewrite want: YAMLNode?, _ rule: RouteRule, _ request: CaseRequest, host: String
    ) -> String? {
        var (path, name) = (Array(request.pathText.utf8), host)
        for case .rewrite(let rewrite) in rule.filters + rule.backends.flatMap(\.filters) {
            path = rewrite.path?.applied(to: path) ?? path
            name = rewrite.hostname ?? name
        }
        let seen = map(want?["seen"])
        let text = String(decoding: path, as: UTF8.self)
        if let wanted = seen["path"], wanted != text { return "the backend sees path \(text)" }
        if let wanted = seen["host"], wanted != name { return "the backend sees host \(name)" }
        return nil
    }
}

private struct CaseRequest: RequestView {
    let methodText: String
    let pathText: String
    let queryText: String
    let headers: [(String, String)]

    func method<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body(Array(methodText.utf8).span) }
    func path<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body(Array(pathText.utf8).span) }
    func query<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body(Array(queryText.utf8).span) }
    func header(_ name: String, passes test: (Span<UInt8>) -> Bool) -> Bool {
        let values = headers.filter { $0.0 == name }.map(\.1)
        return !values.isEmpty && test(Array(values.joined(separator: ",").utf8).span)
    }
}

// MARK: The notation of the cases

private func list(_ node: YAMLNode?) -> [YAMLNode] { node.map { Array($0.elements) } ?? [] }
private func map(_ node: YAMLNode?) -> [String: String] {
    var result: [String: String] = [:]
    for (key, value) in node?.entries.map({ ($0.key.text, $0.value) }) ?? [] where value.kind == .scalar {
        result[key] = value.text
    }
    return result
}

/// A Gateway as parent is a Service here: the same rules hold for it. Also says which Services it names.
private func makeRoute(_ node: YAMLNode, _ name: String, filtersOnBackend: Bool) -> (Route, Set<String>) {
    var route = Route(kind: node["kind"]?.text == "GRPCRoute" ? .grpc : .http, name: ObjectName("ns", name))
    let parent = (node["parent"]?.text ?? "").split(separator: "/").map(String.init)
    let service = parent.first == "Gateway" ? ["gateway"] : parent[1].split(separator: ":").map(String.init)
    let port: UInt16? = parent.first == "Gateway" ? 80 : service.count > 1 ? UInt16(service[1]) : nil
    route.parents = [.init(service: ObjectName("ns", service[0]), port: port)]
    var names: Set<String> = [service[0]]
    for source in list(node["rules"]) {
        var rule = Route.Rule()
        let alternatives = source["any"].map { list($0) } ?? [source]
        rule.matches = alternatives.map(makeMatch)
        let filters = makeFilters(source)
        if !filtersOnBackend { rule.filters = filters }
        for text in list(source["to"]).map(\.text) {
            let parts = text.split(whereSeparator: { ":*".contains($0) }).map(String.init)
            names.insert(parts[0])
            var backend = Route.Backend(.init(name: ObjectName("ns", parts[0]), port: UInt16(parts[1])))
            if parts.count > 2 { backend.weight = UInt32(parts[2]) ?? 1 }
            if filtersOnBackend { backend.filters = filters }
            rule.backends.append(backend)
        }
        route.rules.append(rule)
    }
    return (route, names)
}

private func makeMatch(_ node: YAMLNode) -> Route.Match {
    var match = Route.Match()
    let path = map(node["path"])
    if let exact = path["exact"] { match.path = .exact(exact) }
    if let prefix = path["prefix"] { match.path = .prefix(prefix) }
    match.method = node["method"]?.text
    match.headers = map(node["hdr"]).map { .init(name: $0.key.lowercased(), value: .init($0.value)) }
    match.query = map(node["q"]).map { .init(name: $0.key, value: .init($0.value)) }
    return match
}

private func makeFilters(_ node: YAMLNode) -> [Route.Filter] {
    var filters: [Route.Filter] = []
    if let source = node["redirect"] {
        let fields = map(source)
        var redirect = Redirect(
            scheme: fields["scheme"], hostname: fields["host"], port: fields["port"].flatMap { UInt16($0) })
        if let code = fields["code"].flatMap({ UInt16($0) }) { redirect.status = code }
        filters.append(.redirect(redirect, path: makeChange(source)))
    }
    if let source = node["rewrite"] {
        filters.append(.rewrite(hostname: source["host"]?.text, path: makeChange(source)))
    }
    return filters
}

private func makeChange(_ node: YAMLNode) -> Route.PathChange? {
    if let full = node["full"]?.text ?? node["path"]?["full"]?.text { return .full(full) }
    return (node["prefix"]?.text ?? node["path"]?["prefix"]?.text).map { .prefix($0) }
}
