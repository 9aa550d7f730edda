// Another certificate takes the place of the one that is served, and an API server that asks all the while is answered
// all the while.
import AdminAPI
import AdminServer
import Admission
import FakeAPIServer
import Glibc
import KubernetesClient
import Synchronization
import TestSupport
import Testing

@testable import Controller

/// The wall clock, which can be put forward.
private final class Clock: Sendable {
    private let offset = Mutex(0)
    func advance(_ seconds: Int) { offset.withLock { $0 += seconds } }
    var now: Int { time(nil) + offset.withLock { $0 } }
}

/// A replica's door without its process.
private final class Replica: Sendable {
    let keeper: WebhookKeeper
    let elector: LeaderElector
    let notes = Mutex<[String]>([])
    private let writer: ObjectWriter
    private let desk = AdmissionDesk(proxyName: nil, ControllerMetrics())
    private let listener: HTTPListener

    static var timing: WebhookKeeper.Timing {
        var timing = WebhookKeeper.Timing()
        timing.reading = .milliseconds(20)
        (timing.plan.lifetime, timing.plan.settling, timing.plan.overlap) = (1800, 120, 300)
        return timing
    }

    init(_ name: String, _ server: FakeAPIServer, _ clock: Clock, port: UInt16 = 0, token: String = "secret") throws {
        let directory = try TemporaryDirectory()
        try writeText(server.kubeconfig(token: token), to: directory.path + "/kubeconfig")
        writer = ObjectWriter(access: try .kubeconfig(path: directory.path + "/kubeconfig"), program: name)
        var election = LeaderElection.Timing()
        (election.lease, election.renewDeadline) = (.seconds(2), .milliseconds(1500))
        (election.renewal, election.poll) = (.milliseconds(300), .milliseconds(100))
        elector = LeaderElector(
            writer, lease: .lease(namespace: "kube-system", name: "heddle-controller"), identity: name,
            timing: election)
        keeper = WebhookKeeper(
            writer, elector.leadership, namespace: "kube-system", names: [webhookHost], timing: Self.timing,
            now: { clock.now })
        listener = HTTPListener(
            .tcp(host: "127.0.0.1", port: port), on: ServerLoop(), limits: AdmissionDesk.limits,
            tls: keeper.certificate, responder: desk.answer)
        listener.start()
    }

    var problems: [String] { keeper.report.problems }
    var isServing: Bool { keeper.report.servingSeconds != nil }

    /// Until the task is cancelled, as if it were killed: nothing is handed back.
    func run() async {
        await withDiscardingTaskGroup { group in
            group.addTask { await self.elector.run() }
            group.addTask { await self.desk.run({ ClusterView() }, tell: { _ in }) }
            group.addTask {
                await self.keeper.run(tell: { _ in }, note: { note in self.notes.withLock { $0.append(note) } })
            }
            for await change in elector.changes { if case .leading = change { keeper.lead() } }
        }
        listener.stop()
        writer.shutdown()
    }
}

@Suite(.serialized) struct WebhookRotationTests {
    private func cluster() async throws -> FakeAPIServer {
        let server = try await FakeAPIServer()
        server.installWebhook()
        server.freeLease()
        return server
    }
    /// Runs them beside `body`.
    private func with(_ replicas: Replica..., body: ([Task<Void, Never>]) async throws -> Void) async throws {
        let tasks = replicas.map { replica in Task { await replica.run() } }
        let result: Result<Void, any Error>
        do { result = .success(try await body(tasks)) } catch { result = .failure(error) }
        for task in tasks {
            task.cancel()
            await task.value
        }
        try result.get()
    }

    /// Two replicas, a whole rotation, and writes all the while, on a connection each.
    @Test func whoAsksAllTheWhileIsAnsweredAllTheWhile() async throws {
        let (server, clock) = (try await cluster(), Clock())
        let (portA, portB) = (try freePort(), try freePort())
        let a = try Replica("a", server, clock, port: portA)
        let b = try Replica("b", server, clock, port: portB)
        try await with(a, b) { _ in
            try await until("both serve") { a.isServing && b.isServing && server.authorities == 1 }
            server.reach("kube-system/heddle-controller", at: Int(portA), Int(portB))
            let writes = Mutex(0)
            func write() throws {
                let number = writes.withLock { count in
                    count += 1
                    return count
                }
                #expect(try server.write(route("r\(number)")).hasPrefix("HTTP/1.1 201 "))
            }
            func whileWriting(_ what: String, _ condition: () throws -> Bool) async throws {
                try await until(what) {
                    try write()
                    return try condition()
                }
            }
            let first = server.kept("tls.crt")
            clock.advance(1201)
            try await whileWriting("the next one is made and its authority told") { server.authorities == 2 }
            let next = server.kept("next.crt")
            #expect(next != nil && next != first && server.bundle.contains(server.kept("next-ca.crt") ?? "?"))
            // API servers have time to hear of it.
            for _ in 0..<10 { try write() }
            #expect(server.kept("tls.crt") == first && server.kept("next.crt") == next)
            clock.advance(121)
            try await whileWriting("it is the current one") { server.kept("tls.crt") == next }
            #expect(server.kept("next.crt") == nil && server.kept("next.key") == nil)
            #expect(server.kept("previous.crt") == first && server.authorities == 2)
            try await whileWriting("both serve it") {
                [a, b].allSatisfy { $0.keeper.certificateEnd.map { $0 > clock.now + 1500 } == true }
            }
            for _ in 0..<10 { try write() }
            #expect(server.authorities == 2)
            clock.advance(301)
            try await whileWriting("the old authority is not believed any more") { server.authorities == 1 }
            #expect(server.bundle == server.kept("ca.crt") && server.kept("previous.crt") == nil)
            for _ in 0..<4 { try write() }
            // Where other tests hold every thread of this process nobody answers for a while; that is not meant.
            #expect(server.webhookFailures.filter { !$0.hasSuffix("context deadline exceeded") } == [])
            #expect(server.webhookAnswers + server.webhookFailures.count == writes.withLock { $0 })
            #expect(a.problems == [] && b.problems == [])
        }
        await server.stop()
    }

