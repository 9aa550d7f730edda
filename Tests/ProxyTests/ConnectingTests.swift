/// Connections to endpoints while they are made: they are for requests, and end with them.
import Addressing
import Glibc
import RouteIR
import TestSupport
import Testing

@testable import Proxy

@Suite(.serialized) struct ConnectingTests {
    /// Answers no SYN: the one place it has for connections is taken.
    private final class Unreachable {
        let address: SocketAddress
        private let descriptor: Int32
        private let first: TestClient

        init() throws {
            (descriptor, address) = try TestSupport.listen(at: SocketAddress(IPAddress(v4: 0x7f00_0001), 0))
            guard Glibc.listen(descriptor, 0) == 0 else { throw TestFailure.errno("listen") }
            first = try TestClient(address)
        }
        deinit { close(descriptor) }

        /// Sockets of this process that wait for it.
        var waiting: Int {
            let port = String(address.port, radix: 16, uppercase: true)
            let target = "0100007F:" + String(repeating: "0", count: 4 - port.count) + port
            return readText("/proc/self/net/tcp").split(separator: "\n").count { line in
                let fields = line.split(separator: " ")
                // SYN_SENT
                return fields.count > 3 && fields[2] == target && fields[3] == "02"
            }
        }
        func upstream(_ wire: Upstream.Wire) -> Upstream {
            var upstream = Upstream(id: upstreamID("cart"), wire: wire, endpoints: [Endpoint(address)])
            upstream.policy.connectTimeout = .seconds(600)
            return upstream
        }
    }

    @Test(arguments: [(Upstream.Wire.http1, 40), (.h2c, 1)])
    func endWithTheRequestsTheyAreFor(_ wire: Upstream.Wire, _ sockets: Int) async throws {
        let endpoint = try Unreachable()
        try await ProxyRig.with(nil, [endpoint.upstream(wire)]) { rig in
            var clients: [TestClient] = []
            for _ in 0..<40 {
                clients.append(try rig.connect())
                clients.last?.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            }
            try eventually("all are under way") { rig.engine.stats.active == 40 }
            #expect(endpoint.waiting == sockets)
            for client in clients.dropFirst() { client.reset() }
            try eventually("one is left") { rig.engine.stats.active == 1 }
            #expect(endpoint.waiting == 1)
            clients[0].reset()
            try eventually("nothing is left") { rig.engine.stats.active == 0 && endpoint.waiting == 0 }
        }
    }

    /// A try that took too long ends, and so does its connection; the next one is not taken for it.
    @Test(arguments: [Upstream.Wire.http1, .h2c]) func endWithTheTriesTheyAreFor(_ wire: Upstream.Wire) async throws {
        let endpoint = try Unreachable()
        let impatient = rule(to: [("cart", 1)]) {
            $0.timeouts.backendRequest = .milliseconds(50)
            $0.retry = RetryPolicy(attempts: 2, codes: [504], backoff: .milliseconds(1))
        }
        try await ProxyRig.with([impatient], [endpoint.upstream(wire)]) { rig in
            #expect(try rig.get("/").status == 504)
            #expect(endpoint.waiting == 0)
            try eventually("the record") { rig.log.records.count == 1 }
            #expect(rig.log.records.first?.flags.contains(.upstreamTimeout) == true)
        }
    }

    /// Who waits for a place gets that of a connection that was given up.
    @Test(arguments: [Upstream.Wire.http1, .h2c]) func leaveTheirPlaceToOthers(_ wire: Upstream.Wire) async throws {
        let endpoint = try Unreachable()
        var upstream = endpoint.upstream(wire)
        upstream.policy.maxConnections = 1
        try await ProxyRig.with(nil, [upstream]) { rig in
            let clients = try (0..<3).map { _ in try rig.connect() }
            for client in clients { client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n") }
            try eventually("all are under way") { rig.engine.stats.active == 3 }
            for (number, client) in clients.enumerated() {
                #expect(endpoint.waiting == 1)
                client.reset()
                try eventually("the next one") { rig.engine.stats.active == 2 - number }
            }
            try eventually("nothing is left") { endpoint.waiting == 0 }
        }
    }
}
