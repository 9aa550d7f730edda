/// Routes, services and endpoints -> what the proxy is told (spec 1.9, 1.10).
import Addressing
import Cluster
import Compile
import RouteIR
import TestSupport
import Testing

/// A cluster state to which a test adds what it needs.
private struct Shop {
    var state = ClusterState()
    var compiler = RouteCompiler(node: NodeFacts(name: "node-a", zone: "z1"))
    /// This node's addresses, and what of Heddle listens there.
    var own = OwnSockets()
    private var dirty = Dirty()

    mutating func add(_ object: ClusterObject) { dirty.formUnion(state.apply(.upsert(object))) }
    mutating func remove(_ id: ObjectID) { dirty.formUnion(state.apply(.delete(id))) }
    @discardableResult mutating func compile() -> Bool {
        defer { dirty = Dirty() }
        return compiler.update(
            dirty.services, pods: dirty.pods, node: NodeFacts(name: "node-a", zone: "z1"), own: own, from: state)
    }

    mutating func addService(_ name: String, in namespace: String = "shop", ports: [Service.Port] = [http]) {
        var service = Service(name: ObjectName(namespace, name))
        let number = UInt32(state.services.count + 1)
        service.clusterIPs = [IPAddress(v4: 0x0a60_0000 + number), IPAddress(high: 0xfd, low: UInt64(number))]
        service.ports = ports
        add(.service(service))
    }
    mutating func addEndpoints(_ name: String, _ last: [UInt32], conditions: EndpointSlice.Conditions? = nil) {
        var slice = EndpointSlice(name: ObjectName("shop", name), serviceName: name, addressType: .ipv4)
        slice.ports = [.init(name: "http", port: 8080)]
        slice.endpoints = last.map {
            EndpointSlice.Endpoint(
                IPAddress(v4: 0x0a01_0000 + $0), conditions: conditions ?? [.ready, .serving], nodeName: "node-b",
                zone: "z2")
        }
        add(.endpointSlice(slice))
    }
    static let http = Service.Port(name: "http", port: 80)

    var reasons: [String] { compiler.findings.map(\.reason) }
    func service(_ name: String, port: UInt16 = 80) -> RoutedService? {
        compiler.snapshot.services[RoutedServiceID(namespace: "shop", name: name, port: port)]
    }
}

private func route(
    _ name: String = "r", in namespace: String = "shop", kind: Route.Kind = .http, parent: String = "web",
    port: UInt16? = nil, age: Int64 = 0, to backends: [String] = ["v1"], edit: (inout Route.Rule) -> Void = { _ in }
) -> ClusterObject {
    var route = Route(kind: kind, name: ObjectName(namespace, name))
    route.parents = [.init(service: ObjectName("shop", parent), port: port)]
    route.creationTime = age
    var rule = Route.Rule()
    rule.backends = backends.map { .init(.init(name: ObjectName("shop", $0), port: 80)) }
    edit(&rule)
    route.rules = [rule]
    return .route(route)
}

@Suite struct RouteCompilerTests {
    private func id(_ name: String) -> ClusterID { ClusterID(namespace: "shop", name: name, port: 80) }

    @Test func aRouteMakesAServiceRouted() throws {
        var shop = Shop()
        shop.addService("web")
        shop.addService("v1")
        shop.addEndpoints("v1", [7, 3])
        #expect(!shop.compile() && !shop.compiler.isNeeded)
        shop.add(route())
        #expect(shop.compile() && shop.compiler.snapshot.generation == 1)
        let web = try #require(shop.service("web"))
        #expect(web.frontends.map(\.description) == ["10.96.0.1:80", "[::fd:0:0:0:1]:80"])
        #expect(web.producerRoutes?.map(\.name) == ["shop/r rule 0"] && web.ownCluster == id("web"))
        #expect(web.producerRoutes?[0].backends == [WeightedBackend(.cluster(id("v1")))])
        let v1 = try #require(shop.compiler.snapshot.clusters[id("v1")])
        #expect(v1.endpoints.map(\.address.description) == ["10.1.0.3:8080", "10.1.0.7:8080"])
        #expect(v1.endpoints[0].node == "node-b" && v1.endpoints[0].zone == "z2" && shop.reasons.isEmpty)
        shop.remove(ObjectID(.httpRoute, ObjectName("shop", "r")))
        #expect(shop.compile() && shop.compiler.snapshot.clusters.isEmpty && !shop.compiler.isNeeded)
    }