    /// What one leader began the next one ends.
    @Test func aLeaderMayDieInBetween() async throws {
        let (server, clock) = (try await cluster(), Clock())
        let (a, b) = (try Replica("a", server, clock), try Replica("b", server, clock))
        try await with(a, b) { tasks in
            try await until("both serve") { a.isServing && b.isServing && server.authorities == 1 }
            clock.advance(1201)
            try await until("the next one is told") { server.authorities == 2 }
            let next = server.kept("next.crt")
            let (leader, other) = a.elector.leadership.isLeading ? (0, b) : (1, a)
            tasks[leader].cancel()
            try await until("the other leads") { other.elector.leadership.isLeading }
            clock.advance(121)
            try await until("it goes on") { server.kept("tls.crt") == next && server.kept("previous.crt") != nil }
            #expect(server.authorities == 2)
        }
        await server.stop()
    }

    @Test func whatIsDamagedIsReplaced() async throws {
        let (server, clock) = (try await cluster(), Clock())
        let port = try freePort()
        let a = try Replica("a", server, clock, port: port)
        try await with(a) { _ in
            try await until("it serves") { server.authorities == 1 && a.isServing }
            let (first, authority) = (server.kept("tls.crt"), server.bundle)
            for damage in [
                #""tls.key":"YXBwbGU=""#, #""tls.crt":"!""#, #""ca.crt":"""#, #""tls.key":null"#,
            ] {
                let before = server.kept("tls.crt")
                #expect(server.damage("{\(damage)}"))
                try await until("another is made after \(damage)") {
                    guard let now = server.kept("tls.crt"), now.hasPrefix("-----BEGIN") else { return false }
                    return now != before && server.bundle == server.kept("ca.crt")
                }
                try await until("it is served") {
                    try ask(review(route()), at: port, believing: server.bundle).status == 200
                }
            }
            #expect(server.kept("tls.crt") != first && server.bundle != authority)
            // What is not served now is only taken away.
            let current = server.kept("tls.crt")
            #expect(server.damage(#"{"next.crt":"YXBwbGU=","previous.crt":"YXBwbGU="}"#))
            try await until("it is gone") { server.kept("next.crt") == nil && server.kept("previous.crt") == nil }
            try await until("nothing is wrong") { a.problems == [] }
            #expect(server.kept("tls.crt") == current)
        }
        await server.stop()
    }

    /// Nothing to write to is no trouble of the door's.
    @Test func whereNothingIsInstalledItIsSaid() async throws {
        let (server, clock) = (try await FakeAPIServer(), Clock())
        server.freeLease()
        let a = try Replica("a", server, clock)
        try await with(a) { _ in
            try await until("it leads") { a.elector.leadership.isLeading }
            try await until("the Secret is missed") {
                a.problems.contains { $0.hasPrefix("Secret kube-system/heddle-webhook does not exist") }
            }
            #expect(!a.isServing && a.keeper.report.isConfigured == false)
            server.store(FakeAPIServer.secret, #"{"type":"Opaque"}"#)
            try await until("it serves") { a.isServing && a.problems == [] }
            #expect(a.keeper.report.isConfigured == false)
            server.installConfiguration()
            try await until("its authority is told") { server.bundle == server.kept("ca.crt") }
        }
        await server.stop()
    }

    /// The verb is named. What was served goes on.
    @Test func whatIsForbiddenIsSaid() async throws {
        let (server, clock) = (try await cluster(), Clock())
        server.know(.serviceAccount("kube-system", "heddle-controller"), by: "controller")
        let manifests = renderedChart
        let bundleless = manifests.replacing(
            "resources: [validatingwebhookconfigurations]", with: "resources: [nothing]")
        #expect(bundleless != manifests)
        try server.enforce(rbac: bundleless)
        let a = try Replica("a", server, clock, token: "controller")
        try await with(a) { _ in
            try await until("it serves all the same") { a.isServing }
            try await until("the configuration is missed") {
                a.problems.contains { $0.contains("allow the verb get on resource validatingwebhookconfigurations") }
            }
            #expect(a.keeper.report.isConfigured == nil && server.authorities == 0)
            try server.enforce(rbac: manifests)
            try await until("its authority is told") { server.authorities == 1 && a.problems == [] }
            try server.enforce(rbac: manifests, without: "get")
            try await until("the Secret is missed") {
                a.problems.contains { $0.contains("allow the verb get on resource secrets") }
            }
            #expect(a.isServing)
        }
        await server.stop()
    }
}
