/// What goes with the next request: a header, and what TLS needs. Files are read each time, because requests are rare
/// and tokens and certificates are renewed under us; a plugin runs again shortly before what it gave expires.
import Cluster
import Glibc
import NIOPosix
import NIOSSL
import Posix

actor Credentials {
    struct Current: Sendable {
        var authorization: String?
        /// nil: the server is spoken to without TLS.
        var tls: TLSConfiguration?
        /// Which run of the plugin gave it.
        fileprivate var run = 0
    }
    /// What the TLS configuration was made from.
    private struct Source: Equatable {
        var authority: [UInt8]?
        var certificate: [UInt8]?
        var key: [UInt8]?
    }

    private let access: ClusterAccess
    /// Kept as long as its sources say the same: the connection pool takes an equal one for another server.
    private var tls: (source: Source, configuration: TLSConfiguration)?
    private var plugin: PluginState

    init(_ access: ClusterAccess, backoff: Backoff = Backoff()) {
        self.access = access
        plugin = PluginState(backoff: backoff)
    }

    /// The server did not take it. If an earlier run of the plugin gave it, there is no need to run it again.
    func refused(_ credential: Current) { plugin.refused(run: credential.run) }

    func current() async throws(AccessError) -> Current {
        var result = Current()
        var certificate = access.clientCertificate
        var key = access.clientKey
        switch access.login {
        case .none: break
        case .token(let token): result.authorization = "Bearer \(token)"
        case .tokenFile(let path, let stale?):
            result.authorization = "Bearer \((try? token(in: path)) ?? stale)"
        case .tokenFile(let path, nil):
            result.authorization = "Bearer \(try token(in: path))"
        case .basic(let user, let password):
            result.authorization = "Basic " + encodeBase64(Array("\(user):\(password)".utf8))
        case .plugin(let plugin):
            let credential = try await credential(from: plugin)
            result.run = self.plugin.run
            result.authorization = credential.token.map { "Bearer \($0)" }
            if let bytes = credential.clientCertificate { certificate = .data(bytes) }
            if let bytes = credential.clientKey { key = .data(bytes) }
        }
        if access.server.scheme == "https" { result.tls = try configuration(certificate: certificate, key: key) }
        return result
    }

    private func token(in path: String) throws(AccessError) -> String {
        let token = String(decoding: try read(path), as: UTF8.self).trimmingSpace
        guard !token.isEmpty else { throw AccessError("the token file \(path) is empty") }
        return token
    }

    /// All watches need it at the same moment: one runs the plugin, the others wait for what it gives.
    private func credential(from program: ExecPlugin) async throws(AccessError) -> ExecCredential {
        if let known = plugin.known(now: .now, wallTime: Double(time(nil))) { return try known.get() }
        guard !plugin.isRunning else {
            return try await withCheckedContinuation { plugin.waiters.append($0) }.get()
        }
        plugin.isRunning = true
        // It may take seconds and must not hold up the few threads that async code runs on.
        let result: Result<ExecCredential, AccessError>
        do {
            result = try await NIOThreadPool.singleton.runIfActive {
                Result { () throws(AccessError) in try program.run() }
            }
        } catch {
            result = .failure(AccessError("the credential plugin \(program.command) cannot be run now"))
        }
        for waiter in plugin.ended(result, now: .now) { waiter.resume(returning: result) }
        return try result.get()
    }

    private func configuration(
        certificate: ClusterAccess.Material?, key: ClusterAccess.Material?
    ) throws(AccessError) -> TLSConfiguration {
        let source = Source(
            authority: try bytes(access.certificateAuthority), certificate: try bytes(certificate), key: try bytes(key))
        if let tls, tls.source == source { return tls.configuration }
        var configuration = TLSConfiguration.makeClientConfiguration()
        if access.skipsVerification { configuration.certificateVerification = .none }
        if let authority = source.authority {
            configuration.trustRoots = .certificates(try certificates(authority, "the certificate authority"))
        }
        if let chain = source.certificate, let key = source.key {
            configuration.certificateChain = try certificates(chain, "the client certificate").map { .certificate($0) }
            guard let privateKey = try? NIOSSLPrivateKey(bytes: key, format: .pem) else {
                throw AccessError("the client key is no PEM private key")
            }
            configuration.privateKey = .privateKey(privateKey)
        }
        tls = (source, configuration)
        return configuration
    }

    private func certificates(_ bytes: [UInt8], _ what: String) throws(AccessError) -> [NIOSSLCertificate] {
        guard let certificates = try? NIOSSLCertificate.fromPEMBytes(bytes), !certificates.isEmpty else {
            throw AccessError("\(what) for \(access.serverName) is no PEM certificate")
        }
        return certificates
    }

    private func bytes(_ material: ClusterAccess.Material?) throws(AccessError) -> [UInt8]? {
        switch material {
        case nil: nil
        case .data(let bytes): bytes
        case .file(let path): try read(path)
        }
    }
    private func read(_ path: String) throws(AccessError) -> [UInt8] {
        do throws(PosixError) { return try readFile(path, limit: 1 << 20) } catch {
            throw AccessError(error.description)
        }
    }
}

extension String {
    var trimmingSpace: String {
        let isSpace = { (character: Character) in character.isWhitespace }
        return String(drop(while: isSpace).reversed().drop(while: isSpace).reversed())
    }
}
