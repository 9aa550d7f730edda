/// Endpoints are addresses that tenants choose: the proxy never connects to itself, to the agent or to loopback.
import Addressing
import RouteIR
import TestSupport
import Testing

@testable import Proxy

@Suite struct TargetGuardTests {
    private let table = RoutingTable(ProxySnapshot(node: ProxyNode(name: "node-1")))

    @Test(arguments: [
        "127.0.0.1", "127.255.0.1", "::1", "169.254.169.254", "fe80::1", "224.0.0.1", "ff02::1", "0.0.0.0",
    ])
    func addressesThatEveryNodeHasForItself(text: String) throws {
        let target = SocketAddress(try #require(IPAddress(text)), 8080)
        #expect(TargetGuard().refusal(of: target, in: table)?.contains("loopback, link-local or multicast") == true)
    }

    /// The kernel says which addresses are the node's: loopback ones always are, those for documentation never.
    @Test func portsOfHeddleAreRefusedOnThisNodeOnly() throws {
        var targets = TargetGuard(ports: [15001])
        targets.allowsLoopback = true
        for text in ["127.0.0.1", "127.3.2.1", "::1"] {
            let address = try #require(IPAddress(text))
            #expect(targets.refusal(of: SocketAddress(address, 15001), in: table)?.contains("Heddle's own") == true)
            #expect(targets.refusal(of: SocketAddress(address, 8080), in: table) == nil)
        }
        for text in ["192.0.2.1", "2001:db8::1"] {
            let address = try #require(IPAddress(text))
            #expect(targets.refusal(of: SocketAddress(address, 15001), in: table) == nil)
        }
    }

    /// As an endpoint, as the target of a mirror, over HTTP/1 and HTTP/2.
    @Test(arguments: Upstream.Wire.allCases) func whatIsRefusedIsNotConnectedTo(wire: Upstream.Wire)
        async throws
    {
        let (secret, backend) = (try TestBackend("secret"), try TestBackend("one"))
        defer {
            secret.stop()
            backend.stop()
        }
        var options = EngineOptions()
        options.targets.ports = [secret.address.port]
        var own = upstream("own", [secret])
        own.wire = wire
        let upstreams = [own, upstream("cart", [backend])]
        try await ProxyRig.with([rule(to: [("own", 1)])], upstreams, options: options) { rig in
            for _ in 0..<3 {
                let status = try rig.get("/").status
                #expect(status == 503)
            }
            try eventually("the record") {
                rig.log.records.last?.failure?.contains("Heddle's own on this node") == true
            }
            let mirror = Mirror(.upstream(upstreamID("own")))
            rig.configure([rule(to: [("cart", 1)], filters: [.mirror(mirror)])], upstreams)
            for _ in 0..<3 {
                let status = try rig.get("/").status
                #expect(status == 200)
            }
            #expect(secret.connections == 0 && backend.requests.count == 3)
        }
    }

    @Test func aRequestNeverComesBack() async throws {
        try await ProxyRig.with(nil, []) { rig in
            rig.configure(nil, [Upstream(id: upstreamID("cart"), endpoints: [Endpoint(rig.address)])])
            let status = try rig.get("/").status
            #expect(status == 503)
            #expect(rig.engine.stats.requests == 1)
        }
    }
}
