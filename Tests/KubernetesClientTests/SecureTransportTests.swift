/// TLS as clusters use it: a private authority, names that differ from addresses, client certificates, rotation.
import FakeAPIServer
import NIOSSL
import TestSupport
import Testing

@testable import KubernetesClient

@Suite struct SecureTransportTests {
    private func serverTLS(_ certificate: String, _ key: String, wantsClients: Bool = false) throws -> TLSConfiguration
    {
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: try NIOSSLCertificate.fromPEMBytes(Array(certificate.utf8)).map { .certificate($0) },
            privateKey: .privateKey(try NIOSSLPrivateKey(bytes: Array(key.utf8), format: .pem)))
        if wantsClients {
            configuration.certificateVerification = .noHostnameVerification
            configuration.trustRoots = .certificates(
                try NIOSSLCertificate.fromPEMBytes(Array(TestCertificates.authority.utf8)))
        }
        return configuration
    }
    private func follow(
        _ tls: TLSConfiguration, _ change: @Sendable (inout ClusterAccess) -> Void,
        _ body: (FakeAPIServer, Recorder) async throws -> Void
    ) async throws {
        try await withSource(
            tls: tls,
            configure: { configuration in
                configuration.access.certificateAuthority = .data(Array(TestCertificates.authority.utf8))
                change(&configuration.access)
            }, prepare: { $0.fill() }, body)
    }

    @Test("The server is known by its address, by the name it should have, or not at all on request")
    func verifiesServer() async throws {
        let byAddress = try serverTLS(TestCertificates.byAddress, TestCertificates.byAddressKey)
        let byName = try serverTLS(TestCertificates.byName, TestCertificates.byNameKey)
        try await follow(byAddress, { _ in }) { _, recorder in
            try await soon("synced") { recorder.now.synced == 1 }
        }
        try await follow(byName, { $0.tlsServerName = "api.test" }) { _, recorder in
            try await soon("synced") { recorder.now.synced == 1 }
        }
        try await follow(byName, { $0.skipsVerification = true }) { _, recorder in
            try await soon("synced") { recorder.now.synced == 1 }
        }
    }

    @Test("A server that is not who it should be is told of and not listened to")
    func refusesStranger() async throws {
        let byName = try serverTLS(TestCertificates.byName, TestCertificates.byNameKey)
        try await follow(byName, { _ in }) { server, recorder in
            try await soon("told") { recorder.problems.contains { $0.contains("not for 127.0.0.1") } }
            #expect(recorder.services.isEmpty)
            #expect(server.requests.isEmpty)
        }
    }

    @Test("A port that does not speak TLS is told as that")
    func namesPlainPort() async throws {
        let plain: @Sendable (inout KubernetesSource.Configuration) -> Void = { $0.access.server.scheme = "https" }
        try await withSource(configure: plain) { _, recorder in
            try await soon("told") { recorder.problems.contains { $0.contains("does not speak TLS") } }
        }
    }

    @Test("A client certificate proves who we are")
    func showsClientCertificate() async throws {
        let tls = try serverTLS(TestCertificates.byAddress, TestCertificates.byAddressKey, wantsClients: true)
        try await follow(
            tls,
            {
                $0.clientCertificate = .data(Array(TestCertificates.client.utf8))
                $0.clientKey = .data(Array(TestCertificates.clientKey.utf8))
            },
            { _, recorder in try await soon("synced") { recorder.now.synced == 1 } })
        try await follow(tls, { _ in }) { server, recorder in
            try await soon("told") { !recorder.problems.isEmpty }
            #expect(server.requests.isEmpty)
        }
    }

    @Test("An authority's file may be replaced while we run")
    func rotatesAuthority() async throws {
        let directory = try TemporaryDirectory()
        let file = directory.path + "/ca.crt"
        // Not the authority of the server: as after its certificates were replaced and before ours were.
        try writeText(TestCertificates.byName + "\n", to: file)
        let tls = try serverTLS(TestCertificates.byAddress, TestCertificates.byAddressKey)
        try await follow(tls, { $0.certificateAuthority = .file(file) }) { _, recorder in
            try await soon("told") { recorder.problems.contains { $0.contains("certificate authority") } }
            try writeText(TestCertificates.authority + "\n", to: file)
            try await soon("synced") { recorder.now.synced == 1 }
            try await soon("no problems") { recorder.problems.isEmpty }
        }
    }
}
