// Access policies at the server's end of tunnels: who is let in, and what becomes of those who were.
import Addressing
import RouteIR
import TestSupport
import Testing

@testable import Proxy

@Suite struct TunnelPolicyTests {
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
        _ policies: [AccessPolicy], isTold: Bool = true, options: (inout EngineOptions) -> Void = { _ in },
        _ body: (TunnelRig, TestListener) async throws -> Void
    ) async throws {
        let listener = try echo()
        defer { listener.stop() }
        let rig = try await TunnelRig([listener.address], options: options, { set(policies, &$0, isTold: isTold) })
        do {
            try rig.trust()
            try await body(rig, listener)
        } catch {
            await rig.end()
            throw error
        }
        await rig.end()
    }

    @Test func whoIsAllowedIsLetInAndNobodyElse() async throws {
        try await with([allow("client")]) { rig, _ in
            let client = try rig.connect()
            #expect(goesOn(client))
        }
        // Nor is he tried again, as where a pod may have just joined the mesh.
        try await with([allow("other")], options: { $0.newsPatience = .seconds(60) }) { rig, _ in
            #expect(try rig.connect().rest() == "")
            #expect(rig.far.stats.tunnelRefusals == [.policy: 1], "it is asked once")
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

    /// The client's node may say anything, and says nothing here of a pod that has the identity.
    @Test func anAddressThatNobodyVouchesForIsUnknown() async throws {
        let elsewhere = IPPrefix(host: IPAddress(v4: 0x0a00_0001))
        let test = PolicyTest(.address(.source, [elsewhere]))
        let deny = AccessPolicy(name: "shop/deny", action: .deny, rules: [PolicyRule(sources: [[test]])])
        try await with([deny]) { rig, _ in
            let client = try rig.connect()
            #expect(goesOn(client), "it is known not to be there")
            var snapshot = rig.far.snapshot
            snapshot.workloads[clientPod] = nil
            snapshot.generation += 1
            rig.far.adopt(snapshot)
            #expect(try rig.connect().rest() == "")
            #expect(rig.far.stats.tunnelRefusals == [.policy: 1] && goesOn(client))
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

    /// Else whoever is denied could take endpoints from those who are not.
    @Test(arguments: [(RoutedProtocol.http1, Upstream.Wire.http1), (.http1, .h2c), (.tcp, .http1)])
    func aDenialSaysNothingAgainstTheEndpoint(speaks: RoutedProtocol, wire: Upstream.Wire) async throws {
        let backends = try (0..<2).map { try TestBackend("\($0)", at: SocketAddress(serverPod, 0)) }
        defer { for backend in backends { backend.stop() } }
        let change: (inout ProxySnapshot) -> Void = {
            set([allow("other")], &$0)
            var detection = UpstreamPolicy.OutlierDetection()
            detection.consecutiveGatewayErrors = 1
            $0.upstreams[UpstreamID(serviceID)]?.policy.outlierDetection = detection
        }
        let rig = try await TunnelRig(
            backends.map(\.address), clientProtocol: speaks, wire: wire, options: { _ in }, change)
        try rig.trust()
        for _ in 0..<3 {
            let client = try rig.connect()
            client.send("GET / HTTP/1.1\r\nHost: cart\r\n\r\n")
            if speaks == .http1 {
                let answer = client.answer()
                #expect(answer?.status == 403 && answer?.text.contains("shop/allow") == false)
            } else {
                #expect(client.rest() == "")
            }
        }
        #expect(rig.near.stats.ejections == 0 && rig.far.stats.tunnelRefusals[.policy] ?? 0 >= 3)
        await rig.end()
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
