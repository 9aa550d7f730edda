/// A certificate service with its API server, and a root and an intermediate made for it.
import AdminAPI
import CertificateAuthority
import FakeAPIServer
import Glibc
import KubernetesClient
import Signing
import Synchronization
import Telemetry
import TestSupport

@testable import Controller

struct ServiceRig: Sendable {
    /// Shared with the service.
    private final class Place: Sendable {
        let signer: Mutex<Signer?> = Mutex(nil)
        let audit = Mutex<[String]>([])
    }
    let server: FakeAPIServer
    let pods: PodWatch
    /// In PEM.
    let root: String
    private let service: CertificateService
    private let writer: ObjectWriter
    private let registry = MetricRegistry()
    private let place = Place()

    init() async throws {
        server = try await FakeAPIServer()
        try server.enforce(rbac: renderedChart)
        server.knowTheCast()
        let directory = try TemporaryDirectory()
        try writeText(server.kubeconfig(token: "controller"), to: directory.path + "/kubeconfig")
        let access = try ClusterAccess.kubeconfig(path: directory.path + "/kubeconfig")
        (pods, writer) = (PodWatch(access), ObjectWriter(access: access, program: "test"))
        let now = Glibc.time(nil)
        let top = try Authority.root(name: "test root", notBefore: now, notAfter: now + 200_000)
        let authority = try top.intermediate(name: "test", notBefore: now, notAfter: now + 100_000)
        root = top.facts.pem
        let place = place
        place.signer.withLock { $0 = Signer(authority, life: 86_400) }
        let who = WhoMayAsk(
            trustDomain: "cluster.local", audiences: ControllerAuthority.audiences,
            nodeAccounts: [ServiceAccount(userName: "system:serviceaccount:kube-system:heddle")].reduce(into: []) {
                if let account = $1 { $0.insert(account) }
            })
        service = CertificateService(
            who, pods: pods, reviewer: TokenReviewer(writer: writer, audiences: who.audiences),
            metrics: AuthorityMetrics(registry), signer: { place.signer.withLock { $0 } },
            log: { line in place.audit.withLock { $0.append(line) } })
    }

    func ask(
        csr: String, by token: String?, impersonating identity: String? = nil, validity: Int = 0,
        peer: String = "10.0.0.1"
    ) async -> Result<[UInt8], Refusal> {
        await service.certificate(
            for: certificateRequest(csr: csr, validity: validity, impersonating: identity),
            authorization: token.map { "Bearer \($0)" }, peer: peer)
    }
    /// Of an answer that is given.
    func chain(
        csr: String, by token: String, impersonating identity: String? = nil, validity: Int = 0
    ) async throws -> [String] {
        ControllerTests.chain(
            in: try await ask(csr: csr, by: token, impersonating: identity, validity: validity).get())
    }

    func forgetKeys() { place.signer.withLock { $0 = nil } }
    var audit: [String] { place.audit.withLock { $0 } }
    var metrics: String { registry.render() }
    var report: AuthorityReport {
        var report = AuthorityReport(identity: "test", trustDomain: "cluster.local")
        service.fill(&report)
        return report
    }

    func end() async {
        writer.shutdown()
        await server.stop()
    }
}
