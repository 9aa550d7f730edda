// What a change of routed services costs does not depend on how many there are.
import Addressing
import Cluster
import Compile
import RouteIR
import Testing

@Suite struct RouteCostTests {
    /// Services and upstreams that are made anew.
    private func cost(_ shop: inout Shop, _ edit: (inout Shop) -> Void) -> Int {
        let before = shop.compiler.made
        edit(&shop)
        shop.compile()
        return shop.compiler.made - before
    }

    private func shop(routed: Int) -> Shop {
        var shop = Shop()
        for number in 0..<routed {
            shop.addService("s\(number)")
            shop.addEndpoints("s\(number)", [UInt32(number) + 1])
            shop.add(route("r\(number)", parent: "s\(number)", to: ["s\(number)"]))
        }
        shop.addService("plain")
        shop.compile()
        #expect(shop.compiler.snapshot.services.count == routed && shop.compiler.snapshot.upstreams.count == routed)
        return shop
    }

    @Test(arguments: [10, 1000]) func aChangeCostsItself(routed: Int) {
        var shop = shop(routed: routed)
        #expect(cost(&shop) { _ in } == 0)
        #expect(cost(&shop) { $0.addEndpoints("plain", [5000]) } == 0)
        #expect(cost(&shop) { $0.addService("another") } == 0)
        #expect(!shop.changes.snapshot && !shop.changes.findings)
        // Its routes are read again, and its upstream is made.
        #expect(cost(&shop) { $0.addEndpoints("s3", [5001]) } == 2 && shop.changes.snapshot)
        // A route more, and a route less.
        #expect(cost(&shop) { $0.add(route("more", parent: "plain", to: ["plain"])) } == 2)
        #expect(cost(&shop) { $0.remove(ObjectID(.httpRoute, ObjectName("shop", "more"))) } <= 2)
        #expect(shop.compiler.snapshot.services.count == routed)
    }

    /// The address of an endpoint becomes one that is routed, and is none any more.
    @Test func anEndpointAtAServiceThatGetsARoute() {
        var shop = shop(routed: 3)
        let plain = shop.state.services[ObjectName("shop", "plain")]?.clusterIPs.first
        guard let plain, case .ipv4 = plain.family else {
            Issue.record("plain has no address")
            return
        }
        var slice = EndpointSlice(name: ObjectName("shop", "s1"), serviceName: "s1", addressType: .ipv4)
        slice.ports = [.init(name: "http", port: 8080)]
        slice.endpoints = [.init(plain, conditions: [.ready, .serving])]
        shop.add(.endpointSlice(slice))
        shop.compile()
        let upstream = UpstreamID(RoutedServiceID(namespace: "shop", name: "s1", port: 80))
        func endpoints() -> Int? { shop.compiler.snapshot.upstreams[upstream]?.endpoints.count }
        #expect(endpoints() == 1 && shop.reasons == [])
        shop.add(route("loop", parent: "plain", to: ["plain"]))
        shop.compile()
        #expect(endpoints() == 0 && shop.reasons == ["refused-endpoint"])
        #expect(shop.changes.newFindings.map(\.reason) == ["refused-endpoint"])
        shop.remove(ObjectID(.httpRoute, ObjectName("shop", "loop")))
        shop.compile()
        #expect(endpoints() == 1 && shop.reasons == [] && shop.changes.findings)
    }

    /// What nothing is said of speaks HTTP/2 only as long as a GRPCRoute sends there, whoever else does.
    @Test func aGRPCRouteThatGoesIsForgotten() {
        var shop = Shop()
        for name in ["a", "b", "target"] { shop.addService(name, ports: [.init(name: "", port: 80)]) }
        shop.add(route("grpc", kind: .grpc, parent: "a", to: ["target"]))
        shop.add(route("http", parent: "b", to: ["target"]))
        shop.compile()
        let target = UpstreamID(RoutedServiceID(namespace: "shop", name: "target", port: 80))
        #expect(shop.compiler.snapshot.upstreams[target]?.wire == .h2c)
        shop.remove(ObjectID(.grpcRoute, ObjectName("shop", "grpc")))
        shop.compile()
        #expect(shop.compiler.snapshot.upstreams[target]?.wire == .http1)
    }
}
