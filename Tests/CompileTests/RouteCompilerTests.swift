/// Routes, services and endpoints -> what the proxy is told (spec 1.9, 1.10).
import Addressing
import Cluster
import Compile
import RouteIR
import TestSupport
import Testing

@Suite struct RouteCompilerTests {
    private func id(_ name: String) -> UpstreamID {
        UpstreamID(RoutedServiceID(namespace: "shop", name: name, port: 80))
    }

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
        #expect(web.producerRoutes?.map(\.name) == ["shop/r rule 0"] && web.ownUpstream == id("web"))
        #expect(web.producerRoutes?[0].backends == [WeightedBackend(.upstream(id("v1")))])
        let v1 = try #require(shop.compiler.snapshot.upstreams[id("v1")])
        #expect(v1.endpoints.map(\.address.description) == ["10.1.0.3:8080", "10.1.0.7:8080"])
        #expect(v1.endpoints[0].node == "node-b" && v1.endpoints[0].zone == "z2" && shop.reasons.isEmpty)
        shop.remove(ObjectID(.httpRoute, ObjectName("shop", "r")))
        #expect(shop.compile() && shop.compiler.snapshot.upstreams.isEmpty && !shop.compiler.isNeeded)
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
        #expect(targets.first == .upstream(id("v1")) && targets.count == 4)
        for target in targets.dropFirst() { if case .upstream = target { Issue.record("\(target)") } }
        #expect(shop.reasons == ["invalid-backend", "invalid-backend", "invalid-backend"])
        // It comes to life with its Service.
        shop.addService("gone")
        shop.compile()
        #expect(shop.service("web")?.producerRoutes?[0].backends[1].target == .upstream(id("gone")))
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
        // No text means more in a pattern than itself, and no pattern takes in its neighbours.
        (.call(service: .init(#"a\E.*"#), method: .init("C", isRegularExpression: true)), #"/a\E.*/C"#, "/abc/C"),
        (.call(service: nil, method: .init(#"C\E|.*"#)), #"/x/C\E|.*"#, "/x/D"),
        (.call(service: nil, method: .init(#"C\"#)), #"/x/C\"#, "/x/C"),
        (.call(service: .init(#"\Qa.b"#, isRegularExpression: true), method: .init("C")), "/a.b/C", "/axb/C"),
        (.call(service: .init("(?i)a", isRegularExpression: true), method: .init("C")), "/A/C", "/A/c"),
        (.call(service: .init("a|b", isRegularExpression: true), method: .init("C")), "/b/C", "/a"),
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

    /// Alone it is none, so it must not become one between what stands around it.
    @Test func aPatternThatIsWholeOnlyInItsPlaceIsRefused() throws {
        var shop = Shop()
        shop.addService("web")
        shop.add(
            route(kind: .grpc) { rule in
                var match = Route.Match()
                match.path = .call(service: .init("a)|(?:.*", isRegularExpression: true), method: .init("C"))
                rule.matches = [match]
            })
        shop.compile()
        #expect(shop.reasons == ["invalid-regex"])
        let matcher = RouteMatcher(try #require(shop.service("web")?.producerRoutes))
        for path in ["/a", "/a/C", "/x/C"] { #expect(matcher.match(PathOnly(text: path)) == nil) }
    }

    @Test func terminatingEndpointsDrainAndServeWhenNothingElseDoes() {
        var shop = Shop()
        shop.addService("web")
        shop.addEndpoints("web", [1], conditions: [.serving, .terminating])
        shop.add(route())
        shop.compile()
        #expect(shop.compiler.snapshot.upstreams[id("web")]?.endpoints.map(\.isDraining) == [false])
        var slice = EndpointSlice(name: ObjectName("shop", "web-2"), serviceName: "web", addressType: .ipv4)
        slice.ports = [.init(name: "http", port: 8080)]
        slice.endpoints = [.init(IPAddress(v4: 0x0a01_0002))]
        shop.add(.endpointSlice(slice))
        shop.compile()
        #expect(shop.compiler.snapshot.upstreams[id("web")]?.endpoints.map(\.isDraining) == [true, false])
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
        #expect(shop.compiler.snapshot.upstreams[id("web")]?.endpoints.map(\.address.address.v4) == [0x0a01_0001])
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
        #expect(shop.compiler.snapshot.upstreams[id("web")]?.policy == expected)
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
                            for index in service.ports.indices {
                                service.ports[index].appProtocol = random.oneIn(2) ? "http" : nil
                            }
                            if random.oneIn(3) { service.annotations["heddle.io/warmup"] = "never" }
                            shop.add(.service(service))
                        case .upsert(.endpointSlice(var slice)):
                            // Some endpoints have the address of a Service, which may be routed.
                            let addresses = shop.state.services.values.flatMap(\.clusterIPs).sorted()
                            if let address = addresses.randomElement(using: &random), random.oneIn(3),
                                address.family == slice.addressType.family
                            {
                                slice.endpoints.append(.init(address, conditions: [.ready, .serving]))
                            }
                            shop.add(.endpointSlice(slice))
                        case .upsert(let object): shop.add(object)
                        case .delete(let id): shop.remove(id)
                        }
                    }
                }
                let (before, findings) = (shop.compiler.snapshot, shop.compiler.findings)
                let differs = shop.compile()
                var after = shop.compiler.snapshot
                #expect(differs == (after.generation > before.generation))
                after.generation = before.generation
                #expect(differs == (after != before))
                #expect(shop.changes.findings == (shop.compiler.findings != findings))
                // One that another service has as well may be among them.
                let (now, new) = (Set(shop.compiler.findings), Set(shop.changes.newFindings))
                #expect(new.isSubset(of: now) && new.isSuperset(of: now.subtracting(findings)))
                var fresh = RouteCompiler(node: NodeFacts(name: "node-a", zone: "z1"))
                let all = shop.state.knownServices.union(shop.state.routes.values.flatMap { $0.parents.map(\.service) })
                _ = fresh.update(
                    all, pods: [], node: NodeFacts(name: "node-a", zone: "z1"), own: OwnSockets(), from: shop.state)
                #expect(shop.compiler.snapshot.workloads == fresh.snapshot.workloads)
                #expect(shop.compiler.snapshot.services == fresh.snapshot.services)
                #expect(shop.compiler.snapshot.upstreams == fresh.snapshot.upstreams)
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

struct PathOnly: RequestView {
    let text: String

    func method<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body(Array("POST".utf8).span) }
    func path<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body(Array(text.utf8).span) }
    func query<Result>(_ body: (Span<UInt8>) -> Result) -> Result { body([UInt8]().span) }
    func header(_ name: String, passes test: (Span<UInt8>) -> Bool) -> Bool { false }
}
