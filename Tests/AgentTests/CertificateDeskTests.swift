// What the agent has signed for the proxy, and for whom.
import Addressing
import CertificateAuthority
import Daemon
import Glibc
import HandOver
import Logging
import RouteIR
import Signing
import Synchronization
import TestSupport
import Testing

@testable import Agent

@Suite struct CertificateDeskTests {
    private let folder: TemporaryDirectory
    private let web: WorkloadIdentity
    init() throws {
        folder = try TemporaryDirectory()
        web = try #require(WorkloadIdentity("spiffe://cluster.local/ns/shop/sa/web"))
    }

    private func snapshot() -> ProxySnapshot {
        var snapshot = ProxySnapshot(generation: 1, node: ProxyNode(name: "n"))
        snapshot.mesh = ProxyMesh()
        snapshot.meshPods[IPAddress(v4: 1)] = MeshPod(
            namespace: "shop", name: "web-0", uid: "1", serviceAccount: "web")
        return snapshot
    }

    private func ask(_ desk: CertificateDesk, _ identity: String, _ key: SigningKey) async throws -> CertificateAnswer {
        let csr = try key.request(uris: [identity])
        return await withCheckedContinuation { done in
            desk.certify(CertificateQuestion(id: 7, identity: identity, request: csr)) { done.resume(returning: $0) }
        }
    }

    @Test func onlyIdentitiesOfThisNodesEnrolledPodsAreSigned() async throws {
        let desk = CertificateDesk(try DirectoryAuthority(folder.path + "/ca", life: 3600), log: Logger(label: "test"))
        let running = Task { await desk.run { _ in } }
        defer { running.cancel() }
        let key = SigningKey.generate()
        #expect(try await ask(desk, web.description, key).problem.contains("no enrolled pod"))
        desk.publish(snapshot())
        let answer = try await ask(desk, web.description, key)
        let now = Glibc.time(nil)
        let chain = try IssuedChain(answer.chain, for: key, identity: web, roots: answer.roots, at: now)
        #expect(answer.id == 7 && answer.problem == "")
        #expect((3500...3600).contains(chain.facts.notAfter - now) && chain.facts.uris == [web.description])
        for other in ["spiffe://cluster.local/ns/shop/sa/db", "spiffe://other/ns/shop/sa/web", "web"] {
            #expect(try await ask(desk, other, key).problem.contains("no enrolled pod"), "\(other)")
        }
        // What is asked for in the request itself counts as well.
        let forged = try key.request(uris: ["spiffe://cluster.local/ns/shop/sa/db"])
        let refused = await withCheckedContinuation { done in
            desk.certify(CertificateQuestion(id: 8, identity: web.description, request: forged)) {
                done.resume(returning: $0)
            }
        }
        #expect(refused.chain.isEmpty && refused.problem.contains("another identity"))
    }

    /// Agents of one machine that begin at one time have one authority, whose key is for its owner only.
    @Test func severalAgentsShareOneAuthority() async throws {
        let path = folder.path + "/deep/ca"
        let roots = try await withThrowingTaskGroup(of: [String].self) { group in
            for _ in 0..<8 { group.addTask { try DirectoryAuthority(path, life: 60).roots() } }
            return try await group.reduce(into: Set<[String]>()) { $0.insert($1) }
        }
        #expect(roots.count == 1)
        var status = stat()
        #expect(stat(path + "/ca-key.pem", &status) == 0 && status.st_mode & 0o777 == 0o600)
        #expect(stat(path, &status) == 0 && status.st_mode & 0o777 == 0o700)
        // What is there is used, and never replaced.
        #expect(try DirectoryAuthority(path, life: 60).roots() == roots.first)
        #expect(unlink(path + "/ca-key.pem") == 0)
        #expect(throws: StartupError.self) { try DirectoryAuthority(path, life: 60) }
    }

    @Test func rootsAreToldAndToldAgainWhenTheyChange() async throws {
        let directory = try DirectoryAuthority(folder.path, life: 60)
        let desk = CertificateDesk(directory, log: Logger(label: "test"))
        let told = Mutex<[[String]]>([])
        let task = Task {
            await desk.watchRoots(every: .milliseconds(5)) { roots in told.withLock { $0.append(roots) } }
        }
        defer { task.cancel() }
        try await eventually("the roots") { () async throws -> Bool in told.withLock(\.count) == 1 }
        let now = Glibc.time(nil)
        let next = try Authority.root(name: "next", notBefore: now, notAfter: now + 86400)
        try writeText(try directory.roots().joined() + next.facts.pem, to: folder.path + "/root-cert.pem")
        try await eventually("both") { () async throws -> Bool in
            told.withLock { $0.last?.joined().contains(next.facts.pem) == true }
        }
    }
}
