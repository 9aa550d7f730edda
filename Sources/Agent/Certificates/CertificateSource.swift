/// Whom the agent has certificates signed by.
import AuthorityClient
import CertificateAuthority
import Daemon
import Glibc
import Posix
import Signing

protocol CertificateSource: Sendable {
    /// What is believed, in PEM.
    func roots() throws(CertificateFault) -> [String]
    /// In PEM, the leaf first.
    func certificate(csr: String, for identity: WorkloadIdentity) async throws(CertificateFault) -> [String]
}

enum CertificateSources {
    /// nil: no certificates are made on this node.
    static func open(_ configuration: AgentConfiguration) throws(StartupError) -> (any CertificateSource)? {
        let life = Int(configuration.certificateLife.components.seconds)
        return switch configuration.authority {
        case .off: nil
        case .controller: RemoteAuthority(ownController, configuration, life: life)
        case .address(let address): RemoteAuthority(address, configuration, life: life)
        case .directory(let path): try DirectoryAuthority(path, life: life)
        }
    }

    /// In the namespace of the agent's own pod.
    private static var ownController: String {
        let namespace = readSmallFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace") ?? "kube-system"
        return "heddle-controller.\(namespace).svc:15012"
    }
}

/// Whoever speaks Istio's protocol: our controller, istiod, istio-csr.
private struct RemoteAuthority: CertificateSource {
    private let call: AuthorityCall
    private let tokenFile: String
    private let rootsFile: String
    private let life: Int

    init(_ address: String, _ configuration: AgentConfiguration, life: Int) {
        call = AuthorityCall(address)
        (tokenFile, rootsFile) = (configuration.authorityTokenFile, configuration.authorityRootsFile)
        self.life = life
    }

    func roots() throws(CertificateFault) -> [String] {
        [try credential(in: rootsFile, remedy: "; pass another --ca-roots-file")]
    }

    func certificate(csr: String, for identity: WorkloadIdentity) async throws(CertificateFault) -> [String] {
        let token = try credential(in: tokenFile, remedy: "; pass another --ca-token-file")
        return try await call.certificate(
            csr: csr, token: token, roots: roots().joined(), life: life, identity: identity)
    }
}
