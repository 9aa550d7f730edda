// Where applications get a PROXY header: what Services ask for, followed in both directions.
import Addressing
import Cluster
import Compile
import RouteIR
import TestSupport
import Testing

@Suite struct HeaderPortTests {
    private let key = "heddle.io/proxy-protocol"

    private func town() -> MeshTown {
        var town = MeshTown()
        town.add(namespace("shop", ["heddle.io/mesh": "enabled"]), pod("web", at: 1), pod("db", at: 2))
        town.add(endpoints("web", [1]))
        town.compile()
        return town
    }
    private func asking(_ value: String?, _ name: String = "web", isHeadless: Bool = false) -> ClusterObject {
        guard case .service(var service) = service(name, 1) else { return service(name, 1) }
        service.annotations = value.map { [key: $0] } ?? [:]
        if isHeadless { service.clusterIPs = [] }
        return .service(service)
    }
    private func strict() -> ClusterObject {
        var policy = PeerAuthentication(name: ObjectName("shop", "p"))
        policy.mode = .strict
        return .peerAuthentication(policy)
    }
    private func ports(_ town: MeshTown) -> [Set<UInt16>?] {
        let (told, compiled) = (town.routes.snapshot.meshPods, town.mesh.view.pods)
        #expect(told == compiled)
        return (1...2).map { told[address($0)]?.headerPorts }
    }

    @Test(arguments: [false, true]) func aServiceAsksForItsPods(isHeadless: Bool) {
        var town = town()
        #expect(ports(town) == [[], []])
        town.add(asking("v2", isHeadless: isHeadless))
        town.compile()
        #expect(ports(town) == [[8080], []])
        // Its endpoints change.
        town.add(endpoints("web", [1, 2]))
        town.compile()
        #expect(ports(town) == [[8080], [8080]])
        town.add(endpoints("web", [2]))
        town.compile()
        #expect(ports(town) == [[], [8080]])
        // One of another namespace, whose slice somebody wrote by hand, has no say in it.
        let evil = ObjectName("evil", "web")
        var foreign = Service(name: evil)
        foreign.annotations = [key: "v2"]
        var slice = EndpointSlice(name: evil, serviceName: "web", addressType: .ipv4)
        slice.ports = [.init(name: "tcp", port: 8080)]
        slice.endpoints = [.init(address(1), conditions: [.ready, .serving], nodeName: "node-b")]
        town.add(.service(foreign), .endpointSlice(slice))
        town.compile()
        #expect(ports(town) == [[], [8080]])
        // Another that says nothing of it has the same pods.
        town.add(service("other", 2), endpoints("other", [2]))
        town.compile()
        #expect(ports(town) == [[], [8080]])
        town.add(asking(nil, isHeadless: isHeadless))
        town.compile()
        #expect(ports(town) == [[], []])
        town.add(asking("v2", isHeadless: isHeadless))
        town.compile()
        town.remove(.service, "shop", "web")
        town.compile()
        #expect(ports(town) == [[], []])
    }

    @Test func podsThatComeLaterAndStartsFromNothing() {
        var town = town()
        town.add(asking("v2"), endpoints("web", [1, 3]))
        town.compile()
        town.add(pod("late", at: 3))
        town.compile()
        #expect(town.mesh.view.pods[address(3)]?.headerPorts == [8080])
        town.remove(.pod, "shop", "late")
        town.compile()
        #expect(town.mesh.view.pods[address(3)] == nil)
        town.pods = [pod("web", at: 1), pod("db", at: 2)].map { .upsert($0) }
        #expect(town.fromScratch.mesh.view == town.mesh.view)
    }

    /// The application listens at all addresses of its pod, whatever a Service has of them.
    @Test func aPodOfTwoFamilies() {
        var town = town()
        let second = IPAddress(high: 0xfd00_0000_0000_0000, low: 1)
        town.add(pod("web", at: 1) { $0.addresses.append(second) })
        town.compile()
        town.add(asking("v2"))
        town.compile()
        #expect(town.mesh.view.pods[second]?.headerPorts == [8080])
        #expect(town.mesh.view.pods[address(1)] == town.mesh.view.pods[second])
    }

    /// A change costs the pods of this node that it is about.
    @Test func whatAChangeCosts() {
        var town = town()
        town.add(asking("v2"), endpoints("web", [1] + (100..<200)))
        town.compile()
        func cost(_ objects: ClusterObject...) -> Int {
            let before = town.mesh.made
            town.apply(objects.map { .upsert($0) })
            town.compile()
            return town.mesh.made - before
        }
        #expect(cost(endpoints("web", [1] + (100..<201))) == 1)
        #expect(cost(service("other", 2), endpoints("other", [1, 2])) == 0)
        #expect(cost(asking(nil)) == 1)
        #expect(cost(endpoints("web", [1])) == 0)
    }

    @Test func whatIsNotUnderstoodIsTold() {
        for isHeadless in [false, true] {
            var town = town()
            town.add(asking("v1", isHeadless: isHeadless))
            town.compile()
            #expect(ports(town) == [[], []])
            let findings = town.mesh.findings + town.routes.findings
            #expect(findings.map(\.reason) == ["invalid-annotation"])
            #expect(findings.first?.field == "metadata.annotations[\"\(key)\"]")
            #expect(findings.first?.message == "\"v1\" is ignored: write v2")
        }
    }

    /// Whoever connects in the clear says of itself what it likes.
    @Test func portsThatTakePlaintextAreToldOf() {
        var town = town()
        town.add(asking("v2"))
        town.compile()
        #expect(town.findings.map(\.reason) == ["mesh-open-header-port"])
        #expect(town.findings.first?.object == ObjectID(.service, ObjectName("shop", "web")))
        town.add(strict())
        town.compile()
        #expect(town.mesh.findings == [] && ports(town) == [[8080], []])
    }
}
