// The certificate authority as its clients meet it: the program, TLS, gRPC by a client that is not ours.
import AdminAPI
import FakeAPIServer
import FoundationEssentials
import GRPCCore
import GRPCNIOTransportHTTP2Posix
import Glibc
import Signing
import TestSupport
import Testing

/// Messages as they are.
private struct Raw: MessageSerializer, MessageDeserializer {
    func serialize<Bytes: GRPCContiguousBytes>(_ message: [UInt8]) throws -> Bytes { Bytes(message) }
    func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> [UInt8] {
        bytes.withUnsafeBytes { [UInt8]($0) }
    }
}

private typealias Client = GRPCClient<HTTP2ClientTransport.Posix>

@Suite(.serialized) struct CertificateDoorTests {
    private static let web = "spiffe://cluster.local/ns/shop/sa/web"
    private static let secret = "/api/v1/namespaces/kube-system/secrets/heddle-ca"
    private static let bundle = "/api/v1/namespaces/kube-system/configmaps/heddle-ca-root"

    /// One day of an authority: it makes its keys, whoever may have a certificate gets one that openssl believes,
    /// whoever may not is told why, and nothing secret is written down anywhere.
    @Test func certificatesAreIssuedToThoseWhoMayHaveThem() async throws {
        try await withAuthority { server, controller, root in
            #expect(try controller.agentctl("ca").contains("\nstate             ready\n"))
            try await withClient(controller, root) { client in
                let own = try await Self.ask(
                    client, "web.token", csr: opensslRequest(["subjectAltName=critical,URI:\(Self.web)"]))
                try Self.checkByOpenssl(own, root)
                let csr = try SigningKey.generate().request(uris: [Self.web])
                let other = try await Self.ask(client, "agent.token", csr: csr, impersonating: Self.web)
                #expect(try #require(certificates(inPEM: other[0]).first).uris == [Self.web])

                let far = "spiffe://cluster.local/ns/shop/sa/far"
                await Self.expect(.permissionDenied, client, "agent.token", uri: far, impersonating: far)
                await Self.expect(.permissionDenied, client, "web.token", uri: far)
                await Self.expect(.permissionDenied, client, "unbound.token", uri: Self.web)
                await Self.expect(.unauthenticated, client, "expired.token", uri: Self.web)
                await Self.expect(.unauthenticated, client, "api.token", uri: Self.web)
                await Self.expect(.unauthenticated, client, nil, uri: Self.web)
                await Self.expect(.invalidArgument, client, "web.token", uri: "spiffe://other/ns/shop/sa/web")
                await Self.expect(.unimplemented, client, "web.token", uri: Self.web, method: "Other")
            }
            let report = try controller.report()
            #expect(report.issuedCount == 2 && report.issued.map(\.requester) == ["kube-system/heddle", "shop/web"])
            let counts = [
                "not-on-node": 1, "may-not-impersonate": 1, "not-bound-to-a-pod": 1, "not-authenticated": 2,
                "wrong-audience": 1, "bad-identity": 1,
            ]
            #expect(report.refusedCounts == counts && report.refused.count == 7)
            #expect(try controller.status().authority?.issued == 2)
            try Self.expectNothingSecret(server, controller)
        }
    }

    /// By command, and under load of nobody: the leaf that was issued before is believed all the while.
    @Test func anotherIntermediateSignsWhenAsked() async throws {
        try await withAuthority { server, controller, root in
            let before = try controller.report().keys
            #expect(try controller.agentctl("ca", "renew", "intermediate").contains("is being renewed"))
            try await soon("another signs") {
                let keys = try controller.report().keys
                return keys.intermediate != nil && keys.intermediate != before.intermediate
            }
            #expect(try controller.report().keys.root == before.root)
            let csr = try SigningKey.generate().request(uris: [])
            try await withClient(controller, root) { client in
                try Self.checkByOpenssl(try await Self.ask(client, "web.token", csr: csr), root)
            }
            // Root after root would leave leaves behind that nobody believes: one change at a time.
            _ = try controller.agentctl("ca", "renew", "root")
            try await soon("the next root is published") {
                try controller.report().keys.nextRoot != nil
                    && certificates(inPEM: Self.published(server)).count == 2
            }
            #expect(try controller.report().keys.root == before.root)
        }
    }

    // MARK: Helpers

