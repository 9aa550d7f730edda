// Keys of the authority between the Secrets and those who sign: made once, kept by all, changed with overlap.
import AdminAPI
import CertificateAuthority
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

@Suite(.serialized) struct AuthorityKeeperTests {
    private static let folder = "/api/v1/namespaces/mesh/"

    /// An API server with what the chart makes, and replicas at it.
    private final class Cluster: Sendable {
        let server: FakeAPIServer
        private let writer: ObjectWriter
        private let clock: Mutex<Int>
        var now: Int { clock.withLock { $0 } }
        func pass(_ seconds: Int) { clock.withLock { $0 += seconds } }

        init() async throws {
            server = try await FakeAPIServer()
            server.store(folder + "secrets/heddle-ca", #"{"type":"Opaque"}"#)
            server.store(folder + "configmaps/heddle-ca-root", #"{"kind":"ConfigMap"}"#)
            let directory = try TemporaryDirectory()
            try writeText(server.kubeconfig(), to: directory.path + "/kubeconfig")
            writer = ObjectWriter(
                access: try ClusterAccess.kubeconfig(path: directory.path + "/kubeconfig"), program: "test")
            clock = Mutex(Glibc.time(nil))
        }
        func replica(leads: Bool) -> AuthorityKeeper {
            let leadership = Leadership()
            if leads { leadership.set(.zero ..< .seconds(1000)) }
            var timing = AuthorityKeeper.Timing()
            timing.reading = .milliseconds(20)
            timing.absence = 0
            return AuthorityKeeper(
                writer, leadership, namespace: "mesh", timing: timing, leader: { "a" }, now: { self.now })
        }
        func run(_ keepers: AuthorityKeeper..., body: () async throws -> Void) async {
            await withTaskGroup(of: Void.self) { group in
                for keeper in keepers { group.addTask { await keeper.run { _ in } } }
                do { try await body() } catch { Issue.record(error) }
                group.cancelAll()
            }
        }
        func data(_ path: String) -> [String: String] {
            struct Kept: Decodable { var data: [String: String]? }
            let text = server.stored(folder + path) ?? "{}"
            return (try? JSONDecoder().decode(Kept.self, from: Data(text.utf8)))?.data ?? [:]
        }
        var published: [CertificateFacts] {
            (try? certificates(inPEM: data("configmaps/heddle-ca-root")["root-cert.pem"] ?? "")) ?? []
        }
        func end() async {
            writer.shutdown()
            await server.stop()
        }
    }

    @Test func oneMakesWhatAllSignWith() async throws {
        let cluster = try await Cluster()
        let (leader, other) = (cluster.replica(leads: true), cluster.replica(leads: false))
        await cluster.run(leader, other) {
            try await soon("both sign") { leader.signer != nil && other.signer != nil }
            #expect(leader.signer?.authority.facts == other.signer?.authority.facts)
            #expect(leader.signer?.chain.count == 2)
            try await soon("the root is published") { cluster.published.count == 1 }
            #expect(leader.report.root?.fingerprint == cluster.published.first?.fingerprint)
            #expect(leader.report.isReady && leader.report.problems == [])
            #expect(other.renewRoot() == "only the replica that leads changes keys: ask it, a")
        }
        // Another process finds everything as it left it.
        let (writes, before) = (cluster.server.writes.count, leader.signer?.authority.facts)
        let later = cluster.replica(leads: true)
        await cluster.run(later) {
            try await soon("it signs") { later.signer != nil }
            let start = cluster.server.requests.count
            try await soon("it has looked some times") { cluster.server.requests.count > start + 20 }
        }
        #expect(later.signer?.authority.facts == before && cluster.server.writes.count == writes)
        await cluster.end()
    }

    /// Believed by all before it signs, and believed until the last leaf under it has ended.
    @Test func anotherRootTakesItsPlaceWithOverlap() async throws {
        let cluster = try await Cluster()
        let keeper = cluster.replica(leads: true)
        await cluster.run(keeper) {
            try await soon("it signs") { keeper.signer != nil && cluster.published.count == 1 }
            let old = try #require(keeper.signer)
            #expect(keeper.renewRoot() == nil)
            try await soon("both roots are published") {
                cluster.published.count == 2 && keeper.report.nextRoot != nil
            }
            // It counts from when that was seen.
            let count = cluster.server.requests.count
            try await soon("that is seen") { cluster.server.requests.count > count + 10 }
            cluster.pass(1800)
            #expect(keeper.signer?.authority.facts == old.authority.facts)
            cluster.pass(3600)
            // None signs while nothing was read since the clock went on.
            try await soon("the new one signs") {
                keeper.signer.map { $0.authority.facts != old.authority.facts } ?? false
            }
            let new = try #require(keeper.signer)
            #expect(new.chain.last != old.chain.last && cluster.published.count == 2)
            try await soon("the old one is retired") { keeper.report.retired.count == 1 }
            // Its key is not needed any more.
            #expect(cluster.data("secrets/heddle-ca").keys.count { $0.hasSuffix(".key") } == 2)
            let leaf = try old.authority.issueServer(
                names: ["a"], key: .generate(), notBefore: cluster.now, notAfter: cluster.now + 3600)
            let roots = cluster.data("configmaps/heddle-ca-root")["root-cert.pem"] ?? ""
            #expect(verify(chain: [leaf] + old.chain, roots: roots, at: cluster.now) == nil)
            cluster.pass(2 * 86_400)
            try await soon("the old one is forgotten") { cluster.published.count == 1 }
            #expect(cluster.data("secrets/heddle-ca").count == 5)
        }
        await cluster.end()
    }

    @Test func theAuthorityOfIstioWins() async throws {
        let cluster = try await Cluster()
        let root = try Authority.root(name: "istio", notBefore: cluster.now, notAfter: cluster.now + 20 * 86_400)
        let theirs = try root.intermediate(name: "here", notBefore: cluster.now, notAfter: cluster.now + 86_400)
        func base64(_ text: String) -> String { Data(text.utf8).base64EncodedString() }
        let members = [
            "ca-cert.pem": theirs.facts.pem, "ca-key.pem": String(decoding: theirs.key.pem, as: UTF8.self),
            "cert-chain.pem": theirs.chain.joined(), "root-cert.pem": root.facts.pem,
        ].map { "\"\($0)\":\"\(base64($1))\"" }.joined(separator: ",")
        cluster.server.store(Self.folder + "secrets/cacerts", "{\"data\":{\(members)}}")
        let keeper = cluster.replica(leads: true)
        await cluster.run(keeper) {
            try await soon("it signs") { keeper.signer != nil && cluster.published.count == 1 }
            #expect(keeper.signer?.authority.facts == theirs.facts && cluster.data("secrets/heddle-ca")["1.key"] == nil)
            #expect(cluster.published.first?.fingerprint == root.facts.fingerprint)
            #expect(keeper.report.origin == "cacerts" && keeper.report.problems.count == 2)
            #expect(keeper.report.problems.allSatisfy { $0.contains("ends in") })
            #expect(keeper.renewRoot()?.contains("Secret cacerts is in force") == true)
            // What is no good is told, and changes nothing.
            cluster.server.store(Self.folder + "secrets/cacerts", #"{"data":{"ca-cert.pem":"eA=="}}"#)
            try await soon("that is told") { keeper.report.problems.contains { $0.contains("cannot be used") } }
            #expect(keeper.signer?.authority.facts == theirs.facts && cluster.data("secrets/heddle-ca")["1.key"] == nil)
            cluster.server.delete(.secrets, "mesh", "cacerts")
            try await soon("both roots are published") { cluster.published.count == 2 }
            cluster.pass(3600)
            try await soon("an own root is made") { keeper.signer?.authority.facts != theirs.facts }
        }
        await cluster.end()
    }

    /// A root is not made twice because somebody damaged the first.
    @Test func whatIsDamagedIsNotReplaced() async throws {
        let cluster = try await Cluster()
        cluster.server.store(Self.folder + "secrets/heddle-ca", #"{"data":{"1.crt":"eA==","note":"eA=="}}"#)
        let keeper = cluster.replica(leads: true)
        await cluster.run(keeper) {
            try await soon("it is told") {
                keeper.report.problems.contains { $0.contains("is damaged: it has 1.crt") }
            }
            #expect(cluster.server.writes.filter { $0.path.contains("secrets") }.isEmpty && keeper.signer == nil)
            cluster.server.delete(.secrets, "mesh", "heddle-ca")
            try await soon("that, too") { keeper.report.problems.contains { $0.contains("apply the chart") } }
        }
        await cluster.end()
    }
}
