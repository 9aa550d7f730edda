/// An API server with what the chart makes for the certificate authority, replicas at it, and a clock of their own.
import FakeAPIServer
import FoundationEssentials
import Glibc
import KubernetesClient
import Signing
import Synchronization
import TestSupport
import Testing

@testable import Controller
@testable import KubernetesClient

final class AuthorityCluster: Sendable {
    static let folder = "/api/v1/namespaces/kube-system/"
    let server: FakeAPIServer
    private let access: ClusterAccess
    private let clock: Mutex<Int>
    var now: Int { clock.withLock { $0 } }
    func pass(_ seconds: Int) { clock.withLock { $0 += seconds } }

    init(rights: String = renderedChart) async throws {
        server = try await FakeAPIServer()
        try server.enforce(rbac: rights)
        server.know(.serviceAccount("kube-system", "heddle-controller"), by: "controller")
        server.store(Self.folder + "secrets/heddle-ca", #"{"type":"Opaque"}"#)
        server.store(Self.folder + "configmaps/heddle-ca-root", #"{"kind":"ConfigMap"}"#)
        let directory = try TemporaryDirectory()
        try writeText(server.kubeconfig(token: "controller"), to: directory.path + "/kubeconfig")
        access = try ClusterAccess.kubeconfig(path: directory.path + "/kubeconfig")
        clock = Mutex(Glibc.time(nil))
    }

    /// Runs one replica that leads, or not, until the body ends; then it is killed in whatever it does.
    func replica(leads: Bool = true, absence: Int = 0, _ body: (AuthorityKeeper) async throws -> Void) async throws {
        let (writer, leadership) = (ObjectWriter(access: access, program: "test"), Leadership())
        defer { writer.shutdown() }
        if leads { leadership.set(.zero ..< .seconds(1000)) }
        var timing = AuthorityKeeper.Timing()
        timing.reading = .milliseconds(5)
        timing.absence = absence
        let keeper = AuthorityKeeper(
            writer, leadership, namespace: "kube-system", timing: timing, leader: { "a" }, now: { self.now })
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await keeper.run { _ in } }
            defer { group.cancelAll() }
            try await body(keeper)
        }
    }
    /// Until a replica has looked at everything again, whatever it saw first.
    func looks() async throws {
        let start = server.requests.count
        try await soon("it looks again") { server.requests.count > start + 12 }
    }

    func data(_ path: String) -> [String: String] {
        struct Kept: Decodable { var data: [String: String]? }
        let text = server.stored(Self.folder + path) ?? "{}"
        return (try? JSONDecoder().decode(Kept.self, from: Data(text.utf8)))?.data ?? [:]
    }
    var secret: [String: String] { data("secrets/heddle-ca") }
    var roots: String { data("configmaps/heddle-ca-root")["root-cert.pem"] ?? "" }
    var published: [String] { ((try? certificates(inPEM: roots)) ?? []).map(\.fingerprint) }
    var secretWrites: Int { server.writes.count { $0.path.contains("secrets/heddle-ca") && $0.status == 200 } }

    func store(_ name: String, _ data: [String: String]) {
        let members = data.sorted { $0.key < $1.key }.map { "\"\($0.key)\":\"\($0.value)\"" }
        server.store(Self.folder + "secrets/\(name)", #"{"type":"Opaque","data":{\#(members.joined(separator: ","))}}"#)
    }
    /// As Istio's users make it; returns what it signs with.
    func storeCacerts(_ name: String) throws -> Authority {
        let root = try Authority.root(name: name, notBefore: now, notAfter: now + 400 * 86_400)
        let authority = try root.intermediate(name: "\(name) here", notBefore: now, notAfter: now + 300 * 86_400)
        let texts = [
            "ca-cert.pem": authority.facts.pem, "ca-key.pem": String(decoding: authority.key.pem, as: UTF8.self),
            "cert-chain.pem": authority.chain.joined(), "root-cert.pem": root.facts.pem,
        ]
        store("cacerts", texts.mapValues { Data($0.utf8).base64EncodedString() })
        return authority
    }
    func end() async { await server.stop() }
}

extension Signer {
    /// As everybody who read these roots sees a leaf of it; nil: believed.
    func problem(of leaf: String, _ roots: String, at now: Int) -> String? {
        verify(chain: [leaf] + chain, roots: roots, at: now)
    }
    func leaf(at now: Int) throws -> String {
        try authority.issueServer(names: ["a"], key: .generate(), notBefore: now, notAfter: #require(leafEnd(now: now)))
    }
}
