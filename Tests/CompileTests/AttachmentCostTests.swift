// Anybody may attach routes to a Service, and Services may want one address: what compiling costs grows as they do.
import Addressing
import Cluster
import DataplaneIR
import Glibc
import Testing

@testable import Compile

@Suite struct AttachmentCostTests {
    /// Of this thread alone, the least of some tries: others that run do not count.
    private func work(_ body: () -> Void) -> Double {
        (0..<5).map { _ in
            var (begin, end) = (timespec(), timespec())
            clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin)
            body()
            clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end)
            return Double(end.tv_sec - begin.tv_sec) * 1e9 + Double(end.tv_nsec - begin.tv_nsec)
        }.min() ?? 0
    }

    /// A search of each list for each route makes it 64 times as much.
    @Test func manyRoutesOfOneService() {
        var service = Service(name: ObjectName("shop", "web"))
        service.clusterIPs = [IPAddress(v4: 0x0a60_0001)]
        service.ports = [Service.Port(name: "http", port: 80)]
        func attachAll(_ count: Int) -> Double {
            let routes = (0..<count).map { number in
                var route = Route(kind: .http, name: ObjectName("shop", "a-route-with-a-name-\(number)"))
                route.parents = [Route.Parent(service: service.name)]
                return route
            }
            return work { #expect(attach(routes, to: service, CompilerOptions())[80]?.producer.count == count) }
        }
        #expect(attachAll(4000) < 24 * attachAll(500))
    }

    /// By several parents it stands on a port once, with all of them.
    @Test func aRouteOfSeveralParentsStandsOnceOnAPort() {
        var service = Service(name: ObjectName("shop", "web"))
        service.clusterIPs = [IPAddress(v4: 0x0a60_0001)]
        service.ports = [Service.Port(name: "http", port: 80), Service.Port(name: "http-b", port: 81)]
        func route(_ name: String, _ parents: [UInt16?], in namespace: String = "shop") -> Route {
            var route = Route(kind: .http, name: ObjectName(namespace, name))
            route.parents = parents.map { Route.Parent(service: service.name, port: $0) }
            return route
        }
        let routes = [route("a", [81, nil]), route("b", [80, 80]), route("c", [nil], in: "other")]
        let attached = attach(routes, to: service, CompilerOptions())
        #expect(attached[80]?.producer.map(\.route.name.name) == ["a", "b"])
        #expect(attached[80]?.producer.map(\.parents) == [[1], [0, 1]])
        #expect(attached[81]?.producer.map(\.parents) == [[0, 1]])
        #expect(attached[81]?.consumers["other"]?.map(\.parents) == [[0]])
    }

    /// The oldest has the address, and all others say so, whoever came when.
    @Test(arguments: 0..<5) func servicesThatWantOneAddress(_ seed: UInt64) {
        let count = 200
        var state = ClusterState()
        var services = (0..<count).map { number in
            var service = Service(name: ObjectName("shop", "s\(number)"))
            service.clusterIPs = [IPAddress(v4: 0x0a60_0000 + UInt32(number))]
            service.externalIPs = [IPAddress(v4: 0xc000_0201)]
            service.ports = [Service.Port(name: "http", port: 80)]
            service.creationTime = Int64(number)
            return service
        }
        services.sort { ($0.creationTime &* 7919 + Int64(seed)) % 199 < ($1.creationTime &* 7919 + Int64(seed)) % 199 }
        var compiler = Compiler(node: NodeFacts(name: "n"))
        func conflicts() -> [ObjectName: [Finding]] {
            compiler.findings.filter { $0.value.contains { $0.reason == "address-conflict" } }
        }
        for service in services { _ = state.apply(.upsert(.service(service))) }
        _ = compiler.update(Set(services.map(\.name)), from: state)
        #expect(compiler.made < 12 * count)
        #expect(conflicts().count == count - 1 && conflicts()[ObjectName("shop", "s0")] == nil)
        // The next oldest takes it over, and then a younger one goes, which touches nobody.
        for (gone, winner, least) in [("s0", "s1", count - 1), ("s150", "s1", 1)] {
            let before = compiler.made
            let dirty = state.apply(.delete(ObjectID(.service, ObjectName("shop", gone)))).services
            _ = compiler.update(dirty, from: state)
            #expect(compiler.made - before >= least && compiler.made - before <= least + 2)
            let lost = conflicts()
            #expect(lost.count == state.services.count - 1 && lost[ObjectName("shop", winner)] == nil)
            #expect(lost.values.joined().allSatisfy { $0.message.contains("shop/\(winner)") })
        }
    }
}
