// The program itself, beside an API server: what it follows, what it answers, how it ends.
import AdminAPI
import AdminServer
import FakeAPIServer
import FoundationEssentials
import Glibc
import KubernetesClient
import Synchronization
import TestSupport
import Testing

@testable import Controller

@Suite(.serialized) struct ControllerProcessTests {
    private func agentctl(_ arguments: String..., socket: String) throws -> String {
        try run([programDirectory + "/agentctl"] + arguments + ["--cluster", "--api-socket", socket])
    }
    private func status(_ socket: String) throws -> ControllerStatus {
        let text = try agentctl("status", "-o", "json", socket: socket)
        return try JSONDecoder().decode(ControllerStatus.self, from: Data(text.utf8))
    }

    /// One process from its start to SIGTERM, through an API server that drops every connection.
    @Test func itFollowsTheClusterAndEndsWhenAsked() async throws {
        let server = try await FakeAPIServer()
        server.put(.services, service("web"), service("api", clusterIP: "10.96.0.2"))
        server.put(.namespaces, FakeObject("", "default", body: "\"spec\":{}"))
        server.put(.nodes, node("node-1"))
        let directory = try TemporaryDirectory()
        let socket = directory.path + "/controller.sock"
        let log = Glibc.open(directory.path + "/log", O_WRONLY | O_CREAT | O_CLOEXEC, 0o644)
        defer { close(log) }
        let controller = try ChildProcess(
            [
                programDirectory + "/heddle-controller", "run", "--kubeconfig", try kubeconfig(server, in: directory),
                "--identity", "controller-a", "--api-socket", socket, "--log-format", "json",
                "--healthz-address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0",
            ], descriptors: [log, log, log])

        try eventually("the first lists are complete") { try status(socket).ready }
        let first = try status(socket)
        #expect(first.identity == "controller-a" && first.pid == controller.pid && first.services == 2)
        let kinds: Set = ["services", "endpointslices", "namespaces", "httproutes", "grpcroutes", "pods"]
        #expect(Set(first.source.watches.map(\.resource)) == kinds && first.source.problems == [])

        server.dropConnections()
        server.put(.services, service("late", clusterIP: "10.96.0.3"))
        try eventually("what came later is known") { try status(socket).services == 3 }
        #expect(try status(socket).ready)

        let text = try agentctl("status", socket: socket)
        #expect(text.contains("controller        controller-a") && text.contains("\nstate             ready\n"))
        #expect(try agentctl("routes", socket: socket) == "ROUTE  PARENTS  RULES  IN FORCE  FINDINGS\n")
        // A watch that was cut is told as a problem until it is open again.
        try eventually("nothing is wrong with the cluster") {
            try agentctl("analyze", socket: socket) == "4 objects: 0 errors, 0 warnings\n"
        }
        // Nodes and pods are many and change much: nobody asks for them.
        #expect(server.requests(.nodes).isEmpty && server.requests(.pods).isEmpty)
        #expect(server.createdEvents.isEmpty)

        controller.signal(SIGTERM)
        #expect(try controller.wait() == 0)
        #expect(access(socket, F_OK) != 0)
        let lines = readText(directory.path + "/log").split(separator: "\n")
        #expect(
            lines.allSatisfy { $0.hasPrefix("{\"time\":") } && lines.last?.contains("stopping on signal 15") == true)
        await server.stop()
    }

    /// Without its first lists a replica is alive, and not ready; the API server's absence later changes neither.
    @Test func itIsReadyWithTheFirstListsAndStaysSo() async throws {
        let server = try await FakeAPIServer()
        server.put(.services, service("web"))
        let directory = try TemporaryDirectory()
        let access = try ClusterAccess.kubeconfig(path: try kubeconfig(server, in: directory))
        let source = KubernetesSource(configuration: .init(access: access, role: .controller))
        let writer = ObjectWriter(access: access, program: "test")
        defer { writer.shutdown() }
        let elector = LeaderElector(writer, lease: .lease(namespace: "n", name: "l"), identity: "a")
        let board = ControllerBoard(
            ControllerConfiguration(), source: source, writer: writer, elector: elector, loop: ServerLoop(),
            pid: 1)
        #expect(answer(board.answerHealth, "/livez").status == 200)
        let waiting = answer(board.answerHealth, "/readyz")
        #expect(waiting.status == 503 && waiting.text.contains("services, endpointslices, namespaces"))
        #expect(answer(board.answerMetrics, "/metrics").text.contains("\nheddle_controller_ready 0\n"))

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
            let metrics = answer(board.answerMetrics, "/metrics").text
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

    private func answer(_ responder: HTTPResponder, _ target: String) -> (status: Int, text: String) {
        let answer = Mutex<HTTPResponse?>(nil)
        responder(HTTPRequest(target: target)) { response in answer.withLock { $0 = response } }
        return answer.withLock { ($0?.status ?? 0, String(decoding: $0?.body ?? [], as: UTF8.self)) }
    }
}

/// The path of a kubeconfig for the server.
func kubeconfig(
    _ server: FakeAPIServer, in directory: TemporaryDirectory, token: String = "secret"
) throws -> String {
    let path = directory.path + "/kubeconfig"
    try writeText(
        """
        apiVersion: v1
        kind: Config
        current-context: test
        contexts: [{name: test, context: {cluster: test, user: test}}]
        clusters: [{name: test, cluster: {server: "\(server.url)"}}]
        users: [{name: test, user: {token: \(token)}}]
        """, to: path)
    return path
}

private final class Told: Sendable {
    private let lines = Mutex<[String]>([])
    var all: [String] { lines.withLock { $0 } }
    func add(_ line: String) { lines.withLock { $0.append(line) } }
}
