/// What becomes of open tunnels when other certificates, roots and trust domains are believed.
import Addressing
import CertificateAuthority
import NIOCore
import Posix
import RouteIR
import TestSupport
import Testing

@testable import Proxy

@Suite struct TunnelTrustTests {
    /// Connections go on when certificates change; later ones show the new.
    @Test func aRenewalDisturbsNothing() async throws {
        let listener = try echo()
        defer { listener.stop() }
        let rig = try await TunnelRig([listener.address])
        let (old, new) = (try TestAuthority("old"), try TestAuthority("new"))
        rig.near.adopt(try old.credentials([old.credential("client")]))
        rig.far.adopt(try old.credentials([old.credential("server")]))
        let first = try rig.connect()
        #expect(goesOn(first))
        for _ in 1...2 {
            rig.near.adopt(try new.credentials([new.credential("client")], roots: [old, new]))
            rig.far.adopt(try new.credentials([new.credential("server")], roots: [old, new]))
            #expect(goesOn(try rig.connect()) && goesOn(first))
        }
        first.endOutput()
        #expect(first.rest() == "")
        try eventually("the older connections go") { rig.tunnels == 1 }
        await rig.end()
    }

    /// On the server's node the client's, and the other way round.
    @Test(arguments: ["far", "near"]) func aRootThatIsTakenAwayEndsItsTunnels(_ side: String) async throws {
        let listener = try echo()
        defer { listener.stop() }
        let rig = try await TunnelRig([listener.address])
        let (old, new) = (try TestAuthority("old"), try TestAuthority("new"))
        let other = try rig.join("other")
        let adopt = { (authority: TestAuthority, roots: [TestAuthority]) in
            rig.near.adopt(
                try authority.credentials([authority.credential("client"), new.credential("other")], roots: roots))
            rig.far.adopt(try authority.credentials([authority.credential("server")], roots: roots))
        }
        try adopt(old, [old, new])
        let first = try rig.connect()
        #expect(goesOn(first))
        try adopt(new, [old, new])
        let second = try rig.connect(from: other)
        #expect(goesOn(second) && goesOn(first))
        let engine = side == "far" ? rig.far : rig.near
        let account = side == "far" ? "server" : "other"
        engine.adopt(try new.credentials([new.credential(account)], roots: [new]))
        #expect(first.rest() == "")
        #expect(goesOn(second), "who has shown a certificate of the other root keeps what he has")
        #expect(engine.stats.tunnelRefusals == [.unknownRoot: 1])
        let log = side == "far" ? rig.farLog : rig.nearLog
        try eventually("why") { log.flows.contains { $0.failure?.contains("root that was taken away") == true } }
        await rig.end()
    }

    /// In a rotation the old root goes when nobody has a certificate under it that is good, and a connection may be
    /// older than that.
    @Test func whoHasOutlivedHisCertificateKeepsWhatHeHas() async throws {
        let listener = try echo()
        defer { listener.stop() }
        try await TunnelRig.with([listener.address]) { rig in
            let (old, new) = (try TestAuthority("old"), try TestAuthority("new"))
            rig.near.adopt(try old.credentials([old.credential("client")]))
            rig.far.adopt(try old.credentials([old.credential("server")]))
            let first = try rig.connect()
            #expect(goesOn(first))
            // Time has passed.
            let tunnels = rig.far.collect { shard in
                let tunnels = shard.connections.values.compactMap { $0 as? TunnelServer }
                for tunnel in tunnels {
                    var facts = tunnel.client.facts
                    facts.notAfter = 1
                    tunnel.client = TunnelPeer(
                        tunnel.client.identity, facts, tunnel.client.certificate, roots: tunnel.client.roots)
                }
                return tunnels.count
            }
            #expect(tunnels.reduce(0, +) == 1)
            rig.far.adopt(try new.credentials([new.credential("server")]))
            #expect(goesOn(first))
            #expect(try rig.connect().rest() == "", "and gets nothing new")
            #expect(goesOn(first))
        }
    }

    @Test func aTrustDomainThatIsTakenAwayEndsItsTunnels() async throws {
        let listener = try echo()
        defer { listener.stop() }
        let (old, new) = ("old.example", "cluster.local")
        try await TunnelRig.with([listener.address], { $0.mesh = ProxyMesh(trustDomain: old, aliases: [new]) }) { rig in
            let authority = try TestAuthority()
            rig.near.adopt(try authority.credentials([authority.credential("client", domain: old)]))
            rig.far.adopt(try authority.credentials([authority.credential("server")]))
            var snapshot = rig.far.snapshot
            snapshot.mesh = ProxyMesh(trustDomain: new, aliases: [old])
            rig.far.adopt(snapshot)
            let first = try rig.connect()
            #expect(goesOn(first))
            snapshot.mesh = ProxyMesh(trustDomain: new)
            rig.far.adopt(snapshot)
            #expect(first.rest() == "")
            #expect(rig.far.stats.tunnelRefusals == [.wrongIdentity: 1])
            #expect(try rig.connect().rest() == "", "nothing of another trust domain is let in")
            try eventually("the reason") {
                rig.farLog.flows.contains { $0.failure?.contains("of another trust domain") == true }
            }
        }
    }

    /// Nobody who leaves the mesh loses what he has for it.
    @Test func aNodeThatLeavesTheMeshTrustsNobodyLess() async throws {
        let listener = try echo()
        defer { listener.stop() }
        try await TunnelRig.with([listener.address]) { rig in
            try rig.trust()
            let first = try rig.connect()
            #expect(goesOn(first))
            var snapshot = rig.far.snapshot
            snapshot.mesh = nil
            rig.far.adopt(snapshot)
            #expect(goesOn(first))
        }
    }

    @Test func openTunnelsAreCounted() async throws {
        let listener = try echo()
        defer { listener.stop() }
        try await TunnelRig.with([listener.address]) { rig in
            try rig.trust()
            let clients = [try rig.connect(), try rig.connect()]
            #expect(clients.allSatisfy { goesOn($0) })
            let answer = { (engine: ProxyEngine) in String(decoding: engine.answer("tunnels"), as: UTF8.self) }
            let count = #""inbound":0,"inboundStreams":0,"outbound":1,"outboundStreams":2}"#
            #expect(answer(rig.near) == #"[{"pod":"127.1.0.2",\#(count)]"#)
            #expect(
                answer(rig.far)
                    == #"[{"pod":"127.1.0.3","inbound":1,"inboundStreams":2,"outbound":0,"outboundStreams":0}]"#)
            for client in clients { client.hangUp() }
            try eventually("the streams go") { answer(rig.near).contains(#""outboundStreams":0"#) }
        }
    }
}

extension TunnelRig {
    /// One more pod of the client's node.
    func join(_ name: String) throws -> IPAddress {
        let pod = IPAddress(v4: 0x7f01_0005)
        var snapshot = near.snapshot
        snapshot.meshPods[pod] = MeshPod(namespace: "shop", name: name + "-1", uid: name, serviceAccount: name)
        near.adopt(snapshot)
        return pod
    }
}
