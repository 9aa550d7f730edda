/// What OpenSSL sees at the port of tunnels, and what it is told: a client without Istio's or our own idea of it.
import Addressing
import Signing
import TestSupport
import Testing

@testable import Proxy

private let hasOpenSSL = (try? run(["openssl", "version"])) != nil

@Suite(.enabled(if: hasOpenSSL, "openssl")) struct TunnelOpenSSLTests {
    private let directory: TemporaryDirectory
    private let authority: TestAuthority

    init() throws {
        directory = try TemporaryDirectory()
        authority = try TestAuthority()
        let (stranger, ended) = (try TestAuthority("another"), TestAuthority.now - 60)
        for (name, texts) in [
            "good": try authority.texts("client"), "foreign": try stranger.texts("client"),
            "late": try authority.texts("client", from: ended - 7200, until: ended),
            "alien": try authority.texts("client", domain: "other.example"),
        ] {
            try writeText(texts.chain, to: "\(directory.path)/\(name).pem")
            try writeText(texts.key, to: "\(directory.path)/\(name).key")
        }
        try writeText(authority.authority.chain.joined(), to: "\(directory.path)/root.pem")
    }

    /// What it prints. `stays`: until our side closes the connection, which it does where it refuses.
    private func ask(_ rig: TunnelRig, _ options: String, as name: String? = nil, stays: Bool = true) throws -> String {
        let port = rig.far.shards[0].options.tunnelPort
        let own = name.map { "-cert \($0).pem -key \($0).key" } ?? ""
        let line = "openssl s_client -connect \(serverPod):\(port) -CAfile root.pem \(own) \(options)"
        return try run([
            "sh", "-c", "cd \(directory.path) && \(line) \(stays ? "-ign_eof" : "") < /dev/null 2>&1 || true",
        ])
    }

    @Test func aPeerSeesTLS13AndOurChain() async throws {
        try await TunnelRig.with([]) { rig in
            try rig.trust(authority)
            let strict = "-alpn h2 -x509_strict -verify_return_error -purpose sslserver"
            let seen = try ask(rig, strict, as: "good", stays: false)
            for part in [
                "New, TLSv1.3, Cipher is TLS_AES_", "ALPN protocol: h2", "Verify return code: 0 (ok)",
                "issuer=CN = root", "Peer signature type: ECDSA",
            ] { #expect(seen.contains(part), "\(part) in \(seen)") }
            #expect(rig.far.stats.tunnelRefusals[.unknownRoot] == nil)
        }
    }

    @Test(
        arguments: [
            ("", nil, "alert certificate required", .handshake),
            ("", "foreign", "alert unknown ca", .unknownRoot),
            ("", "late", "alert certificate expired", .expired),
            ("-tls1_2", "good", "alert protocol version", .handshake),
        ] as [(String, String?, String, TunnelRefusal.Kind)])
    func whoIsRefusedIsToldWhy(
        options: String, name: String?, told: String, kind: TunnelRefusal.Kind
    ) async throws {
        try await TunnelRig.with([]) { rig in
            try rig.trust(authority)
            let seen = try ask(rig, "-alpn h2 " + options, as: name)
            #expect(seen.contains(told), "\(seen)")
            try eventually("it is counted") { rig.far.stats.tunnelRefusals[kind] ?? 0 == 1 }
        }
    }

    /// TLS has nothing to say of these: the connection ends.
    @Test(
        arguments: [
            ("-alpn h2", "alien", .wrongIdentity), ("-alpn http/1.1", "good", .handshake), ("", "good", .handshake),
        ]
            as [(String, String, TunnelRefusal.Kind)])
    func whoIsNoPeerIsLeftAlone(options: String, name: String, kind: TunnelRefusal.Kind) async throws {
        try await TunnelRig.with([]) { rig in
            try rig.trust(authority)
            _ = try ask(rig, options, as: name)
            try eventually("it is counted") { rig.far.stats.tunnelRefusals[kind] ?? 0 == 1 }
        }
    }
}
