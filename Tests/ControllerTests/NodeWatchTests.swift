// Agents' health servers that are asked how far they are: many of them, slow ones, and those that are none.
import AdminAPI
import AdminServer
import Addressing
import Cluster
import FoundationEssentials
import Glibc
import InForce
import Synchronization
import TestSupport
import Testing

@testable import Controller

/// How far all nodes are, and how often they were asked.
private final class Asked: Sendable {
    private let state = Mutex<(position: UInt64, questions: Int)>((0, 0))
    var questions: Int { state.withLock(\.questions) }
    func move(to position: UInt64) { state.withLock { $0.position = position } }
    func next() -> UInt64 {
        state.withLock { state in
            state.questions += 1
            return state.position
        }
    }
}

/// What stands for all agents: one server, as all nodes have its address.
private struct Agents {
    let asked = Asked()
    let loop = ServerLoop()
    let port: UInt16

    init(_ answer: (@Sendable () -> HTTPResponse)? = nil) async throws {
        port = try freePort()
        let asked = asked
        try await HTTPListener(
            .tcp(host: "127.0.0.1", port: port), on: loop,
            responder: { _, reply in
                let position = asked.next()
                if let answer { return reply(answer()) }
                let report = ProgrammedReport(node: "n", reached: ["HTTPRoute": "\(position)", "Service": "98765432"])
                let body = (try? JSONEncoder().encode(report)).map { Array($0) } ?? []
                reply(HTTPResponse(contentType: "application/json", body: body))
            }
        ).startNow()
    }
}

func freePort() throws -> UInt16 {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    defer { close(descriptor) }
    var place = sockaddr_in()
    place.sin_family = sa_family_t(AF_INET)
    place.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let result = withUnsafeMutablePointer(to: &place) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            bind(descriptor, $0, size) == 0 ? getsockname(descriptor, $0, &size) : -1
        }
    }
    guard result == 0 else { throw TestFailure.errno("find a free port") }
    return UInt16(bigEndian: place.sin_port)
}

@Suite(.serialized) struct NodeWatchTests {
    private func pods(_ numbers: Range<Int>) -> SourceEvent {
        .changes(
            numbers.map { number in
                var pod = Pod(name: ObjectName("kube-system", "heddle-\(number)"))
                (pod.nodeName, pod.addresses) = ("node-\(number)", [IPAddress(v4: 0x7f00_0001)])
                return .upsert(.pod(pod))
            })
    }
    private func route(_ number: Int, generation: Int64, version: UInt64) -> Route {
        var route = Route(kind: .http, name: ObjectName("shop", "r\(number)"))
        route.parents = [.init(service: ObjectName("shop", "web"))]
        var record = RouteRecord()
        (record.generation, record.resourceVersion) = (generation, "\(version)")
        route.record = record
        return route
    }
    private func progress(_ watch: NodeWatch, _ number: Int = 0) -> ClusterRoutes.Progress? {
        watch.standing.progress(of: route(number, generation: 0, version: 0))
    }
    private func nodes(_ watch: NodeWatch) -> ControllerStatus.Nodes {
        var status = ControllerStatus(identity: "a", version: "1", source: .init(name: "server"))
        watch.fill(&status)
        return status.nodes
    }
    private func with(_ watch: NodeWatch, _ body: () async throws -> Void) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await watch.run { _ in } }
            try await body()
            group.cancelAll()
        }
    }

    /// 5,000 nodes, 10,000 routes: each node is asked once at the start and once after an edit.
    @Test func manyNodesAreAskedOnceForEachEdit() async throws {
        let (count, routes) = (5000, 10_000)
        let agents = try await Agents()
        let loop = ServerLoop()
        let watch = NodeWatch(loop, port: agents.port, metrics: ControllerMetrics())
        let before = residentKilobytes()
        agents.asked.move(to: UInt64(routes))
        watch.take(pods(0..<count))
        for number in 0..<routes {
            watch.take(.changes([.upsert(.route(route(number, generation: 1, version: UInt64(number + 1))))]))
        }
        watch.take(.synced)
        try await with(watch) {
            try await eventually("all are asked", within: .seconds(120)) { () async -> Bool in
                agents.asked.questions >= count
            }
            try await eventually("all are there") { () async -> Bool in progress(watch, routes - 1)?.nodes == count }
            let asked = agents.asked.questions
            watch.take(.changes([.upsert(.route(route(7, generation: 2, version: UInt64(routes + 1))))]))
            #expect(progress(watch, 7)?.nodes == 0)
            agents.asked.move(to: UInt64(routes + 1))
            try await eventually("all are asked again", within: .seconds(120)) { () async -> Bool in
                agents.asked.questions >= asked + count
            }
            try await eventually("the edit is in force") { () async -> Bool in progress(watch, 7)?.nodes == count }
            let again = agents.asked.questions - asked
            // What is asked once a minute may fall into this time.
            #expect((count...count + count / 4).contains(again))
            #expect(nodes(watch) == .init(count: count, answering: count, lagging: 0))
            #expect(residentKilobytes() - before < 150_000)
        }
        await loop.shutdown()
        await agents.loop.shutdown()
    }

    /// Something else has the port, as kube-proxy does beside the agent; or it says too much.
    @Test(arguments: [
        (404, "not found", "is another program's"), (200, "<html>", "no agent's answer"),
        (200, "big", "more than 16384"),
    ]) func whatIsNoAgentIsNotBelieved(status: Int, text: String, sentence: String) async throws {
        let agents = try await Agents {
            .text(text == "big" ? String(repeating: "x", count: 100_000) : text, status: status)
        }
        let loop = ServerLoop()
        let answer = await loop.fetch("/x", host: "127.0.0.1", port: agents.port, within: .seconds(20), limit: 200_000)
        #expect((try? answer.get().status) == status)
        let watch = NodeWatch(loop, port: agents.port, metrics: ControllerMetrics())
        watch.take(pods(0..<1))
        watch.take(.changes([.upsert(.route(route(0, generation: 1, version: 5)))]))
        watch.take(.synced)
        try await with(watch) {
            try await eventually("it was asked") { () async -> Bool in agents.asked.questions >= 3 }
            #expect(progress(watch)?.nodes == 0 && nodes(watch) == .init(count: 1, answering: 0, lagging: 0))
        }
        #expect(watch.causes.allSatisfy { $0.contains(sentence) } && watch.causes.count == 1, "\(watch.causes)")
        await loop.shutdown()
        await agents.loop.shutdown()
    }

    @Test func whoDoesNotListenIsTold() async throws {
        let loop = ServerLoop()
        let answer = await loop.fetch("/x", host: "127.0.0.1", port: try freePort(), within: .seconds(20), limit: 1)
        guard case .failure(let failure) = answer else { throw TestFailure("there was an answer") }
        #expect(failure.description.hasSuffix(": Connection refused"))
        await loop.shutdown()
    }
}

private func residentKilobytes() -> Int {
    let line = readText("/proc/self/status").split(separator: "\n").first { $0.hasPrefix("VmRSS:") }
    return line.flatMap { Int($0.filter(\.isNumber)) } ?? 0
}
