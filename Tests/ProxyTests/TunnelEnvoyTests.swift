// Envoy as the other node: its clients reach our pods, and our pods its. scripts/check-peers gets one and runs this.
import Addressing
import CertificateAuthority
import Glibc
import HTTP2TestSupport
import Posix
import RouteIR
import Signing
import TestSupport
import Testing

@testable import Proxy

private let envoy = getenv("HEDDLE_ENVOY").map { String(cString: $0) } ?? ""

@Suite(.enabled(if: !envoy.isEmpty, "HEDDLE_ENVOY is no path of an Envoy: scripts/check-peers has one"), .serialized)
struct TunnelEnvoyTests {
    private let directory: TemporaryDirectory
    private let authority: TestAuthority
    private let stranger: TestAuthority

    init() throws {
        directory = try TemporaryDirectory()
        (authority, stranger) = (try TestAuthority(), try TestAuthority("another"))
        let ended = TestAuthority.now - 60
        for account in ["client", "server", "other"] { try keep(authority.texts(account), as: account) }
        for account in ["client", "server"] {
            try keep(stranger.texts(account), as: "evil-" + account)
            try keep(authority.texts(account, from: ended - 7200, until: ended), as: "late-" + account)
        }
        try keep(authority.texts("client", domain: "other.example"), as: "alien-client")
        try writeText(authority.authority.chain.joined(), to: path("root.pem"))
        try writeText((authority.authority.chain + stranger.authority.chain).joined(), to: path("roots.pem"))
    }

    private func path(_ name: String) -> String { "\(directory.path)/\(name)" }
    private func keep(_ texts: (chain: String, key: String), as name: String) throws {
        try writeText(texts.chain, to: path(name + ".pem"))
        try writeText(texts.key, to: path(name + ".key"))
    }
    private func pod(_ serve: @escaping @Sendable (Int32) -> Void) throws -> TestListener {
        let listener = try TestListener(at: Addressing.SocketAddress(serverPod, 0))
        try listener.start { descriptor, _ in serve(descriptor) }
        return listener
    }
    /// Its answer comes when all was said.
    private func counter() throws -> TestListener {
        try pod { descriptor in
            var buffer: [UInt8] = []
            while readMore(descriptor, &buffer) {}
            deliver(descriptor, "\(buffer.count)")
        }
    }
    private func calls() throws -> HTTP2TestBackend {
        try HTTP2TestBackend("one", at: Addressing.SocketAddress(serverPod, 0)) { request in
            .reply(
                200, [("content-type", "application/grpc")], body: GRPCTests.message("\(request.body.count)"),
                trailers: [("grpc-status", "7")])
        }
    }
    private func expectAnswers(_ client: HTTP2TestClient) throws {
        for size in [1, 100] {
            let body = GRPCTests.message(String(repeating: "x", count: size))
            let answer = try client.ask("/shop.Cart/Get", method: "POST", GRPCTests.headers, body: body)
            #expect(answer.text == GRPCTests.message("\(size + 5)") && answer.trailer("grpc-status") == "7")
        }
    }

    // MARK: Envoy's client, our server

    @Test func anEnvoyReachesOurPods() async throws {
        let server = try TestBackend("one", at: Addressing.SocketAddress(serverPod, 0)) { request in
            request.header("upgrade") == nil
                ? .reply(200, body: String(repeating: "y", count: request.body.count))
                : .tunnel("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n")
        }
        defer { server.stop() }
        try await TunnelRig.with([]) { rig in
            try rig.trust(authority)
            let tunnels = rig.far.shards[0].options.tunnelPort
            let entrance = try freeAddress(IPAddress(v4: 0x7f00_0001))
            let running = try start(client("client", at: entrance, to: server.address, tunnels: tunnels), entrance)
            defer { running.signal(SIGTERM) }
            let client = try TestClient(entrance)
            let size = 2_000_000
            client.send("POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: \(size)\r\n\r\n")
            client.send(String(repeating: "x", count: size))
            #expect(client.answer()?.body.count == size)
            client.send("GET / HTTP/1.1\r\nHost: cart\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n")
            #expect(client.answer(isHead: true)?.status == 101)
            client.send("ping")
            #expect(client.bytes(4) == "ping")
            client.endOutput()
            #expect(client.rest() == "")
            try eventually("the record") { rig.farLog.flows.contains { $0.received > size && $0.failure == nil } }
            let flow = try #require(rig.farLog.flows.last)
            #expect(flow.sourceIdentity == (try identity("client")) && flow.isTunnelled)
        }
    }