    @Test func consumerRoutesAreForTheirOwnNamespaceOnly() {
        var shop = Shop()
        shop.addService("web")
        shop.addService("v1")
        shop.add(route(in: "customer"))
        shop.compile()
        #expect(shop.service("web")?.rules(forClientIn: "shop") == nil)
        #expect(shop.service("web")?.rules(forClientIn: nil) == nil)
        #expect(shop.service("web")?.rules(forClientIn: "customer")?.map(\.name) == ["customer/r rule 0"])
        shop.add(route("own"))
        shop.compile()
        #expect(shop.service("web")?.rules(forClientIn: "elsewhere")?.map(\.name) == ["shop/own rule 0"])
        #expect(shop.service("web")?.rules(forClientIn: "customer")?.map(\.name) == ["customer/r rule 0"])
    }

    @Test(arguments: [
        (Service.Port(name: "http", port: 80), RoutedProtocol.http1), (.init(name: "http-alt", port: 80), .http1),
        (.init(name: "http2", port: 80), .h2c), (.init(name: "grpc-x", port: 80), .grpc),
        (.init(name: "x", port: 80, appProtocol: "kubernetes.io/h2c"), .h2c),
        (.init(name: "tcp", port: 80, appProtocol: "http"), .http1), (.init(port: 80), .http1),
        (.init(name: "x", port: 80, appProtocol: "kubernetes.io/ws"), .http1),
    ])
    func portsThatAreRouted(port: Service.Port, spoken: RoutedProtocol) {
        var shop = Shop()
        shop.addService("web", ports: [port])
        shop.add(route())
        shop.compile()
        #expect(shop.service("web")?.clientProtocol == spoken)
    }

    @Test(arguments: [
        Service.Port(name: "tcp", port: 80), .init(name: "https", port: 80),
        .init(name: "http", port: 80, appProtocol: "mysql"), .init(name: "http", transport: .udp, port: 80),
    ])
    func portsThatAreNot(port: Service.Port) {
        var shop = Shop()
        shop.addService("web", ports: [port])
        shop.add(route())
        shop.compile()
        #expect(shop.compiler.snapshot.services.isEmpty)
        shop.add(route(port: 80))
        shop.compile()
        #expect(shop.compiler.snapshot.services.isEmpty && ["not-http", "no-such-port"].contains(shop.reasons.first))
    }

    @Test func aPortIsRoutedAloneWhereItIsNamed() {
        var shop = Shop()
        shop.addService("web", ports: [Shop.http, .init(name: "alt", port: 8080), .init(name: "tcp", port: 9090)])
        shop.add(route())
        shop.compile()
        #expect(shop.service("web", port: 80) != nil && shop.service("web", port: 8080) == nil)
        #expect(shop.reasons.contains("unknown-protocol"))
        shop.add(route(port: 8080))
        shop.compile()
        #expect(shop.service("web", port: 80) == nil && shop.service("web", port: 8080) != nil)
        #expect(shop.service("web", port: 9090) == nil)
    }

    @Test func callsGoBeforeRequestsOnOnePort() {
        var shop = Shop()
        shop.addService("web")
        shop.add(route("http"))
        shop.add(route("calls", kind: .grpc, age: 5))
        shop.compile()
        #expect(shop.service("web")?.producerRoutes?.map(\.name) == ["shop/calls grpc rule 0"])
        #expect(shop.reasons.contains("route-conflict"))
    }

    @Test func olderRoutesComeFirstAndEqualMatchesAreReported() {
        var shop = Shop()
        shop.addService("web")
        shop.addService("v1")
        shop.add(route("a", age: 20))
        shop.add(route("b", age: 10))
        shop.compile()
        #expect(shop.service("web")?.producerRoutes?.map(\.name) == ["shop/b rule 0", "shop/a rule 0"])
        #expect(shop.compiler.findings.map(\.object.name.name) == ["a"] && shop.reasons == ["route-conflict"])
    }

