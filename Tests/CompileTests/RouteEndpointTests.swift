/// Where requests may be sent, and who has which address.
import Addressing
import Cluster
import Compile
import RouteIR
import Testing

@Suite struct RouteEndpointTests {
    private func id(_ name: String) -> UpstreamID {
        UpstreamID(RoutedServiceID(namespace: "shop", name: name, port: 80))
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
        let cluster = try #require(shop.compiler.snapshot.upstreams[id("v1")])
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
        let left = shop.compiler.snapshot.upstreams[id("v1")]?.endpoints.map(\.address.description)
        #expect(left == ["192.168.0.2:8080"])
        shop.own = OwnSockets()
        shop.remove(ObjectID(.endpointSlice, ObjectName("shop", "own")))
        shop.remove(ObjectID(.endpointSlice, ObjectName("shop", "special")))
        shop.remove(ObjectID(.endpointSlice, ObjectName("shop", "routed")))
        shop.compile()
        #expect(shop.reasons.isEmpty)
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
}
