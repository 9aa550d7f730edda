/// Who is refused, on which side, and what is said of it.
import Addressing
import CertificateAuthority
import Glibc
import HTTP2Wire
import NIOCore
import Posix
import RouteIR
import Synchronization
import TestSupport
import Testing

@testable import Proxy

@Suite struct TunnelRefusalTests {
    private func server() throws -> TestListener {
        let listener = try TestListener(at: Addressing.SocketAddress(serverPod, 0))
        try listener.start { descriptor, _ in deliver(descriptor, "hello") }
        return listener
    }

    /// What the client's node says where it refuses the server, and the server's node where it refuses the client.
    private func refusal(
        near: WorkloadCredentials, far: WorkloadCredentials, _ change: (inout ProxySnapshot) -> Void = { _ in }
    ) async throws -> (near: String, nearKinds: [TunnelRefusal.Kind], farKinds: [TunnelRefusal.Kind]) {
        let listener = try server()
        defer { listener.stop() }
        let rig = try await TunnelRig([listener.address], change)
        rig.near.adopt(near)
        rig.far.adopt(far)
        let client = try rig.connect()
        #expect(client.rest() == "" && listener.connections == 0)
        try eventually("the reason") { rig.nearLog.flows.first?.failure != nil }
        let answer = (
            rig.nearLog.flows.first?.failure ?? "", Array(rig.near.stats.tunnelRefusals.keys),
            Array(rig.far.stats.tunnelRefusals.keys)
        )
        await rig.end()
        return answer
    }

    @Test func aServerMustBeTheOneThatIsMeant() async throws {
        let authority = try TestAuthority()
        // The client's node knows another name for the pod than its own node does.
        let (near, kinds, _) = try await refusal(
            near: authority.credentials([authority.credential("client")]),
            far: authority.credentials([authority.credential("server")])
        ) { $0.workloads[serverPod]?.serviceAccount = "somebody" }
        #expect(near.contains("sa/server answers where spiffe://cluster.local/ns/shop/sa/somebody"), "\(near)")
        #expect(kinds == [.wrongIdentity])
    }

    @Test func aServerOfAnotherRootIsRefused() async throws {
        let (ours, theirs) = (try TestAuthority(), try TestAuthority("another"))
        let (near, kinds, _) = try await refusal(
            near: ours.credentials([ours.credential("client")]),
            far: theirs.credentials([theirs.credential("server")], roots: [ours, theirs]))
        #expect(near.contains("leads to no root") && kinds == [.unknownRoot], "\(near)")
    }

    @Test func aClientOfAnotherRootIsRefused() async throws {
        let (ours, theirs) = (try TestAuthority(), try TestAuthority("another"))
        let (near, kinds, far) = try await refusal(
            near: theirs.credentials([theirs.credential("client")], roots: [ours, theirs]),
            far: ours.credentials([ours.credential("server")]))
        #expect(kinds == [.refusedByPeer] && far == [.unknownRoot], "\(near)")
        #expect(near.hasPrefix("the peer ended"), "\(near)")
    }

    /// TLS has no word for it: the server's node ends the connection.
    @Test func aClientHearsWhereItsTrustDomainIsNotTaken() async throws {
        let listener = try server()
        defer { listener.stop() }
        let authority = try TestAuthority()
        var snapshot = ProxySnapshot(node: ProxyNode(name: "near"))
        let rig = try await TunnelRig([listener.address], options: { _ in }) { snapshot = $0 }
        snapshot.generation += 1
        snapshot.mesh = ProxyMesh(trustDomain: "old.example", aliases: ["cluster.local"])
        rig.near.adopt(snapshot)
        rig.near.adopt(try authority.credentials([authority.credential("client", domain: "old.example")]))
        rig.far.adopt(try authority.credentials([authority.credential("server")]))
        #expect(try rig.connect().rest() == "")
        try eventually("the reason") { rig.nearLog.flows.first?.failure != nil }
        let reason = rig.nearLog.flows.first?.failure ?? ""
        #expect(reason.contains("as soon as TLS was set up: it refuses our certificate"), "\(reason)")
        #expect(rig.near.stats.tunnelRefusals.map(\.key) == [.refusedByPeer])
        #expect(rig.far.stats.tunnelRefusals.map(\.key) == [.wrongIdentity])
        await rig.end()
    }

    @Test func expiredCertificatesAreRefused() async throws {
        let authority = try TestAuthority()
        let now = TestAuthority.now
        let good = try authority.credentials([authority.credential("client"), authority.credential("server")])
        let late = try authority.credentials([
            authority.credential("client", from: now - 7200, until: now - 60),
            authority.credential("server", from: now - 7200, until: now - 60),
        ])
        let server = try await refusal(near: good, far: late)
        #expect(server.near.contains("ended") && server.nearKinds == [.expired], "\(server.near)")
        let client = try await refusal(near: late, far: good)
        #expect(client.farKinds == [.expired] && client.nearKinds == [.refusedByPeer], "\(client.near)")
        #expect(client.near.hasPrefix("the peer ended"), "\(client.near)")
    }