    @Test func invalidBackendsKeepTheirShare() {
        var shop = Shop()
        shop.addService("web")
        shop.addService("v1")
        shop.add(
            route(to: ["v1", "gone"]) { rule in
                rule.backends.append(.init(.init(name: ObjectName("shop", "v1"), port: 81)))
                var bucket = Route.BackendReference(name: ObjectName("shop", "b"))
                bucket.kind = "Bucket"
                rule.backends.append(.init(bucket))
            })
        shop.compile()
        let targets = shop.service("web")?.producerRoutes?[0].backends.map(\.target) ?? []
        #expect(targets.first == .cluster(id("v1")) && targets.count == 4)
        for target in targets.dropFirst() { if case .cluster = target { Issue.record("\(target)") } }
        #expect(shop.reasons == ["invalid-backend", "invalid-backend", "invalid-backend"])
        // It comes to life with its Service.
        shop.addService("gone")
        shop.compile()
        #expect(shop.service("web")?.producerRoutes?[0].backends[1].target == .cluster(id("gone")))
    }

    @Test func whatIsNotSupportedIsReportedAndAnsweredWithAnError() throws {
        var shop = Shop()
        shop.addService("web")
        shop.addService("v1")
        shop.add(
            route { rule in
                rule.ignoredFields = ["sessionPersistence"]
                rule.filters = [.unknown("ExtensionRef"), .rewrite(hostname: nil, path: .prefix("/x"))]
                var bad = Route.Match()
                bad.path = .regularExpression("(")
                rule.matches = [bad, .init()]
            })
        shop.compile()
        let rule = try #require(shop.service("web")?.producerRoutes?[0])
        #expect(rule.matches.count == 1)
        for filter in rule.filters { if case .unresolved = filter {} else { Issue.record("\(filter)") } }
        #expect(
            shop.reasons == ["unsupported-field", "invalid-regex", "unsupported-filter", "unsupported-filter"])
    }

    @Test func aRouteWithoutItsServiceIsReported() {
        var shop = Shop()
        shop.add(route(parent: "gone"))
        shop.compile()
        #expect(shop.reasons == ["no-parent"])
        shop.addService("gone")
        shop.compile()
        #expect(!shop.reasons.contains("no-parent") && shop.service("gone") != nil)
    }

    @Test(arguments: [
        (Route.PathMatch.call(service: .init("a.B"), method: .init("C")), "/a.B/C", "/a.B/D"),
        (.call(service: .init("a.B"), method: nil), "/a.B/C", "/aXB/C"),
        (.call(service: nil, method: .init("C")), "/x/C", "/x/y/C"),
        (.call(service: .init("a.*", isRegularExpression: true), method: .init("C")), "/abc/C", "/b/C"),
    ])
    func callsBecomePaths(path: Route.PathMatch, yes: String, no: String) throws {
        var shop = Shop()
        shop.addService("web")
        shop.add(
            route(kind: .grpc) { rule in
                var match = Route.Match()
                match.path = path
                rule.matches = [match]
            })
        shop.compile()
        let matcher = RouteMatcher(try #require(shop.service("web")?.producerRoutes))
        #expect(matcher.match(PathOnly(text: yes)) == 0 && matcher.match(PathOnly(text: no)) == nil)
    }

    /// A tenant's own rules suffer, and say so; another table, here that of another namespace's clients, does not.
    @Test func tooManyPatternsAreAnswered500() throws {
        var shop = Shop()
        shop.addService("web")
        for number in 0..<3 {
            shop.add(
                route("r\(number)", age: Int64(number)) { rule in
                    rule.matches = (0..<64).map { index in
                        var match = Route.Match()
                        match.path = .regularExpression("/(.*x){60}\(index)-\(number)")
                        return match
                    }
                })
        }
        shop.add(
            route("r", in: "elsewhere") { rule in
                var match = Route.Match()
                match.path = .regularExpression("/v[0-9]+")
                rule.matches = [match]
            })
        shop.compile()
        let web = try #require(shop.service("web"))
        let rules = try #require(web.producerRoutes)
        let states = rules.flatMap(\.matches).reduce(0) { sum, match in
            if case .regex(let pattern) = match.path { sum + pattern.states } else { sum }
        }
        #expect(rules.count == 3 && states < 2 * Pattern.maximumTableStates)
        #expect(rules[0].filters.isEmpty)
        // What its patterns match still falls to it.
        let refused = rules[2]
        #expect(refused.filters.contains { if case .unresolved = $0 { true } else { false } })
        #expect(RouteMatcher([refused]).match(PathOnly(text: "/" + String(repeating: "x", count: 60) + "0-2")) == 0)
        let findings = shop.compiler.findings.filter { $0.reason == "too-many-patterns" }
        #expect(findings.map(\.object.description).contains { $0.contains("shop/r2") })
        #expect(findings.allSatisfy { $0.field == "spec.rules[0].matches" && $0.message.contains("PathPrefix") })
        #expect(!shop.reasons.contains("route-conflict"))
        #expect(web.consumerRoutes["elsewhere"]?[0].filters.isEmpty == true)
    }

    @Test func terminatingEndpointsDrainAndServeWhenNothingElseDoes() {
        var shop = Shop()
        shop.addService("web")
        shop.addEndpoints("web", [1], conditions: [.serving, .terminating])
        shop.add(route())
        shop.compile()
        #expect(shop.compiler.snapshot.clusters[id("web")]?.endpoints.map(\.isDraining) == [false])
        var slice = EndpointSlice(name: ObjectName("shop", "web-2"), serviceName: "web", addressType: .ipv4)
        slice.ports = [.init(name: "http", port: 8080)]
        slice.endpoints = [.init(IPAddress(v4: 0x0a01_0002))]
        shop.add(.endpointSlice(slice))
        shop.compile()
        #expect(shop.compiler.snapshot.clusters[id("web")]?.endpoints.map(\.isDraining) == [true, false])
    }

    /// An endpoint that is itself a routed address would bring the proxy's own connection back to it.
    @Test func noEndpointLeadsBackToTheProxy() {
        var shop = Shop()
        shop.addService("web")
        var slice = EndpointSlice(name: ObjectName("shop", "web"), serviceName: "web", addressType: .ipv4)
        slice.ports = [.init(name: "http", port: 80)]
        slice.endpoints = [.init(IPAddress(v4: 0x0a60_0001)), .init(IPAddress(v4: 0x0a01_0001))]
        shop.add(.endpointSlice(slice))
        shop.add(route())
        shop.compile()
        #expect(shop.compiler.snapshot.clusters[id("web")]?.endpoints.map(\.address.address.v4) == [0x0a01_0001])
    }

    @Test func annotationsFillThePolicy() {
        var shop = Shop()
        var service = Service(name: ObjectName("shop", "web"))
        service.clusterIPs = [IPAddress(v4: 0x0a60_0009)]
        service.ports = [Shop.http]
        service.annotations = [
            "heddle.io/hash-on": "header:X-User,cookie:s:1h,source-ip", "heddle.io/outlier-consecutive-5xx": "3",
            "heddle.io/outlier-base-ejection-time": "5s", "heddle.io/max-connections": "100",
            "heddle.io/warmup": "30s", "heddle.io/max-requests": "none", "heddle.io/colour": "blue",
        ]
        shop.add(.service(service))
        shop.add(route())
        shop.compile()
        var expected = UpstreamPolicy()
        expected.loadBalancing = .consistentHash([
            .header("x-user"), .cookie(name: "s", path: "/", ttl: .seconds(3600)), .sourceIP,
        ])
        expected.outlierDetection = .init()
        expected.outlierDetection?.consecutive5xx = 3
        expected.outlierDetection?.baseEjection = .seconds(5)
        expected.maxConnections = 100
        expected.warmup = .init(duration: .seconds(30))
        #expect(shop.compiler.snapshot.clusters[id("web")]?.policy == expected)
        #expect(shop.reasons.filter { $0 == "invalid-annotation" }.count == 2)
    }

    @Test func clientsAndEndpointsAreNamed() {
        var shop = Shop()
        shop.addService("web")
        shop.addEndpoints("web", [1])
        shop.add(route())
        for (name, last, node) in [("a", 1, "node-b"), ("b", 2, "node-a"), ("c", 3, "node-b")]
            as [(String, UInt32, String)]
        {
            var pod = Pod(name: ObjectName("shop", name))
            pod.addresses = [IPAddress(v4: 0x0a01_0000 + last)]
            pod.nodeName = node
            shop.add(.pod(pod))
        }
        shop.compile()
        #expect(Set(shop.compiler.snapshot.workloads.values.map(\.pod)) == ["a", "b"])
    }

    /// Spec row 70: node addresses are legal for host-network pods, the proxy's and the agent's ports there are not.
    @Test func requestsNeverGoToWhatIsNotForThem() throws {
        var shop = Shop()
        shop.addService("web")
        shop.addService("v1")
        let nodeAddress = IPAddress(v4: 0xc0a8_0002)
        shop.own = OwnSockets(addresses: [nodeAddress], ports: [15001: "the L7 proxy"])
        func slice(_ name: String, _ port: UInt16, _ addresses: String...) {
            var slice = EndpointSlice(name: ObjectName("shop", name), serviceName: "v1", addressType: .ipv4)
            slice.ports = [.init(name: "http", port: port)]
            slice.endpoints = addresses.compactMap { IPAddress($0) }.map { EndpointSlice.Endpoint($0) }
            shop.add(.endpointSlice(slice))
        }
        slice("special", 8080, "127.0.0.1", "127.1.2.3", "169.254.169.254", "224.0.0.1", "0.0.0.0")
        slice("own", 15001, "192.168.0.2", "192.168.0.3")
        slice("host", 8080, "192.168.0.2")
        slice("routed", 80, "10.96.0.1")
        shop.add(
            route {
                $0.filters = [.mirror(.init(name: ObjectName("shop", "v1"), port: 80), numerator: 1, denominator: 1)]
            })
        shop.compile()
        let cluster = try #require(shop.compiler.snapshot.clusters[id("v1")])
        #expect(cluster.endpoints.map(\.address.description) == ["192.168.0.2:8080", "192.168.0.3:15001"])
        #expect(shop.reasons == ["refused-endpoint", "refused-endpoint", "refused-endpoint"])
        let texts = shop.compiler.findings.map(\.description)
        #expect(texts[0].hasPrefix("EndpointSlice shop/own: endpoints.addresses: no request of a route goes to "))
        #expect(texts[0].contains("192.168.0.2:15001: the L7 proxy of this node is there; give the address of a pod"))
        #expect(texts[1].contains("10.96.0.1:80: it is the cluster IP of a routed Service"))
        #expect(texts[2].contains("(and 4 more like it): it is a loopback, link-local or multicast address"))
        #expect(shop.compiler.refusal(of: SocketAddress(nodeAddress, 15001)) == "the L7 proxy of this node is there")
        // An address that comes to the node takes its endpoints away.
        shop.own.addresses.insert(IPAddress(v4: 0xc0a8_0003))
        shop.compile()
        let left = shop.compiler.snapshot.clusters[id("v1")]?.endpoints.map(\.address.description)
        #expect(left == ["192.168.0.2:8080"])
        shop.own = OwnSockets()
        shop.remove(ObjectID(.endpointSlice, ObjectName("shop", "own")))
        shop.remove(ObjectID(.endpointSlice, ObjectName("shop", "special")))
        shop.remove(ObjectID(.endpointSlice, ObjectName("shop", "routed")))
        #expect(shop.compile() && shop.reasons.isEmpty)
    }

    /// What is looked up for one pod must not depend on how many there are.
    @Test(arguments: [10, 10_000]) func aPodCostsItself(pods: Int) {
        var shop = Shop()
        shop.addService("web")
        shop.addService("v1")
        shop.addEndpoints("v1", [1, 2])
        shop.add(route())
        func pod(_ number: Int, on node: String, _ app: String = "a") -> ClusterObject {
            var pod = Pod(name: ObjectName("shop", "p\(number)"))
            (pod.addresses, pod.nodeName, pod.labels) = (
                [IPAddress(v4: 0x0a01_0000 + UInt32(number))], node, ["app": app]
            )
            return .pod(pod)
        }
        for number in 1...pods { shop.add(pod(number, on: number % 100 == 5 ? "node-a" : "node-b")) }
        shop.compile()
        let known = Set(shop.compiler.snapshot.workloads.values.map(\.pod))
        #expect(known == Set(["p1", "p2"] + stride(from: 5, through: pods, by: 100).map { "p\($0)" }))
        // Of no interest here, an endpoint, a client; then the client goes.
        shop.add(pod(9, on: "node-b", "x"))
        #expect(!shop.compile() && shop.compiler.lookups == 1)
        shop.add(pod(1, on: "node-b", "x"))
        #expect(shop.compile() && shop.compiler.lookups == 1)
        shop.add(pod(5, on: "node-a", "x"))
        #expect(shop.compile() && shop.compiler.lookups == 1)
        shop.remove(ObjectID(.pod, ObjectName("shop", "p5")))
        #expect(shop.compile() && shop.compiler.lookups == 1)
        #expect(shop.compiler.snapshot.workloads[IPAddress(v4: 0x0a01_0005)] == nil)
        // An endpoint more: only its cluster's addresses.
        shop.addEndpoints("v1", [1, 2, 3])
        #expect(shop.compile() && shop.compiler.lookups == 3)
        #expect(shop.compiler.snapshot.workloads[IPAddress(v4: 0x0a01_0003)]?.pod == "p3")
    }

    /// An address that one pod leaves and another gets belongs to the new one, whatever their names are.
    @Test func anAddressBelongsToThePodThatGotItLast() {
        var shop = Shop()
        shop.addService("web")
        shop.add(route())
        func pod(_ name: String, isTerminating: Bool = false) -> ClusterObject {
            var pod = Pod(name: ObjectName(name, name))
            (pod.addresses, pod.nodeName, pod.isTerminating) = ([IPAddress(v4: 0x0a01_0001)], "node-a", isTerminating)
            return .pod(pod)
        }
        func owner() -> String? { shop.compiler.snapshot.workloads[IPAddress(v4: 0x0a01_0001)]?.namespace }
        for (old, new) in [("a", "b"), ("d", "c")] {
            shop.add(pod(old))
            shop.compile()
            shop.add(pod(new))
            shop.compile()
            #expect(owner() == new)
            shop.add(pod(new, isTerminating: true))
            shop.compile()
            #expect(owner() == old)
            shop.remove(ObjectID(.pod, ObjectName(old, old)))
            shop.compile()
            #expect(owner() == new)
            shop.remove(ObjectID(.pod, ObjectName(new, new)))
            shop.compile()
            #expect(owner() == nil)
        }
    }

    @Test func incrementalEqualsFromScratch() {
        var random = SeededGenerator()
        for _ in 0..<30 {
            var cluster = RandomCluster()
            var shop = Shop()
            for _ in 0..<50 {
                for _ in 0...Int.random(in: 0..<3, using: &random) {
                    if Int.random(in: 0..<2, using: &random) == 0 {
                        let name = ObjectName("ns", "r\(Int.random(in: 0..<4, using: &random))")
                        var route = Route(kind: Bool.random(using: &random) ? .http : .grpc, name: name)
                        route.parents = [.init(service: cluster.anyService(using: &random))]
                        var rule = Route.Rule()
                        for _ in 0..<2 {
                            let port: UInt16? = [80, 443, nil].randomElement(using: &random) ?? nil
                            rule.backends.append(
                                .init(.init(name: cluster.anyService(using: &random), port: port)))
                        }
                        route.rules = [rule]
                        if Int.random(in: 0..<3, using: &random) == 0 {
                            shop.remove(route.id)
                        } else {
                            shop.add(.route(route))
                        }
                    } else {
                        switch cluster.edit(using: &random) {
                        case .upsert(.service(var service)):
                            for index in service.ports.indices { service.ports[index].appProtocol = "http" }
                            shop.add(.service(service))
                        case .upsert(let object): shop.add(object)
                        case .delete(let id): shop.remove(id)
                        }
                    }
                }
                let before = shop.compiler.snapshot
                #expect(shop.compile() == (shop.compiler.snapshot.generation > before.generation))
                var fresh = RouteCompiler(node: NodeFacts(name: "node-a", zone: "z1"))
                let all = shop.state.knownServices.union(shop.state.routes.values.flatMap { $0.parents.map(\.service) })
                _ = fresh.update(
                    all, pods: [], node: NodeFacts(name: "node-a", zone: "z1"), own: OwnSockets(), from: shop.state)
                #expect(shop.compiler.snapshot.workloads == fresh.snapshot.workloads)
                #expect(shop.compiler.snapshot.services == fresh.snapshot.services)
                #expect(shop.compiler.snapshot.clusters == fresh.snapshot.clusters)
                #expect(shop.compiler.findings == fresh.findings)
            }
        }
    }
}

extension RandomCluster {
    fileprivate func anyService(using random: inout SeededGenerator) -> ObjectName {
        ObjectName("ns", "svc-\(Int.random(in: 0..<options.services, using: &random))")
    }
}

private struct PathOnly: RequestView {
    let text: String

    func method<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body(Array("POST".utf8).span) }
    func path<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body(Array(text.utf8).span) }
    func query<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body([UInt8]().span) }
    func header(_ name: String, passes test: (Span<UInt8>) -> Bool) -> Bool { false }
}