    @Test func callsAndHalvesOfAnEnvoyReachOurPods() async throws {
        let (calls, counter) = (try calls(), try counter())
        defer {
            calls.stop()
            counter.stop()
        }
        try await TunnelRig.with([]) { rig in
            try rig.trust(authority)
            let tunnels = rig.far.shards[0].options.tunnelPort
            for server in [calls.address, counter.address] {
                let entrance = try freeAddress(IPAddress(v4: 0x7f00_0001))
                let running = try start(client("client", at: entrance, to: server, tunnels: tunnels), entrance)
                defer { running.signal(SIGTERM) }
                guard server == counter.address else {
                    try expectAnswers(HTTP2TestClient(entrance))
                    continue
                }
                let client = try TestClient(entrance)
                client.send("hello")
                client.endOutput()
                #expect(client.rest() == "5")
            }
        }
    }

    /// Who looks for somebody else at our pod's address says so to our node.
    @Test func anEnvoyRefusesOurPods() async throws {
        try await TunnelRig.with([]) { rig in
            try rig.trust(authority)
            let tunnels = rig.far.shards[0].options.tunnelPort
            let entrance = try freeAddress(IPAddress(v4: 0x7f00_0001))
            let target = Addressing.SocketAddress(serverPod, 80)
            let settings = client("client", at: entrance, to: target, tunnels: tunnels, expecting: "somebody")
            let running = try start(settings, entrance)
            defer { running.signal(SIGTERM) }
            #expect(try TestClient(entrance).rest() == "")
            try eventually("it is counted") { rig.far.stats.tunnelRefusals[.refusedByPeer] ?? 0 > 0 }
        }
    }

    @Test(arguments: ["evil-client", "late-client", "alien-client", "tls12"])
    func ourPodsRefuse(_ who: String) async throws {
        let server = try TestBackend("one", at: Addressing.SocketAddress(serverPod, 0))
        defer { server.stop() }
        try await TunnelRig.with([]) { rig in
            try rig.trust(authority)
            let tunnels = rig.far.shards[0].options.tunnelPort
            let entrance = try freeAddress(IPAddress(v4: 0x7f00_0001))
            let settings = client(
                who == "tls12" ? "client" : who, at: entrance, to: server.address, tunnels: tunnels,
                version: who == "tls12" ? "TLSv1_2" : "TLSv1_3")
            let running = try start(settings, entrance)
            defer { running.signal(SIGTERM) }
            let client = try TestClient(entrance)
            client.send("GET / HTTP/1.1\r\nHost: cart\r\n\r\n")
            #expect(client.rest() == "" && server.requests.isEmpty)
            let kinds: [String: TunnelRefusal.Kind] = [
                "evil-client": .unknownRoot, "late-client": .expired, "alien-client": .wrongIdentity,
            ]
            let kind = kinds[who] ?? .handshake
            #expect(rig.far.stats.tunnelRefusals[kind] ?? 0 > 0, "\(rig.far.stats.tunnelRefusals)")
        }
    }

    // MARK: Our client, Envoy's server

    @Test func ourPodsReachAnEnvoy() async throws {
        let server = try TestBackend("one", at: Addressing.SocketAddress(serverPod, 0)) { request in
            request.header("upgrade") == nil
                ? .reply(200, body: String(repeating: "y", count: request.body.count))
                : .tunnel("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n")
        }
        defer { server.stop() }
        let tunnels = try freeAddress(serverPod)
        let running = try start(serving("server", at: tunnels), tunnels)
        defer { running.signal(SIGTERM) }
        for kind in [RoutedProtocol.tcp, .http1] {
            let rig = try await TunnelRig([server.address], clientProtocol: kind, tunnelPort: tunnels.port)
            try rig.trust(authority)
            let client = try rig.connect()
            let size = 2_000_000
            for _ in 1...2 {
                client.send("POST / HTTP/1.1\r\nHost: cart\r\nContent-Length: \(size)\r\n\r\n")
                client.send(String(repeating: "x", count: size))
                #expect(client.answer()?.body.count == size)
            }
            client.send("GET / HTTP/1.1\r\nHost: cart\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n")
            #expect(client.answer(isHead: true)?.status == 101)
            client.send("ping")
            #expect(client.bytes(4) == "ping")
            client.endOutput()
            #expect(client.rest() == "")
            #expect(rig.tunnels == 1)
            await rig.end()
        }
    }