    @Test func clientsOfAnotherTrustDomainNeedAnAlias() async throws {
        let authority = try TestAuthority()
        let near = try authority.credentials([authority.credential("client", domain: "old.example")])
        let far = try authority.credentials([authority.credential("server")])
        let facts = { (domain: String) in
            PeerCheck.Facts(uris: ["spiffe://\(domain)/ns/shop/sa/client"], notBefore: 0, notAfter: .max)
        }
        #expect(near.byIdentity.count == 1 && far.byIdentity.count == 1)
        #expect(throws: TunnelRefusal.self) { try PeerCheck.client(facts("old.example"), ProxyMesh(), at: 1) }
        let both = ProxyMesh(trustDomain: "cluster.local", aliases: ["old.example"])
        #expect(try PeerCheck.client(facts("old.example"), both, at: 1).trustDomain == "old.example")
        let (server, cart) = (try identity("client"), try identity("cart"))
        #expect(try PeerCheck.server(facts("old.example"), server, both, at: 1).trustDomain == "old.example")
        #expect(throws: TunnelRefusal.self) { try PeerCheck.server(facts("cluster.local"), cart, both, at: 1) }
        for uris in [[], ["spiffe://cluster.local/x"], ["spiffe://a/ns/b/sa/c", "spiffe://a/ns/b/sa/c"]] {
            let facts = PeerCheck.Facts(uris: uris, notBefore: 0, notAfter: .max)
            #expect(throws: TunnelRefusal.self) { try PeerCheck.client(facts, both, at: 1) }
        }
    }

    /// A tunnel leads to the pod that was dialled, and to none of the proxy's own ports.
    @Test func tunnelsLeadNowhereElse() async throws {
        let listener = try server()
        defer { listener.stop() }
        let rig = try await TunnelRig([listener.address])
        try rig.trust()
        let shard = rig.near.shards[0]
        let route = TunnelRoute(
            source: TunnelSource(pod: clientPod, identity: try identity("client")),
            destination: try identity("server"), address: serverPod)
        let caller = TunnelCaller(client: Addressing.SocketAddress(clientPod, 1), service: nil, workload: nil)
        let ask = { (target: Addressing.SocketAddress) in
            let found = Mutex<TunnelRefusal.Kind??>(nil)
            shard.loop.execute {
                let request = shard.tunnels.request(to: target, by: route, caller) { result in
                    switch result {
                    case .success(let stream):
                        stream.abandon(.cancel)
                        found.withLock { $0 = .some(nil) }
                    case .failure(let refusal): found.withLock { $0 = refusal.kind }
                    }
                }
                shard.tunnels.open(request, within: .seconds(20))
            }
            try eventually("an answer") { found.withLock { $0 != nil } }
            return found.withLock { $0 ?? nil }
        }
        #expect(try ask(listener.address) == nil)
        #expect(try ask(Addressing.SocketAddress(clientPod, listener.address.port)) == .badRequest)
        for port in [15001, 15006, 15008, rig.far.shards[0].options.tunnelPort] {
            #expect(try ask(Addressing.SocketAddress(serverPod, port)) == .badRequest)
        }
        let closed = try TestListener(at: Addressing.SocketAddress(serverPod, 0))
        closed.stop()
        #expect(try ask(closed.address) == .application)
        await rig.end()
    }

    @Test func whatIsNoTLSIsRefused() async throws {
        let rig = try await TunnelRig([])
        try rig.trust()
        let client = try TestClient(
            Addressing.SocketAddress(serverPod, rig.far.shards[0].options.tunnelPort), from: clientPod)
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        _ = client.rest()
        #expect(rig.far.stats.tunnelRefusals == [.handshake: 1])
        try eventually("nothing is left of it") { rig.far.connectionCount == 0 && rig.far.stats.held == 0 }
        await rig.end()
    }

    @Test func aPodThatGoesTakesItsConnectionsAlong() async throws {
        let listener = try TestListener(at: Addressing.SocketAddress(serverPod, 0))
        try listener.start { descriptor, _ in
            deliver(descriptor, "hello")
            var buffer: [UInt8] = []
            while readMore(descriptor, &buffer) {}
        }
        defer { listener.stop() }
        for leaves in ["server", "client"] {
            let rig = try await TunnelRig([listener.address])
            try rig.trust()
            let client = try rig.connect()
            #expect(client.bytes(5) == "hello")
            if leaves == "server" { rig.far.close(pod: serverPod) } else { rig.near.close(pod: clientPod) }
            #expect(client.rest() == "")
            try eventually("nothing is left") {
                rig.near.connectionCount + rig.far.connectionCount == 0 && rig.tunnels == 0
            }
            #expect(rig.near.stats.held + rig.far.stats.held == 0)
            await rig.end()
        }
    }
}
