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
                keeper.report.problems.contains {
                    $0.hasPrefix("Secret kube-system/heddle-ca is \(damage == .emptied ? "empty, and" : "damaged: ")")
                }
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

    /// Also when nobody is there who remembers; and a wish for a new root is heard.
    @Test func whatWasEmptiedIsNotBegunAnew() async throws {
        let cluster = try await AuthorityCluster()
        try await cluster.replica { keeper in
            try await soon("it signs") { keeper.signer != nil && cluster.published.count == 1 }
        }
        let roots = cluster.roots
        cluster.store("heddle-ca", [:])
        try await cluster.replica { keeper in
            try await soon("it is told") { keeper.report.problems.contains { $0.contains("that others believe") } }
            try await cluster.looks()
            #expect(cluster.secret.isEmpty && cluster.roots == roots && keeper.signer == nil)
            cluster.server.store(AuthorityCluster.folder + "configmaps/heddle-ca-root", "{}")
            try await soon("it begins") { keeper.signer != nil && cluster.published.count == 1 }
            #expect(cluster.roots != roots && keeper.report.problems.isEmpty)
        }
        await cluster.end()
    }

    /// Whoever replaces it may delete it first.
    @Test func cacertsThatAreAwayForAMomentStayInForce() async throws {
        let cluster = try await AuthorityCluster()
        let theirs = try cluster.storeCacerts("first")
        for isNew in [true, false] {
            try await cluster.replica(absence: 120) { keeper in
                if isNew {
                    try await soon("it signs") { keeper.signer != nil && cluster.published.count == 1 }
                    cluster.server.delete(.secrets, "kube-system", "cacerts")
                }
                try await cluster.looks()
                cluster.pass(119)
                try await cluster.looks()
                #expect(cluster.published.count == 1 && cluster.secret["1.key"] == nil)
                if !isNew {
                    cluster.pass(1)
                    try await soon("an own root is made") { cluster.published.count == 2 }
                }
            }
        }
        #expect(cluster.roots.contains(theirs.chain[1]))
        await cluster.end()
    }

    @Test func aRootThatNobodyIsToldOfDoesNotSign() async throws {
        let cluster = try await AuthorityCluster()
        let one = try cluster.storeCacerts("one")
        var kept = cluster.data("secrets/cacerts")
        _ = try cluster.storeCacerts("two")
        kept["root-cert.pem"] = cluster.data("secrets/cacerts")["root-cert.pem"]
        cluster.store("cacerts", kept)
        try await cluster.replica { keeper in
            try await soon("it is told") {
                keeper.report.problems.contains { $0.contains("the root of its chain is not in root-cert.pem") }
            }
            #expect(keeper.signer == nil && cluster.roots.isEmpty && one.chain.count == 2)
        }
        await cluster.end()
    }

    /// Others may have another root by then, and this one be forgotten.
    @Test func whoeverCannotReadTheSecretsForLongDoesNotSign() async throws {
        let cluster = try await AuthorityCluster()
        try await cluster.replica { keeper in
            try await soon("it signs") { keeper.signer != nil && cluster.published.count == 1 }
            try cluster.server.enforce(rbac: roleRights(without: ("get", "secrets", "heddle-ca")))
            try await soon("it is told") { keeper.report.problems.contains { $0.contains("forbids to get secrets") } }
            cluster.pass(3600)
            try await cluster.looks()
            #expect(keeper.signer != nil)
            cluster.pass(1)
            try await soon("it does not sign") { keeper.signer == nil && !keeper.report.isReady }
            try cluster.server.enforce(rbac: renderedChart)
            try await soon("it signs again") { keeper.signer != nil && keeper.report.problems.isEmpty }
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
