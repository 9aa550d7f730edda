// Access policies at the server's end of tunnels: who is let in, and what becomes of those who were.
import Addressing
import RouteIR
import TestSupport
import Testing

@testable import Proxy

@Suite struct TunnelPolicyTests {
    private func echo() throws -> TestListener {
        let listener = try TestListener(at: SocketAddress(serverPod, 0))
        try listener.start { descriptor, _ in
            var buffer: [UInt8] = []
            while readMore(descriptor, &buffer) {
                deliver(descriptor, buffer)
                buffer = []
            }
        }
        return listener
    }
    private func goesOn(_ client: TestClient, _ word: String = "hello") -> Bool {
        client.send(word)
        return client.bytes(word.utf8.count) == word
    }
    private func principal(_ account: String) -> [PolicyTest] {
        [PolicyTest(.text(.principal, [.exact("cluster.local/ns/shop/sa/\(account)")]))]
    }
    private func allow(_ account: String, as name: String = "shop/allow") -> AccessPolicy {
        AccessPolicy(name: name, rules: [PolicyRule(sources: [principal(account)])])
    }
    /// Those of the server's pod.
    private func set(_ policies: [AccessPolicy], _ snapshot: inout ProxySnapshot, isTold: Bool = true) {
        snapshot.meshPods[serverPod] = MeshPod(
            namespace: "shop", name: "server-1", uid: "2", serviceAccount: "server", policies: policies.map(\.name))
        snapshot.policies = isTold ? Dictionary(uniqueKeysWithValues: policies.map { ($0.name, $0) }) : [:]
    }
    private func with(
        _ policies: [AccessPolicy], isTold: Bool = true, _ body: (TunnelRig, TestListener) async throws -> Void
    ) async throws {
        let listener = try echo()
        defer { listener.stop() }
        try await TunnelRig.with([listener.address], { set(policies, &$0, isTold: isTold) }) { rig in
            try rig.trust()
            try await body(rig, listener)
        }
    }

    @Test func whoIsAllowedIsLetInAndNobodyElse() async throws {
        try await with([allow("client")]) { rig, _ in
            let client = try rig.connect()
            #expect(goesOn(client))
        }
        try await with([allow("other")]) { rig, _ in
            #expect(try rig.connect().rest() == "")
            #expect(rig.far.stats.tunnelRefusals == [.policy: 1])
            try eventually("the reason is in the server's log, and the client is not told it") {
                rig.farLog.flows.contains {
                    $0.failure?.contains("no rule of its ALLOW policies is about it") == true
                } && rig.nearLog.flows.contains { $0.failure?.contains("answered 401") == true }
            }
        }
    }

    @Test func aDenialNamesItsRule() async throws {
        let deny = AccessPolicy(
            name: "shop/deny", action: .deny,
            rules: [
                PolicyRule(operations: [[PolicyTest(.port([1]))]]),
                PolicyRule(conditions: [PolicyTest(.address(.source, [IPPrefix(host: clientPod)]))]),
            ])
        try await with([allow("client"), deny]) { rig, _ in
            #expect(try rig.connect().rest() == "")
            try eventually("which rule") {
                rig.farLog.flows.contains { $0.failure?.contains("shop/deny rule 1 denies it") == true }
            }
            #expect(rig.far.stats.tunnelRefusals == [.policy: 1])
        }
    }

    /// What nobody has told of may say anything; so may what cannot be read. A dry run says nothing.
    @Test func whatIsUnknownIsDenied() async throws {
        try await with([allow("client")], isTold: false) { rig, _ in
            #expect(try rig.connect().rest() == "")
            try eventually("which policy") {
                rig.farLog.flows.contains { $0.failure?.contains("shop/allow denies it") == true }
            }
        }
        var unreadable = allow("client")
        unreadable.isUnreadable = true
        try await with([unreadable]) { rig, _ in
            let client = try rig.connect()
            #expect(client.rest() == "")
        }
        var dryRun = allow("other")
        dryRun.isDryRun = true
        try await with([dryRun]) { rig, _ in
            let client = try rig.connect()
            #expect(goesOn(client))
        }
    }

    @Test func aChangeEndsWhatItDeniesAndNothingElse() async throws {
        let listener = try echo()
        defer { listener.stop() }
        let rig = try await TunnelRig([listener.address])
        let other = try rig.join("other")
        let authority = try TestAuthority()
        rig.near.adopt(
            try authority.credentials([authority.credential("client"), authority.credential("other")]))
        rig.far.adopt(try authority.credentials([authority.credential("server")]))
        let (first, second) = (try rig.connect(), try rig.connect(from: other))
        #expect(goesOn(first) && goesOn(second))
        var snapshot = rig.far.snapshot
        snapshot.generation += 1
        set([allow("other")], &snapshot)
        rig.far.adopt(snapshot)
        #expect(first.rest() == "")
        #expect(goesOn(second))
        #expect(try rig.connect().rest() == "")
        #expect(rig.far.stats.tunnelRefusals == [.policy: 2])
        try eventually("why") {
            rig.farLog.flows.contains { $0.isOpen && $0.failure?.contains("may not connect") == true }
        }
        snapshot.generation += 1
        set([allow("other"), allow("client", as: "shop/also")], &snapshot)
        rig.far.adopt(snapshot)
        let third = try rig.connect()
        #expect(goesOn(third) && goesOn(second))
        await rig.end()
    }
}