    private func withAuthority(
        _ body: @escaping (FakeAPIServer, RunningController, String) async throws -> Void
    ) async throws {
        let server = try await FakeAPIServer()
        try server.enforce(rbac: renderedChart)
        server.knowTheCast()
        server.store(Self.secret, #"{"kind":"Secret","apiVersion":"v1","type":"Opaque"}"#)
        server.store(Self.bundle, #"{"kind":"ConfigMap","apiVersion":"v1"}"#)
        server.store(
            "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/heddle-controller",
            #"{"spec":{"holderIdentity":""}}"#)
        let controller = try RunningController("a", server, token: "controller")
        do {
            try await soon("the root is published") { Self.published(server).contains("END CERTIFICATE") }
            try await soon("it is ready") { try controller.report().isReady }
            try await body(server, controller, Self.published(server))
        } catch {
            Issue.record("\(error)\n\(controller.log)")
        }
        try controller.end()
        await server.stop()
    }

    private static func published(_ server: FakeAPIServer) -> String {
        struct Kept: Decodable { var data: [String: String]? }
        let text = server.stored(bundle) ?? "{}"
        return (try? JSONDecoder().decode(Kept.self, from: Data(text.utf8)))?.data?["root-cert.pem"] ?? ""
    }

    private func withClient(
        _ controller: RunningController, _ root: String, _ body: @Sendable @escaping (Client) async throws -> Void
    ) async throws {
        let security = HTTP2ClientTransport.Posix.TransportSecurity.tls {
            $0.trustRoots = .certificates([.bytes(Array(root.utf8), format: .pem)])
        }
        var configuration = HTTP2ClientTransport.Posix.Config.defaults
        configuration.http2.authority = "heddle-controller.kube-system.svc"
        try await withGRPCClient(
            transport: .http2NIOPosix(
                target: .ipv4(address: "127.0.0.1", port: Int(controller.authorityPort)), transportSecurity: security,
                config: configuration)
        ) { client in try await body(client) }
    }

    private static func ask(
        _ client: Client, _ token: String?, csr: String, impersonating identity: String? = nil,
        method: String = "CreateCertificate"
    ) async throws -> [String] {
        var metadata: Metadata = [:]
        if let token { metadata.addString("Bearer \(token)", forKey: "authorization") }
        let descriptor = MethodDescriptor(
            fullyQualifiedService: "istio.v1.auth.IstioCertificateService", method: method)
        let message = certificateRequest(csr: csr, validity: 3600, impersonating: identity)
        return try await client.unary(
            request: ClientRequest(message: message, metadata: metadata), descriptor: descriptor, serializer: Raw(),
            deserializer: Raw(), options: .defaults
        ) { response in chain(in: try response.message) }
    }

    private static func expect(
        _ code: RPCError.Code, _ client: Client, _ token: String?, uri: String, impersonating identity: String? = nil,
        method: String = "CreateCertificate", at place: SourceLocation = #_sourceLocation
    ) async {
        let error = await #expect(throws: RPCError.self, sourceLocation: place) {
            let csr = try SigningKey.generate().request(uris: [uri])
            _ = try await ask(client, token, csr: csr, impersonating: identity, method: method)
        }
        #expect(error?.code == code, "\(error?.message ?? "")", sourceLocation: place)
        #expect(error?.message.isEmpty == false, sourceLocation: place)
    }

    private static func checkByOpenssl(_ chain: [String], _ root: String) throws {
        let folder = try TemporaryDirectory()
        try writeText(chain[0], to: folder.path + "/leaf.pem")
        try writeText(chain[1...].joined(), to: folder.path + "/others.pem")
        try writeText(root, to: folder.path + "/root.pem")
        for purpose in ["sslserver", "sslclient"] {
            let said = try run([
                "openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", folder.path + "/root.pem",
                "-untrusted", folder.path + "/others.pem", folder.path + "/leaf.pem",
            ])
            #expect(said.hasSuffix("leaf.pem: OK\n"))
        }
    }

    /// Neither keys nor tokens: in the log, in what agentctl shows, in the ConfigMap.
    private static func expectNothingSecret(_ server: FakeAPIServer, _ controller: RunningController) throws {
        struct Kept: Decodable { var data: [String: String]? }
        let kept = try JSONDecoder().decode(Kept.self, from: Data((server.stored(secret) ?? "").utf8)).data ?? [:]
        // A core dump would hold them all.
        let limits = readText("/proc/\(controller.process.pid)/limits").split(separator: "\n")
        #expect(limits.first { $0.hasPrefix("Max core file size") }?.split(separator: " ").dropFirst(4).first == "0")
        let keys = kept.filter { $0.key.hasSuffix(".key") }.values
        #expect(keys.count == 2)
        let folder = try TemporaryDirectory()
        let file = folder.path + "/report.tar.gz"
        _ = try run([programDirectory + "/agentctl", "bugreport", "--file", file, "--api-socket", controller.socket])
        let bugReport = try run(["tar", "-xzOf", file])
        #expect(bugReport.contains("Heddle root 1") && bugReport.contains("not-on-node"))
        let told = [
            bugReport, controller.log, try controller.agentctl("ca", "-o", "json"),
            try controller.agentctl("status", "-o", "json"),
            published(server),
        ].joined()
        for key in keys {
            let text = String(decoding: try #require(Data(base64Encoded: key)), as: UTF8.self)
            let lines = text.split(separator: "\n").filter { !$0.hasPrefix("-----") }
            #expect(text.contains("PRIVATE KEY") && !lines.isEmpty)
            #expect(!told.contains(key.prefix(40)) && lines.allSatisfy { !told.contains($0) })
        }
        #expect(!told.contains("PRIVATE KEY"))
        for token in ["agent.token", "web.token", "expired.token"] { #expect(!told.contains(token)) }
        #expect(controller.log.contains(#""audit":"certificates""#))
        #expect(controller.log.contains("refused reason=not-on-node peer="))
    }
}