    @Test func callsAndHalvesOfOurPodsReachAnEnvoy() async throws {
        let (calls, counter) = (try calls(), try counter())
        let tunnels = try freeAddress(serverPod)
        let running = try start(serving("server", at: tunnels), tunnels)
        defer {
            running.signal(SIGTERM)
            calls.stop()
            counter.stop()
        }
        for kind in [RoutedProtocol.tcp, .grpc] {
            let rig = try await TunnelRig(
                [calls.address], clientProtocol: kind, wire: .h2c, tunnelPort: tunnels.port)
            try rig.trust(authority)
            try expectAnswers(HTTP2TestClient(rig.address, from: clientPod))
            #expect(rig.tunnels == 1)
            await rig.end()
        }
        let rig = try await TunnelRig([counter.address], tunnelPort: tunnels.port)
        try rig.trust(authority)
        let client = try rig.connect()
        client.send("hello")
        client.endOutput()
        #expect(client.rest() == "5")
        await rig.end()
    }

    /// Which refuses a name that is not of its mesh.
    @Test func anEnvoyRefusesOurClients() async throws {
        let tunnels = try freeAddress(serverPod)
        let running = try start(serving("server", at: tunnels, to: "spiffe://other.example/"), tunnels)
        defer { running.signal(SIGTERM) }
        let rig = try await TunnelRig([Addressing.SocketAddress(serverPod, 80)], tunnelPort: tunnels.port)
        try rig.trust(authority)
        let client = try rig.connect()
        client.send("hello")
        #expect(client.rest() == "")
        try eventually("the reason") { rig.nearLog.flows.first?.failure != nil }
        let reason = rig.nearLog.flows.first?.failure ?? ""
        #expect(reason.contains("refuses our certificate"), "\(reason)")
        #expect(rig.near.stats.tunnelRefusals[.refusedByPeer] ?? 0 > 0, "\(rig.near.stats.tunnelRefusals)")
        await rig.end()
    }

    @Test(arguments: ["other", "evil-server", "late-server", "tls12"])
    func ourPodsRefuseTheServer(_ who: String) async throws {
        let server = try TestBackend("one", at: Addressing.SocketAddress(serverPod, 0))
        defer { server.stop() }
        let tunnels = try freeAddress(serverPod)
        let settings = serving(
            who == "tls12" ? "server" : who, at: tunnels, version: who == "tls12" ? "TLSv1_2" : "TLSv1_3")
        let running = try start(settings, tunnels)
        defer { running.signal(SIGTERM) }
        let rig = try await TunnelRig([server.address], tunnelPort: tunnels.port)
        try rig.trust(authority)
        let client = try rig.connect()
        client.send("hello")
        #expect(client.rest() == "" && server.requests.isEmpty)
        try eventually("the reason") { rig.nearLog.flows.first?.failure != nil }
        let reason = rig.nearLog.flows.first?.failure ?? ""
        let wanted = [
            "other": "sa/other answers where", "evil-server": "leads to no root", "late-server": "ended",
            "tls12": "does not speak TLS 1.3",
        ]
        #expect(reason.contains(wanted[who] ?? "?"), "\(reason)")
        await rig.end()
    }

    // MARK: Envoy

    private func freeAddress(_ address: IPAddress) throws -> Addressing.SocketAddress {
        let (descriptor, found) = try listen(at: Addressing.SocketAddress(address, 0))
        close(descriptor)
        return found
    }

