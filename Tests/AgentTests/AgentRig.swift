// A control actor with a dataplane in memory and a source the test feeds.
import Addressing
import AdminAPI
import AdminServer
import Cluster
import Compile
import Daemon
import FoundationEssentials
import Logging
import Posix
import NodeControl
import Synchronization
import Telemetry
import TestSupport

@testable import Agent

struct AgentRig: Sendable {
    let dataplane = FakeDataplane()
    let board: StatusBoard
    let metrics = AgentMetrics()
    let agent: NodeAgent
    private let feed: AsyncStream<SourceEvent>.Continuation
    let healthChecks: HealthCheckRecord

    /// Runs `body` beside an agent with interface addresses but without any object yet.
    static func run(
        _ configuration: AgentConfiguration = AgentConfiguration(nodeName: "node-a"),
        auditPeriod: Duration = .milliseconds(20), snapshot: SnapshotAccess = SnapshotAccess(),
        proxy: ProxyLink? = nil, follow: (@Sendable (PodScope) -> Void)? = nil,
        _ body: (AgentRig) async throws -> Void
    ) async throws {
        let loop = ServerLoop()
        let thread = try KernelThread(name: "test-kernel")
        let rig = try await AgentRig(
            configuration, loop: loop, thread: thread, auditPeriod: auditPeriod, snapshot: snapshot, proxy: proxy,
            follow: follow)
        try await withThrowingTaskGroup { group in
            group.addTask { await rig.agent.run() }
            defer {
                rig.agent.mailbox.send(.stop)
                rig.feed.finish()
            }
            let addresses = [IPAddress(v4: 0x7f00_0001), IPAddress(v4: 0xc0a8_0002)].map { LocalAddress($0) }
            rig.agent.mailbox.send(.addresses(Set(addresses)))
            try await body(rig)
        }
        await loop.shutdown()
    }

    private init(
        _ configuration: AgentConfiguration, loop: ServerLoop, thread: KernelThread, auditPeriod: Duration,
        snapshot: SnapshotAccess, proxy: ProxyLink?, follow: (@Sendable (PodScope) -> Void)?
    ) async throws {
        board = StatusBoard(
            status: AgentStatus(
                node: configuration.nodeName, version: "test", dataplane: .init(name: "", configured: "auto")),
            clock: ProcessSetup.monotonicClock)
        let (events, feed) = AsyncStream<SourceEvent>.makeStream()
        self.feed = feed
        let record = HealthCheckRecord()
        healthChecks = record
        let dataplane = dataplane
        var following: (@Sendable (PodScope, Int) -> Void)?
        if let follow { following = { scope, _ in follow(scope) } }
        var environment = NodeAgent.Environment(
            sources: [
                AgentSource(
                    name: "test", events: events, owner: (),
                    follow: following)
            ],
            openDataplane: {
                OpenDataplane(
                    writer: dataplane, parts: [.init(dataplane, fullAudit: .rolling)], reason: "a test wants it")
            },
            timers: loop, board: board, metrics: metrics,
            log: LogSettings(.critical, .text).logger(),
            healthChecks: { checks, _ in
                record.set(
                    Dictionary(uniqueKeysWithValues: checks.map { ($0.key.description, $0.value.localEndpoints) }))
            })
        environment.auditPeriod = auditPeriod
        environment.observerPatience = .milliseconds(50)
        environment.snapshot = snapshot
        environment.proxy = proxy
        agent = try await NodeAgent.make(configuration, thread: thread, environment: environment)
    }

    func send(_ objects: ClusterObject...) { feed.yield(.changes(objects.map { .upsert($0) })) }
    func delete(_ id: ObjectID) { feed.yield(.changes([.delete(id)])) }
    func synced() { feed.yield(.synced) }
    func podsKnown(round: Int = 1) { feed.yield(.podsKnown(round: round)) }
    func report(_ problems: [SourceProblem]) { feed.yield(.problems(problems)) }

    func ask<Answer: Decodable>(_ type: Answer.Type, _ question: AdminRequest.Question) async throws -> Answer {
        let response = await withCheckedContinuation { continuation in
            agent.mailbox.send(
                .request(AdminRequest(question: question, reply: { continuation.resume(returning: $0) })))
        }
        return try JSONDecoder().decode(type, from: Data(response.body))
    }

    func name(_ seen: SeenTraffic) async -> SeenTraffic {
        await withCheckedContinuation { continuation in
            agent.mailbox.send(.name(seen) { continuation.resume(returning: $0) })
        }
    }

    func inSync() async throws {
        try await soon("in sync") { board.status.ready && board.status.sync.inSync }
    }
}

/// The health-check servers the agent last asked for: ready endpoints by service.
final class HealthCheckRecord: Sendable {
    private let state = Mutex<[String: Int]>([:])
    var checks: [String: Int] { state.withLock { $0 } }
    func set(_ checks: [String: Int]) { state.withLock { $0 = checks } }
}

/// Service `default/web` on 10.96.0.10:80, and its slice with endpoints 10.1.0.N:8080.
func webService(_ edit: (inout Service) -> Void = { _ in }) -> ClusterObject {
    var service = Service(name: ObjectName("default", "web"))
    service.clusterIPs = [IPAddress(v4: 0x0a60_000a)]
    service.ports = [Service.Port(port: 80)]
    edit(&service)
    return .service(service)
}

func webSlice(_ endpoints: UInt32..., node: String = "node-a") -> ClusterObject {
    var slice = EndpointSlice(name: ObjectName("default", "web-1"), serviceName: "web", addressType: .ipv4)
    slice.ports = [EndpointSlice.Port(port: 8080)]
    slice.endpoints = endpoints.map { EndpointSlice.Endpoint(IPAddress(v4: 0x0a01_0000 + $0), nodeName: node) }
    return .endpointSlice(slice)
}

/// `eventually` that gives its thread back while it waits: the agent's own tasks need one too. Other suites may keep
/// all threads of the pool busy for a while, hence the patience.
func soon(_ what: String, _ condition: () -> Bool) async throws(TestFailure) {
    try await eventually(what, within: .seconds(120)) { () async throws -> Bool in condition() }
}
