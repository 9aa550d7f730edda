// Which mode an enrolled pod has: every kind of policy, and which of them goes first.
import Addressing
import Cluster
import Compile
import DataplaneIR
import Testing

@Suite struct PeerAuthenticationTests {
    typealias Mode = MeshPodProgram.Mode

    private func policy(
        _ name: String, in namespace: String = "shop", age: Int64 = 1, _ mode: PeerAuthentication.Mode? = nil,
        selector: [String: String] = [:], ports: [UInt16: PeerAuthentication.Mode?] = [:]
    ) -> ClusterObject {
        var policy = PeerAuthentication(name: ObjectName(namespace, name))
        (policy.creationTime, policy.mode, policy.selector, policy.portModes) = (age, mode, selector, ports)
        return .peerAuthentication(policy)
    }

    private func town() -> MeshTown {
        var town = MeshTown()
        town.add(
            namespace("shop", ["heddle.io/mesh": "enabled"]), namespace("other", ["heddle.io/mesh": "enabled"]),
            namespace("istio-system", ["heddle.io/mesh": "enabled"]))
        town.add(pod("web", at: 1, ["app": "web"]), pod("db", at: 2, ["app": "db", "tier": "back"]))
        town.add(pod("far", at: 3, in: "other"), pod("root", at: 4, in: "istio-system"))
        town.compile()
        return town
    }
    private func modes(_ town: MeshTown) -> [Mode?] {
        (1...4).map { town.mesh.programs[address($0)]?.mode }
    }
    private func modes(after objects: ClusterObject...) -> [Mode?] {
        var town = town()
        town.apply(objects.map { .upsert($0) })
        town.compile()
        return modes(town)
    }

    @Test func thePrecedenceOfPolicies() {
        #expect(modes(after: policy("p")) == [.permissive, .permissive, .permissive, .permissive])
        #expect(modes(after: policy("p", .strict)) == [.strict, .strict, .permissive, .permissive])
        let mesh = policy("mesh", in: "istio-system", .strict)
        #expect(modes(after: mesh) == [.strict, .strict, .strict, .strict])
        #expect(modes(after: mesh, policy("p", .permissive)) == [.permissive, .permissive, .strict, .strict])
        #expect(modes(after: mesh, policy("p")) == [.strict, .strict, .strict, .strict])
        let web = policy("web", .disable, selector: ["app": "web"])
        #expect(modes(after: mesh, policy("p", .permissive), web) == [.disable, .permissive, .strict, .strict])
        let back = policy("back", .strict, selector: ["app": "db", "tier": "back"])
        #expect(modes(after: back) == [.permissive, .strict, .permissive, .permissive])
        #expect(modes(after: policy("none", .strict, selector: ["app": "db", "tier": "front"]))[1] == .permissive)
        // A selector says nothing in the root namespace.
        #expect(modes(after: policy("m", in: "istio-system", .strict, selector: ["app": "web"]))[0] == .permissive)
    }

    @Test func theOldestPolicyIsFollowed() {
        let modes = modes(after: policy("a", age: 9, .strict), policy("b", age: 5, .disable))
        #expect(modes[0] == .disable)
        #expect(self.modes(after: policy("b", .strict), policy("a", .disable))[0] == .disable)
        // Saying nothing is also an answer of the oldest.
        #expect(self.modes(after: policy("a", age: 1), policy("b", age: 5, .strict))[0] == .permissive)
    }

    @Test func portsOfAPod() {
        var town = town()
        town.add(policy("ns", .strict))
        town.add(policy("web", selector: ["app": "web"], ports: [80: .permissive, 81: nil, 82: .disable]))
        town.compile()
        let web = town.mesh.programs[address(1)]
        #expect(web?.mode == .strict && web?.portModes == [80: .permissive, 81: .strict, 82: .disable])
        #expect(town.mesh.programs[address(2)]?.portModes == [:])
        #expect(policyFindings(town.state) == [])
        town.add(policy("ns", .strict, ports: [80: .disable]))
        town.add(policy("m", in: "istio-system", selector: ["a": "b"]))
        town.compile()
        #expect(town.mesh.programs[address(2)]?.portModes == [:])
        let fields = policyFindings(town.state).map(\.field).sorted()
        #expect(fields == ["spec.portLevelMtls", "spec.selector"])
    }

    @Test func policiesAndLabelsAreFollowed() {
        var town = town()
        town.add(policy("web", .strict, selector: ["app": "web"]))
        town.compile()
        #expect(modes(town)[0] == .strict)
        town.add(pod("web", at: 1, ["app": "other"]))
        town.compile()
        #expect(modes(town)[0] == .permissive)
        town.add(pod("web", at: 1, ["app": "web"]))
        town.compile()
        town.remove(.peerAuthentication, "shop", "web")
        town.compile()
        #expect(modes(town)[0] == .permissive)
    }

    /// A policy of a namespace asks its pods only, one of the root namespace all of this node.
    @Test func whatAPolicyCosts() {
        var town = town()
        func cost(_ edit: (inout MeshTown) -> Void) -> Int {
            let before = town.mesh.made
            edit(&town)
            town.compile()
            return town.mesh.made - before
        }
        #expect(cost { $0.add(policy("p", .strict)) } == 2)
        #expect(cost { $0.add(policy("p", .strict)) } == 0)
        #expect(cost { $0.add(policy("p", in: "nowhere", .strict)) } == 0)
        #expect(cost { $0.add(policy("p", in: "istio-system", .strict)) } == 4)
        #expect(cost { $0.remove(.peerAuthentication, "shop", "p") } == 2)
    }

    @Test func datagramsUnderSTRICTAreToldOf() {
        var town = town()
        town.add(pod("dns", at: 7) { ($0.datagramTransports, $0.probePorts) = ([.udp], [8080]) })
        town.compile()
        #expect(town.mesh.findings == [] && town.mesh.programs[address(7)]?.probePorts == [8080])
        town.add(policy("p", .strict))
        town.compile()
        #expect(town.findings.map(\.reason) == ["mesh-strict-datagrams"])
        #expect(town.findings.first?.message.contains("by PeerAuthentication shop/p") == true)
    }
}
