// The program itself, beside an API server: what it follows, what it answers, how it ends.
import AdminAPI
import AdminServer
import Cluster
import FakeAPIServer
import FoundationEssentials
import Glibc
import KubernetesClient
import Synchronization
import TestSupport
import Testing

@testable import Controller

@Suite(.serialized) struct ControllerProcessTests {
    /// One process from its start to SIGTERM, through an API server that drops every connection.
    @Test func itFollowsTheClusterAndEndsWhenAsked() async throws {
        let server = try await FakeAPIServer()
        server.put(.services, service("web"), service("api", clusterIP: "10.96.0.2"))
        server.put(.namespaces, FakeObject("", "default", body: "\"spec\":{}"))
        server.put(.nodes, node("node-1"))
        let controller = try RunningController("controller-a", server)

        try eventually("the first lists are complete") { try controller.status().ready }
        let first = try controller.status()
        #expect(first.identity == "controller-a" && first.pid == controller.process.pid && first.services == 2)
        let kinds: Set = ["services", "endpointslices", "namespaces", "httproutes", "grpcroutes", "pods", "all pods"]
        #expect(Set(first.source.watches.map(\.resource)) == kinds && first.source.problems == [])

        server.dropConnections()
        server.put(.services, service("late", clusterIP: "10.96.0.3"))
        try eventually("what came later is known") { try controller.status().services == 3 }
        #expect(try controller.status().ready)

        let text = try controller.agentctl("status")
        #expect(text.contains("controller        controller-a") && text.contains("\nstate             ready\n"))
        #expect(try controller.agentctl("routes") == "ROUTE  PARENTS  RULES  IN FORCE  FINDINGS\n")
        // A watch that was cut is told as a problem until it is open again.
        try eventually("nothing is wrong with the cluster") {
            try controller.agentctl("analyze") == "4 objects: 0 errors, 0 warnings\n"
        }
        // Nodes are many and change much: nobody asks for them.
        #expect(server.requests(.nodes).isEmpty)
        #expect(server.createdEvents.isEmpty)

        try controller.end()
        #expect(access(controller.socket, F_OK) != 0)
        let lines = controller.log.split(separator: "\n")
        #expect(
            lines.allSatisfy { $0.hasPrefix("{\"time\":") } && lines.last?.contains("stopping on signal 15") == true)
        await server.stop()
    }

    /// Without its first lists a replica is alive, and not ready; the API server's absence later changes neither.
    @Test func itIsReadyWithTheFirstListsAndStaysSo() async throws {
        let server = try await FakeAPIServer()
        server.put(.services, service("web"))
        let parts = try ControllerParts(server)
        defer { parts.writer.shutdown() }
        let (source, board) = (parts.source, parts.board)
        #expect(answer(board.answerHealth, "/livez").status == 200)
        let waiting = answer(board.answerHealth, "/readyz")
        #expect(waiting.status == 503 && waiting.text.contains("services, endpointslices, namespaces"))
        #expect(metrics(of: board).contains("\nheddle_controller_ready 0\n"))

        let told = Told()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await source.run() }
            group.addTask { await board.run(want: { _ in }) { told.add($0) } }
            try eventually("it is ready") { self.answer(board.answerHealth, "/readyz").status == 200 }
            await server.stop()
            try eventually("the watches tell of trouble") {
                source.status.contains { $0.resource == "services" && $0.state == .waiting }
            }
            #expect(answer(board.answerHealth, "/readyz").status == 200)
            #expect(answer(board.answerHealth, "/livez").status == 200)
            let metrics = metrics(of: board)
            #expect(metrics.contains("\nheddle_controller_services 1\n"))
            #expect(metrics.contains("heddle_controller_watching{resource=\"services\"} 0\n"))
            // And the log says why.
            try eventually("the log tells of the services") {
                told.all.contains { $0.contains("/api/v1/services: ") }
            }
            source.stop()
            try await group.waitForAll()
        }
        #expect(answer(board.answerAdmin, "/nope").status == 404)
    }

    /// What is not known yet is not missing: a status that says so would be written, and taken back.
    @Test func noKindOfRouteIsPassedByBecauseItsListIsSlow() async throws {
        let server = try await FakeAPIServer()
        server.put(.services, service("web"))
        server.fail(.grpcroutes, .silence)
        let parts = try ControllerParts(server) { $0.optional = .milliseconds(100) }
        defer { parts.writer.shutdown() }
        let (source, board) = (parts.source, parts.board)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await source.run() }
            group.addTask { await board.run(want: { _ in }) { _ in } }
            try eventually("all others are there") {
                source.status.allSatisfy { $0.state == .watching || $0.resource == "grpcroutes" }
            }
            let start = ContinuousClock.now
            try eventually("a node would have gone on") { ContinuousClock.now - start > .milliseconds(500) }
            let waiting = answer(board.answerHealth, "/readyz")
            #expect(waiting.status == 503 && waiting.text.hasSuffix("not complete: grpcroutes\n"))
            server.dropConnections()
            try eventually("it is ready") { board.isReady }
            source.stop()
            try await group.waitForAll()
        }
        await server.stop()
    }

    /// A wish that comes while a replica begins to lead is heard.
    @Test func noWishIsLostAtTheBeginningOfATerm() async throws {
        let server = try await FakeAPIServer()
        let parts = try ControllerParts(server)
        defer { parts.writer.shutdown() }
        let route = ObjectID(.httpRoute, ObjectName("shop", "late"))
        let statuses = parts.board.statuses
        let asked = Told()
        statuses.want([ObjectID(.httpRoute, ObjectName("shop", "early"))])
        statuses.lead {
            statuses.want([route])
            return []
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                await statuses.run(
                    { route in
                        asked.add(route.description)
                        return nil
                    }, tell: { _ in })
            }
            try eventually("it has its turn") { asked.all == [route.description] }
            group.cancelAll()
        }
        await server.stop()
    }

    private func metrics(of board: ControllerBoard) -> String {
        String(decoding: board.metricsAnswer.body, as: UTF8.self)
    }
    private func answer(_ responder: HTTPResponder, _ target: String) -> (status: Int, text: String) {
        let answer = Mutex<HTTPResponse?>(nil)
        responder(HTTPRequest(target: target)) { response in answer.withLock { $0 = response } }
        return answer.withLock { ($0?.status ?? 0, String(decoding: $0?.body ?? [], as: UTF8.self)) }
    }
}

/// A controller's parts without its process.
private struct ControllerParts {
    let source: KubernetesSource
    let writer: ObjectWriter
    let board: ControllerBoard

    init(_ server: FakeAPIServer, _ change: (inout KubernetesSource.Timing) -> Void = { _ in }) throws {
        let directory = try TemporaryDirectory()
        try writeText(server.kubeconfig(), to: directory.path + "/kubeconfig")
        let access = try ClusterAccess.kubeconfig(path: directory.path + "/kubeconfig")
        var configuration = KubernetesSource.Configuration(access: access, role: .controller)
        change(&configuration.timing)
        source = KubernetesSource(configuration: configuration)
        writer = ObjectWriter(access: access, program: "test")
        let elector = LeaderElector(writer, lease: .lease(namespace: "n", name: "l"), identity: "a")
        board = ControllerBoard(
            ControllerConfiguration(), source: source, writer: writer, elector: elector, pid: 1)
    }
}

private final class Told: Sendable {
    private let lines = Mutex<[String]>([])
    var all: [String] { lines.withLock { $0 } }
    func add(_ line: String) { lines.withLock { $0.append(line) } }
}
