// What kernel and proxy are told of access policies.
import Addressing
import Cluster
import Compile
import DataplaneIR
import RouteIR
import TestSupport
import Testing

@Suite struct PolicyCompilerTests {
    private let principals = [PolicyTest(.text(.principal, [.exact("cluster.local/ns/shop/sa/client")]))]

    /// A pod of this node, and the modes of its port 80 and of all others under these policies.
    private func town(_ policies: AccessPolicy..., peers: PeerAuthentication? = nil) -> MeshTown {
        var town = MeshTown()
        town.add(namespace("shop", ["istio.io/dataplane-mode": "ambient"]), pod("web", at: 1))
        for access in policies {
            let parts = access.name.split(separator: "/").map(String.init)
            var policy = AuthorizationPolicy(name: ObjectName(parts[0], parts[1]))
            policy.access = access
            town.add(.authorizationPolicy(policy))
        }
        if let peers { town.add(.peerAuthentication(peers)) }
        town.compile()
        return town
    }
    private func modes(_ town: MeshTown) -> [MeshPodProgram.Mode?] {
        let program = town.mesh.programs[address(1)]
        return [program?.mode(of: 80), program?.mode(of: 81)]
    }

    @Test func theProxyHearsOfThoseThatAreAboutItsPods() {
        let allow = AccessPolicy(name: "shop/allow", rules: [PolicyRule(sources: [principals])])
        var town = town(allow, AccessPolicy(name: "other/deny", action: .deny, rules: [PolicyRule()]))
        #expect(town.routes.snapshot.policies == ["shop/allow": allow])
        #expect(town.routes.snapshot.meshPods[address(1)]?.policies == ["shop/allow"])
        town.remove(.authorizationPolicy, "shop", "allow")
        town.compile()
        #expect(town.routes.snapshot.policies == [:] && modes(town) == [.permissive, .permissive])
        #expect(town.routes.snapshot.meshPods[address(1)]?.policies == [])
    }

    /// Who comes in the clear has shown nothing.
    @Test func whoMustShowSomethingDoesNotComeInTheClear() {
        let allow = AccessPolicy(name: "shop/allow", rules: [PolicyRule(sources: [principals])])
        #expect(modes(town(allow)) == [.strict, .strict])
        let other = [PolicyTest(.text(.principal, [.exact("cluster.local/ns/shop/sa/client")]), isNegated: true)]
        let deny = AccessPolicy(name: "shop/deny", action: .deny, rules: [PolicyRule(sources: [other])])
        #expect(modes(town(deny)) == [.strict, .strict])
        let named = AccessPolicy(name: "shop/deny", action: .deny, rules: [PolicyRule(sources: [principals])])
        #expect(modes(town(named)) == [.permissive, .permissive])
    }

    @Test func portsAreToldApart() {
        let eighty = [[PolicyTest(.port([80]))]]
        #expect(
            modes(town(AccessPolicy(name: "shop/a", rules: [PolicyRule(operations: eighty)]))) == [
                .permissive, .strict,
            ])
        let deny = AccessPolicy(name: "shop/d", action: .deny, rules: [PolicyRule(operations: eighty)])
        #expect(modes(town(deny)) == [.strict, .permissive])
        let others = [[PolicyTest(.port([80]), isNegated: true)]]
        let denyOthers = AccessPolicy(name: "shop/d", action: .deny, rules: [PolicyRule(operations: others)])
        #expect(modes(town(denyOthers)) == [.permissive, .strict])
        // What the mode says stays said.
        var peers = PeerAuthentication(name: ObjectName("shop", "p"))
        peers.mode = .strict
        #expect(modes(town(deny, peers: peers)) == [.strict, .strict])
        peers.mode = .disable
        #expect(modes(town(deny, peers: peers)) == [.strict, .disable])
    }

    /// The kernel does not tell addresses apart here: what is let in only from some is refused, what is denied only to
    /// some is refused to all.
    @Test func addressesInTheClearAreNotBelieved() throws {
        let prefix = try #require(IPPrefix("10.0.0.0/8"))
        let rule = PolicyRule(sources: [[PolicyTest(.address(.source, [prefix]))]])
        for action in [PolicyAction.allow, .deny] {
            #expect(modes(town(AccessPolicy(name: "shop/a", action: action, rules: [rule]))) == [.strict, .strict])
        }
    }

    /// The kernel's table of ports is that of all pods.
    @Test func manyPortsAreRefusedAltogether() {
        for count in [63, 65, 5000] {
            let ports = PolicyTest(.port((0..<UInt16(count)).map { 80 + 2 * $0 }))
            let town = town(AccessPolicy(name: "shop/a", rules: [PolicyRule(operations: [[ports]])]))
            let isFew = count < 64
            #expect(modes(town) == [isFew ? .permissive : .strict, .strict])
            #expect(town.mesh.programs[address(1)]?.portModes.count == (isFew ? count : 0))
            #expect(town.mesh.findings.map(\.reason) == (isFew ? [] : ["policy-many-ports"]))
        }
        // Nor by modes of ports, nor by what is not in force.
        var peers = PeerAuthentication(name: ObjectName("shop", "p"))
        peers.selector = ["heddle.io/mesh": "enabled"]
        for port in 0..<UInt16(65) { peers.portModes[80 + 2 * port] = .strict }
        var strict = MeshTown()
        strict.add(pod("web", at: 1, peers.selector), .peerAuthentication(peers))
        strict.compile()
        #expect(modes(strict) == [.strict, .strict] && strict.mesh.programs[address(1)]?.portModes == [:])
        let many = PolicyRule(operations: [[PolicyTest(.port((1...5000).map { $0 }))]])
        let one = PolicyRule(operations: [[PolicyTest(.port([80]))]])
        let policies = town(
            AccessPolicy(name: "shop/a", action: .deny, rules: [one]),
            AccessPolicy(name: "shop/b", action: .deny, isDryRun: true, rules: [many]))
        #expect(modes(policies) == [.strict, .permissive])
    }

    @Test func whatIsNotInForceChangesNothing() {
        let dry = AccessPolicy(name: "shop/a", isDryRun: true)
        let audit = AccessPolicy(name: "shop/b", action: .audit, rules: [PolicyRule()])
        #expect(modes(town(dry, audit)) == [.permissive, .permissive])
        #expect(modes(town(dry, AccessPolicy(name: "shop/c"))) == [.strict, .strict])
        #expect(modes(town(AccessPolicy(name: "shop/c", isUnreadable: true))) == [.strict, .strict])
    }
}
