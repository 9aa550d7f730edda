// What whoever writes AuthorizationPolicies is told of them.
import Addressing
import Cluster
import Compile
import RouteIR
import Testing

@Suite struct AccessFindingTests {
    private func reasons(_ edit: (inout AuthorizationPolicy) -> Void) -> [String] {
        var town = MeshTown()
        var policy = AuthorizationPolicy(name: ObjectName("shop", "p"))
        policy.access.rules = [PolicyRule()]
        edit(&policy)
        town.add(service("web", 1), .authorizationPolicy(policy))
        return accessFindings(town.state).map(\.reason)
    }
    private func path(_ text: String) -> PolicyRule {
        PolicyRule(operations: [[PolicyTest(.text(.path, [TextMatch(text)]))]])
    }

    @Test func whatIsAsItShouldBeIsNoFinding() {
        #expect(reasons { _ in } == [])
        #expect(reasons { $0.targets = [.init(group: "", kind: "Service", name: "web")] } == [])
    }

    @Test func flawsAndTargets() {
        #expect(reasons { $0.flaws = [.init(field: "spec.who", message: "is unknown")] } == ["policy-unreadable"])
        #expect(reasons { $0.targets = [.init(group: "", kind: "Service", name: "no")] } == ["policy-unknown-target"])
        let gateway = AuthorizationPolicy.Target(group: "gateway.networking.k8s.io", kind: "Gateway", name: "web")
        #expect(reasons { $0.targets = [gateway] } == ["policy-unknown-target"])
    }

    @Test func actions() {
        #expect(reasons { $0.access.action = .custom } == ["policy-custom"])
        #expect(reasons { $0.access.action = .audit } == ["policy-no-effect"])
        #expect(reasons { $0.access.isDryRun = true } == ["policy-no-effect"])
        #expect(reasons { $0.access.rules = [] } == ["policy-allows-nobody"])
        #expect(reasons { ($0.access.rules, $0.access.action) = ([], .deny) } == ["policy-no-effect"])
        // All that is to be said of it is said.
        #expect(reasons { ($0.access.rules, $0.access.isUnreadable) = ([], true) } == [])
    }

    @Test func addresses() throws {
        let block = PolicyTest(.address(.source, [try #require(IPPrefix("10.1.0.0/16"))]))
        #expect(reasons { $0.access.rules = [PolicyRule(sources: [[block]])] } == ["policy-addresses"])
        #expect(reasons { $0.access.rules = [PolicyRule(conditions: [block])] } == ["policy-addresses"])
    }

    @Test func requests() {
        #expect(reasons { $0.access.rules = [self.path("/a")] } == ["policy-requests"])
        for text in ["/a?b", "/a%2fb", "//a", "/a/../b"] {
            #expect(
                reasons { $0.access.rules = [self.path(text)] } == ["policy-requests", "policy-path-form"], "\(text)")
        }
    }

    /// A tenant's policy is one line among others', however long it is.
    @Test func aPolicyHasFewFindings() {
        var policy = AuthorizationPolicy(name: ObjectName("shop", "long"))
        policy.flaws = (0..<100).map { AuthorizationPolicy.Flaw(field: "spec.rules[\($0)]", message: "is unknown") }
        policy.access.rules = [PolicyRule()]
        let findings = accessFindings(of: policy, ClusterState(meshNode: "node-a"))
        #expect(findings.count == 17 && findings.last?.message.hasPrefix("and 83 more") == true)
    }
}
