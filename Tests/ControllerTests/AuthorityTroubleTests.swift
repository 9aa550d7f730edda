/// What others do to the authority's objects: damage, emptiness, no rights, other keys. The last good authority stays
/// in force, and what lives is believed.
import AdminAPI
import FakeAPIServer
import FoundationEssentials
import Signing
import TestSupport
import Testing

@testable import Controller

@Suite(.serialized) struct AuthorityTroubleTests {
    enum Damage: CaseIterable { case certificate, key, otherKey, rotation, emptied, noCertificate }

    @Test(arguments: Damage.allCases) func whatIsDamagedIsNeitherPublishedNorReplaced(damage: Damage) async throws {
        let cluster = try await AuthorityCluster()
        try await cluster.replica { keeper in
            try await soon("it signs") { keeper.signer != nil && cluster.published.count == 1 }
            let (good, roots, signer) = (cluster.secret, cluster.roots, keeper.signer?.authority.facts)
            var bad = good
            switch damage {
            case .certificate: bad["1.crt"] = "eA=="
            case .key: bad["2.key"] = "eA=="
            case .otherKey: bad["1.key"] = good["2.key"]
            case .rotation: bad["rotation.json"] = "e30="
            case .emptied: bad = [:]
            case .noCertificate: bad["2.crt"] = nil
            }
            cluster.store("heddle-ca", bad)
            let writes = cluster.secretWrites
            try await soon("it is told") {
                keeper.report.problems.contains { $0.hasPrefix("Secret kube-system/heddle-ca is damaged: ") }
            }
            try await cluster.looks()
            #expect(cluster.roots == roots && cluster.secret == bad && cluster.secretWrites == writes)
            #expect(keeper.signer?.authority.facts == signer && keeper.report.isReady)
            let told = keeper.report.problems.joined()
            for value in good.values { #expect(!told.contains(value)) }
            cluster.store("heddle-ca", good)
            try await soon("it is good again") { keeper.report.problems.isEmpty }
        }
        await cluster.end()
    }

    /// Both ways, and from one of others to another: nobody meets a leaf under a root that he could not know.
    @Test func rootsOfOthersComeAndGoWithOverlap() async throws {
        let cluster = try await AuthorityCluster()
        try await cluster.replica { keeper in
            try await soon("it signs") { keeper.signer != nil && cluster.published.count == 1 }
            let own = try #require(keeper.signer)
            var leaves = [(signer: own, leaf: try own.leaf(at: cluster.now))]
            for name in ["one", "two"] {
                let theirs = try cluster.storeCacerts(name)
                let root = try #require(theirs.chain.last)
                try await soon("\(name) is published") { cluster.roots.contains(root) }
                try await cluster.looks()
                #expect(keeper.signer?.root != root, "\(name) signs before it is known")
                #expect(keeper.report.origin == "cacerts")
                cluster.pass(3600)
                try await soon("\(name) signs") { keeper.signer?.root == root }
                let signer = try #require(keeper.signer)
                leaves.append((signer, try signer.leaf(at: cluster.now)))
                for (signer, leaf) in leaves {
                    #expect(signer.problem(of: leaf, cluster.roots, at: cluster.now) == nil)
                }
            }
            #expect(cluster.published.count == 3)
            cluster.server.delete(.secrets, "kube-system", "cacerts")
            try await soon("it is seen") { keeper.report.origin == "own" }
            try await cluster.looks()
            let last = try #require(leaves.last)
            #expect(last.signer.problem(of: last.leaf, cluster.roots, at: cluster.now) == nil)
            // Everybody has always known the own root.
            #expect(keeper.signer?.root == own.root)
            cluster.pass(86_400 + 3600)
            try await soon("they are forgotten") { cluster.published.count == 1 }
            #expect(cluster.secret["cacerts.json"] == nil)
        }
        await cluster.end()
    }

    /// With cacerts from the beginning no own key is made; without it an own root must be known before it signs.
    @Test func anOwnRootAfterOthersIsKnownBeforeItSigns() async throws {
        let cluster = try await AuthorityCluster()
        let theirs = try cluster.storeCacerts("first")
        try await cluster.replica { keeper in
            try await soon("it signs at once") { keeper.signer != nil && cluster.published.count == 1 }
            #expect(keeper.signer?.root == theirs.chain.last)
            #expect(!cluster.secret.keys.contains { $0.hasSuffix(".key") })
            cluster.server.delete(.secrets, "kube-system", "cacerts")
            try await soon("an own root is made") { cluster.published.count == 2 }
            try await cluster.looks()
            #expect(keeper.signer?.root == theirs.chain.last)
            cluster.pass(3600)
            try await soon("it signs") { keeper.signer?.root != theirs.chain.last }
        }
        await cluster.end()
    }

    /// Whether something lives under what is published cannot be known then.
    @Test func withoutOwnKeysNothingIsTakenAway() async throws {
        let cluster = try await AuthorityCluster()
        try await cluster.replica { keeper in
            try await soon("it signs") { keeper.signer != nil && cluster.published.count == 1 }
        }
        let own = cluster.roots
        cluster.store("heddle-ca", ["rotation.json": "eA=="])
        let theirs = try cluster.storeCacerts("theirs")
        try await cluster.replica { keeper in
            try await soon("theirs signs") { keeper.signer?.root == theirs.chain.last }
            try await soon("both are published") { cluster.published.count == 2 }
            try await cluster.looks()
            #expect(cluster.roots.contains(own))
        }
        await cluster.end()
    }

    @Test(arguments: [
        ("get", "secrets", "heddle-ca"), ("patch", "secrets", "heddle-ca"), ("get", "configmaps", "heddle-ca-root"),
        ("patch", "configmaps", "heddle-ca-root"), ("get", "secrets", "cacerts"),
    ])
    func whatIsForbiddenIsNamed(verb: String, resource: String, name: String) async throws {
        let rights = roleRights(without: (verb, resource, name))
        let cluster = try await AuthorityCluster(rights: rights)
        try await cluster.replica { keeper in
            try await soon("it is told") {
                keeper.report.problems.contains {
                    $0.contains("forbids to \(verb) \(resource) in namespace kube-system (403); allow the verb \(verb)")
                }
            }
        }
        await cluster.end()
    }

    /// Somebody else writes between reading and writing: it is read again, and nothing is lost of either.
    @Test func aConflictIsReadAgain() async throws {
        let cluster = try await AuthorityCluster()
        let conflict = FakeFault.status(409, reason: "Conflict", message: "the object has been modified")
        cluster.server.failWrites(conflict, conflict)
        cluster.store("heddle-ca", ["note": "eA=="])
        try await cluster.replica { keeper in
            try await soon("it signs") { keeper.signer != nil && cluster.published.count == 1 }
            #expect(keeper.report.problems.isEmpty && cluster.secret["note"] == "eA==")
        }
        await cluster.end()
    }

    @Test func wishesDoNotPileUp() async throws {
        let cluster = try await AuthorityCluster()
        try await cluster.replica { keeper in
            try await soon("it signs") { keeper.signer != nil && cluster.published.count == 1 }
            for _ in 0..<1000 { #expect(keeper.renewRoot() == nil) }
            try await soon("the next root is published") { cluster.published.count == 2 }
            try await cluster.looks()
            #expect(cluster.secretWrites < 20)
        }
        await cluster.end()
    }
}

/// As the chart grants them, but one.
private func roleRights(without missing: (verb: String, resource: String, name: String)) -> String {
    let rules = [("secrets", "heddle-ca"), ("secrets", "cacerts"), ("configmaps", "heddle-ca-root")].map {
        resource, name in
        let verbs = ["get", "patch"].filter { ($0, resource, name) != missing }.joined(separator: ", ")
        return "{apiGroups: [\"\"], resources: [\(resource)], resourceNames: [\(name)], verbs: [\(verbs)]}"
    }
    return """
        kind: Role
        metadata: {name: r, namespace: kube-system}
        rules: [\(rules.joined(separator: ", "))]
        ---
        kind: RoleBinding
        metadata: {name: r, namespace: kube-system}
        roleRef: {kind: Role, name: r}
        subjects: [{kind: ServiceAccount, namespace: kube-system, name: heddle-controller}]
        """
}