    private func start(_ settings: String, _ address: Addressing.SocketAddress) throws -> ChildProcess {
        try writeText(settings, to: path("envoy.json"))
        try writeText("", to: path("envoy.log"))
        let log = open(path("envoy.log"), O_WRONLY | O_APPEND | O_CLOEXEC)
        defer { close(log) }
        let child = try ChildProcess(
            [
                envoy, "-c", path("envoy.json"), "--concurrency", "1", "--disable-hot-restart", "--log-level",
                "warning",
            ], descriptors: [log, log, log])
        try eventually("Envoy listens: \(readText(path("envoy.log")))") {
            guard child.isRunning else { throw TestFailure("it ended: \(readText(path("envoy.log")))") }
            _ = try TestClient(address)
            return true
        }
        return child
    }

    private let types = "\"@type\": \"type.googleapis.com/envoy.extensions"

    private func tls(_ name: String, roots: String, match: String, isServer: Bool, _ version: String) -> String {
        let context = isServer ? "DownstreamTlsContext\", \"require_client_certificate\": true" : "UpstreamTlsContext\""
        return """
            "transport_socket": {"name": "tls", "typed_config": {
             \(types).transport_sockets.tls.v3.\(context), "common_tls_context": {"alpn_protocols": ["h2"],
              "tls_params": {"tls_minimum_protocol_version": "\(version)",
               "tls_maximum_protocol_version": "\(version)"},
              "tls_certificates": [{"certificate_chain": {"filename": "\(path(name + ".pem"))"},
               "private_key": {"filename": "\(path(name + ".key"))"}}],
              "validation_context": {"trusted_ca": {"filename": "\(path(roots))"},
               "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {\(match)}}]}}}}
            """
    }

    private func client(
        _ name: String, at entrance: Addressing.SocketAddress, to target: Addressing.SocketAddress, tunnels: UInt16,
        version: String = "TLSv1_3", expecting account: String = "server"
    ) -> String {
        let match = "\"exact\": \"spiffe://cluster.local/ns/shop/sa/\(account)\""
        return """
            {"static_resources": {"listeners": [{"name": "in", "address": \(address(entrance)), "filter_chains": [
             {"filters": [{"name": "tcp", "typed_config": {\(types).filters.network.tcp_proxy.v3.TcpProxy",
              "stat_prefix": "in", "cluster": "hbone", "tunneling_config": {"hostname": "\(target)"}}}]}]}],
             "clusters": [{"name": "hbone", "type": "STATIC", "connect_timeout": "5s",
              "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
               \(types).upstreams.http.v3.HttpProtocolOptions",
               "explicit_http_config": {"http2_protocol_options": {"allow_connect": true}}}},
              \(tls(name, roots: "roots.pem", match: match, isServer: false, version)),
              "load_assignment": {"cluster_name": "hbone", "endpoints": [{"lb_endpoints": [
               {"endpoint": {"address": \(address(Addressing.SocketAddress(target.address, tunnels)))}}]}]}}]}}
            """
    }

    private func serving(
        _ name: String, at tunnels: Addressing.SocketAddress, version: String = "TLSv1_3",
        to clients: String = "spiffe://cluster.local/"
    ) -> String {
        let match = "\"prefix\": \"\(clients)\""
        return """
            {"static_resources": {"listeners": [{"name": "hbone", "address": \(address(tunnels)), "filter_chains": [{
             \(tls(name, roots: "roots.pem", match: match, isServer: true, version)),
             "filters": [{"name": "http", "typed_config": {
              \(types).filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "hbone",
              "codec_type": "HTTP2", "http2_protocol_options": {"allow_connect": true}, "stream_idle_timeout": "0s",
              "upgrade_configs": [{"upgrade_type": "CONNECT"}],
              "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{
               "match": {"connect_matcher": {}}, "route": {"cluster": "authority", "timeout": "0s",
                "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}]}]},
              "http_filters": [{"name": "router", "typed_config": {\(types).filters.http.router.v3.Router"}}]}}]}]}],
             "clusters": [{"name": "authority", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED",
              "original_dst_lb_config": {"use_http_header": true, "http_header_name": ":authority"},
              "connect_timeout": "5s"}]}}
            """
    }

    private func address(_ address: Addressing.SocketAddress) -> String {
        "{\"socket_address\": {\"address\": \"\(address.address)\", \"port_value\": \(address.port)}}"
    }
}
