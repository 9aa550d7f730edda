/// Runs a source against the fake API server and keeps what it tells, as an agent would.
import Cluster
import FakeAPIServer
import NIOSSL
import Synchronization
import TestSupport

@testable import KubernetesClient

final class Recorder: Sendable {
    struct State {
        var cluster = ClusterState()
        var batches: [[Change]] = []
        var synced = 0
        /// The rounds in which the pods of the node were complete.
        var podsKnown: [Int] = []
        /// Services and slices known when `synced` came.
        var atSync: (services: Int, slices: Int)?
        var problems: [SourceProblem] = []
        var deleted: [ObjectID] = []
        var reached: [ObjectKind: String] = [:]
        var knownAt: [(versions: [ObjectKind: String], services: [String])] = []
        var hasEnded = false
    }
    private let state = Mutex(State())
    let source: KubernetesSource

    init(_ source: KubernetesSource) { self.source = source }

    var now: State { state.withLock { $0 } }
    var services: [String] { now.cluster.services.keys.map(\.name).sorted() }
    var slices: [String] { now.cluster.slices.keys.map(\.name).sorted() }
    var problems: [String] { now.problems.map(\.description) }
    func status(_ kind: ObjectKind) -> WatchStatus? { source.status.first { $0.kind == kind } }

    func consume() async {
        for await event in source.events {
            state.withLock { state in
                switch event {
                case .changes(let changes):
                    state.batches.append(changes)
                    for change in changes {
                        _ = state.cluster.apply(change)
                        if case .delete(let id) = change { state.deleted.append(id) }
                    }
                case .synced:
                    state.synced += 1
                    state.atSync = (state.cluster.services.count, state.cluster.slices.count)
                case .podsKnown(let round, _): state.podsKnown.append(round)
                case .reached(let versions):
                    for (kind, version) in versions { state.reached[kind] = version }
                    // What is told up to a version is known with it.
                    state.knownAt.append((versions, state.cluster.services.keys.map(\.name).sorted()))
                case .problems(let problems): state.problems = problems
                }
            }
        }
        state.withLock { $0.hasEnded = true }
    }
}

/// Starts a server and a source that follows it, and stops both after `body`.
func withSource(
    tls: TLSConfiguration? = nil, compresses: Bool = false, timing: KubernetesSource.Timing = .quick,
    configure: @Sendable (inout KubernetesSource.Configuration) -> Void = { _ in },
    prepare: @Sendable (FakeAPIServer) -> Void = { _ in },
    _ body: (FakeAPIServer, Recorder) async throws -> Void
) async throws {
    let server = try await FakeAPIServer(tls: tls, compresses: compresses)
    prepare(server)
    guard let address = ServerAddress(server.url) else { throw TestFailure("no URL: \(server.url)") }
    var configuration = KubernetesSource.Configuration(access: ClusterAccess(server: address), nodeName: "node-1")
    configuration.timing = timing
    configure(&configuration)
    let recorder = Recorder(KubernetesSource(configuration: configuration))
    let result: Result<Void, any Error> = await withTaskGroup(of: Void.self) { group in
        group.addTask { await recorder.source.run() }
        group.addTask { await recorder.consume() }
        let result: Result<Void, any Error>
        do { result = .success(try await body(server, recorder)) } catch { result = .failure(error) }
        recorder.source.stop()
        return result
    }
    await server.stop()
    try result.get()
}

extension KubernetesSource.Timing {
    /// Short enough for tests, and still far longer than a local server takes.
    static var quick: KubernetesSource.Timing {
        var timing = KubernetesSource.Timing()
        timing.doubt = .milliseconds(300)
        timing.optional = .milliseconds(300)
        timing.backoff.first = .milliseconds(20)
        timing.backoff.longest = .milliseconds(100)
        return timing
    }
}

extension FakeResource {
    /// What a source follows as long as nobody asks for more.
    static let followed: [FakeResource] = [.services, .endpointslices, .nodes, .servicecidrs]
}

extension FakeAPIServer {
    /// Two services, three slices, the own node and another one, and a ServiceCIDR.
    func fill() {
        put(.services, service("kubernetes"), service("web", clusterIP: "10.96.0.10"))
        put(
            .endpointslices, endpointSlice("kubernetes", of: "kubernetes", addresses: ["192.168.50.2"]),
            endpointSlice("web-1", of: "web"), endpointSlice("web-2", of: "web", addresses: ["10.1.0.12"]))
        put(.nodes, node("node-1"), node("node-2"))
        put(.servicecidrs, serviceCIDR("kubernetes", "10.96.0.0/16"))
    }
}

/// Polls without keeping one of the few threads that the source needs, too.
func soon(_ what: String, _ condition: () -> Bool) async throws(TestFailure) {
    try await eventually(what) { () async -> Bool in condition() }
}
