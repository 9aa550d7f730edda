// An Envoy that shows a leaf of ours and knows its peers by their SPIFFE names; its clients are openssl and itself.
// scripts/check-peers gets one and runs this.
import CertificateAuthority
import Glibc
import Signing
import TestSupport
import Testing

private let envoy = getenv("HEDDLE_ENVOY").map { String(cString: $0) } ?? ""

@Suite(
    .enabled(if: !envoy.isEmpty && hasOpenSSL, "HEDDLE_ENVOY is no path of an Envoy: scripts/check-peers has one"))
struct EnvoyTests {
    let shelf: Shelf
    let now = time(nil)

    init() throws { shelf = try Shelf() }

    @Test(arguments: [true, false]) func envoyBelievesTheNamesOfOurLeaves(_ isOwn: Bool) throws {
        let authority = try isOwn ? own() : others()
        try shelf.write(authority.chain.last ?? "", to: "root.pem")
        for account in ["server", "reader", "writer"] { try keep(account, of: authority) }
        let stranger = try Authority.root(name: "another", notBefore: now, notAfter: now + day)
        try keep("reader", of: stranger, as: "stranger")
        let running = try start()
        defer { running.signal(SIGTERM) }

        // Straight to it, with what a client of openssl checks of the server's chain.
        #expect(try ask("reader").contains("x-peer: spiffe://cluster.local/ns/shop/sa/reader"))
        #expect(try ask("reader").contains("x-own: spiffe://cluster.local/ns/shop/sa/server"))
        for client in ["writer", "stranger"] { #expect(try !ask(client).contains("HTTP/1.1 200")) }
        // Through an Envoy that is the client, and asks for the name of the server.
        #expect(try ask(through: "good").contains("x-peer: spiffe://cluster.local/ns/shop/sa/reader"))
        for way in ["wrong-client", "wrong-server"] { #expect(try ask(through: way).contains("HTTP/1.1 503")) }
    }

    private func own() throws -> Authority {
        try Authority.root(name: "root", notBefore: now, notAfter: now + 2 * day)
            .intermediate(name: "intermediate", notBefore: now, notAfter: now + 2 * day)
    }

    private func others() throws -> Authority {
        try shelf.openssl("req -x509 -nodes -newkey rsa:2048 -keyout ca-key.pem. -subj /CN=cacerts -out ca-cert.pem.")
        let key = try SigningKey(pem: Array(shelf.read("ca-key.pem").utf8))
        return try Authority(certificate: shelf.read("ca-cert.pem"), key: key, above: [])
    }

    private func keep(_ account: String, of authority: Authority, as name: String? = nil) throws {
        let key = SigningKey.generate()
        let identity = try #require(WorkloadIdentity("spiffe://cluster.local/ns/shop/sa/\(account)"))
        let request = try SigningRequest(pem: key.request(uris: [identity.description]))
        let leaf = try authority.issue(request, to: identity, notBefore: now, notAfter: now + day)
        let name = name ?? account
        try shelf.write(([leaf.pem] + authority.chain).joined(), to: name + ".pem")
        try shelf.write(String(decoding: key.pem, as: UTF8.self), to: name + ".key")
    }

    private func ask(_ client: String) throws -> String {
        let request = "GET / HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n"
        let line =
            "s_client -unix mesh.sock. -CAfile root.pem. -no-CApath -no-CAstore -verify_return_error -quiet "
            + "-cert \(client).pem. -cert_chain \(client).pem. -key \(client).key."
        do { return try shelf.openssl(line, input: request) } catch { return "\(error)" }
    }

    private func ask(through way: String) throws -> String {
        try run(["curl", "--silent", "--include", "--unix-socket", shelf.path(way + ".sock"), "http://server/"])
    }

    private func start() throws -> ChildProcess {
        let listeners = [
            listener(
                "mesh", "\"direct_response\": {\"status\": 200}", tls: tls("server", peer: "reader", isServer: true)),
            listener("good", "\"route\": {\"cluster\": \"good\"}"),
            listener("wrong-client", "\"route\": {\"cluster\": \"wrong-client\"}"),
            listener("wrong-server", "\"route\": {\"cluster\": \"wrong-server\"}"),
        ]
        let clusters = [
            cluster("good", tls("reader", peer: "server", isServer: false)),
            cluster("wrong-client", tls("writer", peer: "server", isServer: false)),
            cluster("wrong-server", tls("reader", peer: "writer", isServer: false)),
        ]
        let configuration = try shelf.write(
            """
            {"static_resources": {"listeners": [\(listeners.joined(separator: ", "))],
             "clusters": [\(clusters.joined(separator: ", "))]}}
            """, to: "envoy.json")
        let log = open(try shelf.write("", to: "envoy.log"), O_WRONLY | O_APPEND | O_CLOEXEC)
        defer { close(log) }
        let child = try ChildProcess(
            [envoy, "-c", configuration, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"],
            descriptors: [log, log, log])
        try eventually("Envoy answers: \(shelf.read("envoy.log"))") {
            guard child.isRunning else { throw TestFailure("it ended: \(shelf.read("envoy.log"))") }
            return try ask(through: "good").contains("HTTP/1.1")
        }
        return child
    }

    private let types = "\"@type\": \"type.googleapis.com/envoy.extensions"

    private func tls(_ name: String, peer: String, isServer: Bool) -> String {
        let context = isServer ? "DownstreamTlsContext\", \"require_client_certificate\": true" : "UpstreamTlsContext\""
        return """
            "transport_socket": {"name": "tls", "typed_config": {
             \(types).transport_sockets.tls.v3.\(context), "common_tls_context": {
              "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
              "tls_certificates": [{"certificate_chain": {"filename": "\(shelf.path(name + ".pem"))"},
               "private_key": {"filename": "\(shelf.path(name + ".key"))"}}],
              "validation_context": {"trusted_ca": {"filename": "\(shelf.path("root.pem"))"},
               "match_typed_subject_alt_names": [{"san_type": "URI",
                "matcher": {"exact": "spiffe://cluster.local/ns/shop/sa/\(peer)"}}]}}}}
            """
    }

    private func cluster(_ name: String, _ tls: String) -> String {
        """
        {"name": "\(name)", "connect_timeout": "5s", \(tls), "load_assignment": {
         "cluster_name": "\(name)", "endpoints": [{"lb_endpoints": [
          {"endpoint": {"address": {"pipe": {"path": "\(shelf.path("mesh.sock"))"}}}}]}]}}
        """
    }

    private func listener(_ name: String, _ action: String, tls: String? = nil) -> String {
        """
        {"name": "\(name)", "address": {"pipe": {"path": "\(shelf.path(name + ".sock"))"}}, "filter_chains": [{
         \(tls.map { $0 + ", " } ?? "")"filters": [{"name": "http", "typed_config": {
          \(types).filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "\(name)",
          "http_filters": [{"name": "router", "typed_config": {\(types).filters.http.router.v3.Router"}}],
          "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{
           "match": {"prefix": "/"}, \(action)}]\(tls == nil ? "" : """
        , "response_headers_to_add": [{"header": {"key": "x-peer", "value": "%DOWNSTREAM_PEER_URI_SAN%"}},
          {"header": {"key": "x-own", "value": "%DOWNSTREAM_LOCAL_URI_SAN%"}}]
        """)}]}}}]}]}
        """
    }
}
