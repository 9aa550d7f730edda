/// Random routes, requests and snapshots for tests: few words, so that they meet.
import Addressing
package import RouteIR

/// A request made of strings.
package struct TextRequest: RequestView {
    package var methodText = "GET"
    package var pathText = "/"
    package var queryText = ""
    /// Names in lower case.
    package var headers: [(String, String)] = []

    package init(
        methodText: String = "GET", pathText: String = "/", queryText: String = "", headers: [(String, String)] = []
    ) {
        self.methodText = methodText
        self.pathText = pathText
        self.queryText = queryText
        self.headers = headers
    }

    package func method<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body(Array(methodText.utf8).span) }
    package func path<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body(Array(pathText.utf8).span) }
    package func query<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body(Array(queryText.utf8).span) }
    package func header(_ name: String, passes test: (Span<UInt8>) -> Bool) -> Bool {
        let values = headers.filter { $0.0 == name }.map(\.1)
        return !values.isEmpty && test(Array(values.joined(separator: ",").utf8).span)
    }
}

package struct Samples {
    package var generator: SeededGenerator

    package init(generator: SeededGenerator) { self.generator = generator }

    package mutating func pick<Value>(_ values: [Value]) -> Value {
        values[Int.random(in: 0..<values.count, using: &generator)]
    }
    package mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &generator) < percent }
    package mutating func number(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &generator) }

    package mutating func path() -> String {
        let elements = (0..<number(0...3)).map { _ in pick(["a", "b", "ab", "v1", ""]) }
        return "/" + elements.joined(separator: "/") + (chance(20) ? "/" : "")
    }
    package mutating func pathMatch() throws -> PathMatch {
        switch number(0...9) {
        case 0...3: .exact(path())
        case 4...7: .prefix(path())
        default: .regex(try Pattern(pick(["/a.*", "/[ab]/.*", ".*1", "/v[0-9]+(/.*)?", "/a|/b"])))
        }
    }
    package mutating func fields(_ names: [String]) throws -> [FieldMatch] {
        try names.filter { _ in chance(25) }.map { name in
            FieldMatch(name, chance(80) ? .exact(pick(["1", "2", ""])) : .regex(try Pattern("[12]*")))
        }
    }
    package mutating func match() throws -> RouteMatch {
        RouteMatch(
            path: try pathMatch(), method: chance(30) ? pick(["GET", "POST"]) : nil, headers: try fields(["x", "y"]),
            query: try fields(["p", "q"]))
    }
    package mutating func rule(_ index: Int) throws -> RouteRule {
        RouteRule(name: "test/route rule \(index)", matches: try (0...number(0...2)).map { _ in try match() })
    }
    package mutating func request() -> TextRequest {
        var request = TextRequest(methodText: pick(["GET", "POST", "PUT"]), pathText: path())
        for name in ["x", "y"] where chance(60) { request.headers.append((name, pick(["1", "2", "3", ""]))) }
        if chance(10), let first = request.headers.first { request.headers.append((first.0, "2")) }
        request.queryText = (0..<number(0...3)).map { _ in pick(["p=1", "q=2", "p=2", "q", "p=%31", "z=1"]) }
            .joined(separator: "&")
        return request
    }

    package mutating func filter() -> RouteFilter {
        switch number(0...6) {
        case 0: .requestHeaders(HeaderEdit(set: [HeaderField("X-A", "1")], remove: ["x-b"]))
        case 1: .responseHeaders(HeaderEdit(add: [HeaderField("X-C", "ü")]))
        case 2: .redirect(Redirect(scheme: "https", path: .full("/x"), port: 8443, status: 301))
        case 3: .rewrite(Rewrite(hostname: "h", path: .replacePrefix("/a", with: "/b")))
        case 4: .mirror(Mirror(.invalid("gone"), numerator: 1, denominator: 3))
        case 5:
            {
                var policy = CORSPolicy()
                policy.allowOrigins = ["https://*.example.org"]
                policy.allowCredentials = true
                return .cors(policy)
            }()
        default: .unresolved("filter of kind Foo")
        }
    }
    package mutating func upstreamID() -> UpstreamID {
        UpstreamID(
            RoutedServiceID(
                namespace: pick(["a", "b"]), name: pick(["web", "api", "db"]), port: UInt16(pick([80, 8080]))))
    }
    package mutating func service() throws -> RoutedService {
        var service = RoutedService(
            id: upstreamID().service, portName: pick(["", "http"]), clientSpeaks: pick([.http1, .grpc]))
        service.frontends = [SocketAddress(IPAddress(v4: UInt32(number(1...9))), 80)]
        if chance(70) {
            var rule = try rule(0)
            rule.filters = (0...number(0...2)).map { _ in filter() }
            rule.backends = [
                WeightedBackend(.upstream(upstreamID()), weight: UInt32(number(0...9)), filters: [filter()])
            ]
            rule.timeouts.request = .milliseconds(number(0...5000))
            rule.retry = RetryPolicy(attempts: 2, codes: [503])
            service.producerRoutes = [rule]
        }
        if chance(30) { service.consumerRoutes = ["b": [try rule(1)]] }
        return service
    }
    package mutating func cluster() -> Upstream {
        var cluster = Upstream(id: upstreamID(), wire: pick([.http1, .h2c]))
        cluster.endpoints = (0..<number(0...3)).map {
            Endpoint(SocketAddress(IPAddress(high: 1, low: UInt64($0)), 8080), zone: chance(50) ? "z" : nil)
        }
        cluster.policy.loadBalancing = pick([
            .leastRequest, .consistentHash([.cookie(name: "c", path: nil, ttl: .seconds(9)), .sourceIP]),
        ])
        if chance(50) { cluster.policy.outlierDetection = .init() }
        if chance(50) { cluster.policy.warmup = .init(duration: .seconds(30)) }
        cluster.policy.maxConnections = chance(50) ? UInt32(number(0...9)) : nil
        return cluster
    }
    package mutating func snapshot(_ generation: UInt64) throws -> ProxySnapshot {
        var snapshot = ProxySnapshot(generation: generation, node: ProxyNode(name: "n", zone: chance(50) ? "z" : nil))
        for _ in 0..<number(0...5) {
            let service = try service()
            snapshot.services[service.id] = service
            let cluster = cluster()
            snapshot.upstreams[cluster.id] = cluster
            snapshot.workloads[IPAddress(v4: UInt32(number(1...9)))] = Workload(
                namespace: pick(["a", "b"]), pod: "p", name: "w", canonicalService: "w")
        }
        return snapshot
    }
}
