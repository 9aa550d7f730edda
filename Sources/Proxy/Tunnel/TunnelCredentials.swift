/// Credentials made ready for TLS, shared by all event loops. A context is made when it is first needed and lives as
/// long as what it was made of: connections of an older one go on, new ones take the newer.
import CertificateAuthority
import NIOCore
import NIOSSL
import Synchronization

final class TunnelCredentials: Sendable {
    /// Of one identity. Its being the same object says that nothing of it has changed.
    final class Context: Sendable {
        let chain: [[UInt8]]
        let tls: NIOSSLContext
        /// DER, as the others.
        let roots: [[UInt8]]

        fileprivate init(_ credential: WorkloadCredential, _ roots: [NIOSSLCertificate], _ bytes: [[UInt8]]) throws {
            chain = credential.chain
            self.roots = bytes
            // One for both sides: only who calls differs.
            var settings = TLSConfiguration.makeServerConfiguration(
                certificateChain: try credential.chain.map {
                    .certificate(try NIOSSLCertificate(bytes: $0, format: .der))
                },
                privateKey: .privateKey(try NIOSSLPrivateKey(bytes: credential.key, format: .der)))
            settings.minimumTLSVersion = .tlsv13
            settings.maximumTLSVersion = .tlsv13
            settings.applicationProtocols = [Tunnel.protocolName]
            // The chain; who may stand at its end is `PeerCheck`'s to say.
            settings.certificateVerification = .noHostnameVerification
            settings.trustRoots = .certificates(roots)
            settings.shutdownTimeout = .seconds(1)
            tls = try NIOSSLContext(configuration: settings)
        }
    }

    private let credentials: WorkloadCredentials
    private struct State {
        var roots: [NIOSSLCertificate]?
        var contexts: [WorkloadIdentity: Context] = [:]
        /// Of peers that were checked against other roots, by their certificates: no more than have tunnels open.
        var leadsToRoot: [[UInt8]: Bool] = [:]
    }
    private let state: Mutex<State>

    /// `old` lends what stays the same.
    init(_ credentials: WorkloadCredentials = WorkloadCredentials(), replacing old: TunnelCredentials? = nil) {
        self.credentials = credentials
        var known = State()
        if let old, old.credentials.roots == credentials.roots {
            known = old.state.withLock { $0 }
            known.contexts = known.contexts.filter { credentials.byIdentity[$0.key]?.chain == $0.value.chain }
        }
        state = Mutex(known)
    }

    /// nil: there is no certificate for it yet.
    func context(for identity: WorkloadIdentity) throws(TunnelRefusal) -> Context? {
        guard let credential = credentials.byIdentity[identity], !credentials.roots.isEmpty else { return nil }
        let result: Result<Context, TunnelRefusal> = state.withLock { state in
            if let context = state.contexts[identity] { return .success(context) }
            do {
                let roots = try state.roots ?? credentials.roots.map { try NIOSSLCertificate(bytes: $0, format: .der) }
                let context = try Context(credential, roots, credentials.roots)
                state.roots = roots
                state.contexts[identity] = context
                return .success(context)
            } catch {
                // Not what NIOSSL says, which may quote what it read.
                return .failure(
                    TunnelRefusal(.identity, "the certificate, key or roots for \(identity) cannot be used by TLS"))
            }
        }
        return try result.get()
    }

    var roots: [[UInt8]] { credentials.roots }

    /// What peers have sent between their certificate and the root is known no more: what our own certificates have
    /// there serves for theirs, who are of one authority with us or not believed.
    func leadsToRoot(_ certificate: NIOSSLCertificate, by lead: EngineOptions.LeadsToRoot) -> Bool {
        guard let bytes = try? certificate.toDERBytes() else { return false }
        return state.withLock { state in
            if let known = state.leadsToRoot[bytes] { return known }
            let between = Set(credentials.byIdentity.values.flatMap { $0.chain.dropFirst() })
            let leads = lead(bytes, Array(between), credentials.roots)
            state.leadsToRoot[bytes] = leads
            return leads
        }
    }
}
