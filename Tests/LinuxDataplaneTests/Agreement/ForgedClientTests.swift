/// What a pod may try against another pod's connections to routed services: the proxy is told of each connection what
/// its own client dialled, and one pod's connections, real or staged, neither change nor crowd out another's.
import Addressing
import Cluster
import Observation
import Reconcile
import Testing
import TestSupport

@Suite(.serialized, .requiresKernel(.root, .netns, .cgroup2, .bpf))
struct ForgedClientTests {
    private static let connections = 2000

    /// The attacker's sockets claim the victim's address and port. What they send never comes back to them.
    @Test(arguments: DataplaneKind.allCases, AddressFamily.allCases)
    func whoClaimsAnAddressGetsNoneOfItsConnections(kind: DataplaneKind, family: AddressFamily) throws {
        try Lab.with { lab in
            let test = try Attack(kind, lab, family)
            // Where pods' packets are not checked for their source, a segment can disturb anybody's handshake: what is
            // proved here is what the claim alone does.
            try test.dropForgedPackets()
            let storm = try test.attacker.storm(
                .tcp, to: test.evil, threads: 2, timeoutMs: 1, claiming: test.claimed)
            try test.expectVictimIsServed(Self.connections)
            let claims = try storm.stop()
            #expect(claims.count > 100)
        }
    }

    /// Where forged packets do come through, connection tracking meets them: the flow it makes of one is not that of
    /// the victim's connection. Handshakes may be disturbed, as between any two addresses; none goes to the other
    /// service.
    @Test(arguments: DataplaneKind.allCases)
    func forgedPacketsTurnNoConnectionToAnotherService(kind: DataplaneKind) throws {
        try Lab.with { lab in
            let test = try Attack(kind, lab, .ipv4)
            let storm = try test.attacker.storm(
                .tcp, to: test.evil, threads: 2, timeoutMs: 1, claiming: test.claimed)
            let result = try test.victim.flow(.tcp, to: test.web, count: 300, timeoutMs: 50, from: test.claimed)
            let claims = try storm.stop()
            #expect(claims.count > 100 && result.names.isSubset(of: [test.web.description]), "\(result)")
        }
    }

    /// The attacker plays the victim and the proxy in its own network namespace: handshakes that are complete.
    @Test(arguments: AddressFamily.allCases)
    func whoStagesHandshakesGetsNoneOfItsConnections(family: AddressFamily) throws {
        try Lab.with { lab in
            let test = try Attack(.ebpf, lab, family)
            try test.playTheProxy()
            let storm = try test.attacker.storm(.tcp, to: test.evil, threads: 2, claiming: test.claimed)
            try test.expectVictimIsServed(Self.connections)
            let staged = try storm.stop()
            #expect(staged.contains { $0.error == 0 }, "eBPF sends it to the attacker's own proxy")
        }
    }

    @Test func whoHoldsManyConnectionsCrowdsOutNobodyElse() throws {
        try Lab.with { lab in
            let test = try Attack(.ebpf, lab, .ipv4)
            try test.playTheProxy()
            let held = try test.attacker.hold(300, to: test.evil, intervalMs: 1000)
            #expect(try test.counter("proxy_share_full") == 300 - 256)
            #expect(try test.waiting() == 256)
            try test.expectVictimIsServed(Self.connections)
            // The attacker itself is refused rather than believed, until it lets go.
            try test.stopPlayingTheProxy()
            let refused = try test.attacker.flow(.tcp, to: test.evil)
            #expect(refused.answered == 1 && refused.names.isDisjoint(with: [test.evil.description]), "\(refused)")
            _ = try held.release()
            try eventually("nobody waits any more") { try test.waiting() == 0 }
            let after = try test.attacker.flow(.tcp, to: test.evil, count: 5)
            #expect(after.names == [test.evil.description], "\(after)")
            #expect(try test.counter("proxy_ambiguous") == 0)
        }
    }
}

/// Two routed services, of which each listener that plays the proxy says which was dialled.
private final class Attack {
    let node: NodeUnderTest
    let victim: LabPod
    let attacker: LabPod
    let claimed: SocketAddress
    let web: SocketAddress
    let evil: SocketAddress
    private let proxy: SocketAddress
    private let lab: Lab

    init(_ kind: DataplaneKind, _ lab: Lab, _ family: AddressFamily) throws {
        self.lab = lab
        node = try NodeUnderTest(kind, lab: lab)
        (victim, attacker) = (node.pods[0], node.pods[1])
        claimed = SocketAddress(victim.address(family), 40000)
        proxy = SocketAddress(node.node.host.address(family), NodeUnderTest.proxyPort)
        var changes: [Change] = []
        var addresses: [SocketAddress] = []
        for (name, number) in [("web", 10), ("evil", 20)] as [(String, UInt8)] {
            var service = Service(name: ObjectName("ns", name))
            let v4 = IPAddress(v4: 0x0a60_0000 + UInt32(number))
            let v6 = IPAddress(high: 0xfd00_0096 << 32, low: UInt64(number))
            service.clusterIPs = [v4, v6]
            service.ports = [Service.Port(name: "tcp", transport: .tcp, port: 80)]
            service.ports[0].appProtocol = "http"
            var route = Route(kind: .http, name: service.name)
            route.parents = [.init(service: service.name)]
            changes += [.upsert(.service(service)), .upsert(.route(route))]
            addresses.append(SocketAddress(family == .ipv4 ? v4 : v6, 80))
        }
        (web, evil) = (addresses[0], addresses[1])
        try node.apply(changes)
        #expect(try attacker.flow(.tcp, to: evil).names == [evil.description])
    }

    func expectVictimIsServed(_ count: Int, sourceLocation: SourceLocation = #_sourceLocation) throws {
        let result = try victim.flow(.tcp, to: web, count: count, timeoutMs: 5000, from: claimed)
        #expect(result.names == [web.description] && result.failed == 0, "\(result)", sourceLocation: sourceLocation)
    }

    /// As by a CNI plugin that lets no pod send with another's address: what the attacker sends gets nowhere.
    func dropForgedPackets() throws {
        let script = """
            for family in -4 -6; do
                gateway=$(ip $family route show default | cut -d ' ' -f 3)
                ip neighbour replace $gateway lladdr 02:00:00:00:00:01 dev eth0 nud permanent
            done
            """
        _ = try attacker.run(["sh", "-ec", script])
    }

    func playTheProxy() throws {
        // Nor does it take the victim's place on the bridge.
        _ = try attacker.run(["sh", "-ec", "echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore"])
        for address in [proxy.address, claimed.address] { try changeLoopback("add", address) }
        try attacker.listen(.tcp, proxy, name: "staged")
    }
    func stopPlayingTheProxy() throws {
        for address in [proxy.address, claimed.address] { try changeLoopback("delete", address) }
    }
    private func changeLoopback(_ verb: String, _ address: IPAddress) throws {
        let prefix = "\(address)/\(address.isIPv4 ? 32 : 128)"
        _ = try attacker.run(["ip", "address", verb, prefix, "dev", "lo"])
    }

    func counter(_ name: String) throws -> UInt64 { try #require(try node.dataplanes[0].counters()[name]) }
    func waiting() throws -> Int {
        try #require(try node.dataplanes[0].capacity().first { $0.name == "proxy_clients" }).entries
    }
}
