/// Writes the status of routes while this replica leads: only what the API does not say yet, each route once at a time.
import Cluster
import KubernetesClient
import RouteStatus
import Synchronization

final class StatusWriter: Sendable {
    private struct State {
        var schedule = WriteSchedule<ObjectID>()
        var isLeading = false
        /// A turn that somebody waits for.
        var alarm: Duration?
        var random = SystemRandomNumberGenerator()

        /// nil: none is needed, or there is an earlier one.
        mutating func newAlarm(now: Duration) -> Duration? {
            guard let at = schedule.nextTurn(now: now), alarm.map({ $0 > at }) ?? true else { return nil }
            alarm = at
            return at
        }
    }
    private let state = Mutex(State())
    private let writer: ObjectWriter
    private let leadership: Leadership
    private let metrics: ControllerMetrics
    private let start = ContinuousClock.now
    private let (turns, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))

    init(_ writer: ObjectWriter, _ leadership: Leadership, _ metrics: ControllerMetrics) {
        (self.writer, self.leadership, self.metrics) = (writer, leadership, metrics)
    }

    /// Why the last write was not done.
    var problem: String? { state.withLock(\.schedule.problem) }

    /// Their status differs from what it should be. Whoever does not lead writes nothing, and all of it once it leads.
    func want(_ routes: Set<ObjectID>) {
        guard !routes.isEmpty else { return }
        let isNew = state.withLock { state in
            if state.isLeading { state.schedule.want(routes) }
            return state.isLeading
        }
        if isNew { wake.yield() }
    }

    /// `outstanding`: everything that must be written, asked for once wishes are heard: none falls between the two.
    func lead(_ outstanding: () -> Set<ObjectID>) {
        state.withLock { $0.isLeading = true }
        want(outstanding())
    }
    func stopLeading() {
        state.withLock { state in
            state.isLeading = false
            state.schedule.forgetAll()
        }
    }

    /// Until the task is cancelled. `write` says what is to be written to a route now; nil: nothing. `tell` hears of
    /// each problem as it comes.
    func run(
        _ write: @escaping @Sendable (ObjectID) -> RouteStatusWrite?, tell: @escaping @Sendable (String) -> Void
    ) async {
        await withDiscardingTaskGroup { group in
            for await _ in turns {
                while let route = state.withLock({ $0.schedule.next(now: ContinuousClock.now - start) }) {
                    group.addTask { await self.turn(route, write(route), tell) }
                }
                guard let at = state.withLock({ $0.newAlarm(now: ContinuousClock.now - start) }) else { continue }
                group.addTask {
                    try? await Task.sleep(until: self.start + at, clock: .continuous)
                    self.state.withLock { $0.alarm = nil }
                    self.wake.yield()
                }
            }
        }
    }

    private func turn(_ route: ObjectID, _ write: RouteStatusWrite?, _ tell: (String) -> Void) async {
        var result = WriteSchedule<ObjectID>.Result.nothing
        if let write {
            let outcome = await writer.write(ObjectWrite(write), fence: leadership)
            metrics.count(outcome)
            result = .outcome(outcome)
        }
        let new = state.withLock { state in
            // A turn may end after leadership has.
            state.schedule.ended(
                route, state.isLeading ? result : .nothing, now: ContinuousClock.now - start, using: &state.random)
        }
        if let new { tell("status of \(route): \(new)") }
        wake.yield()
    }
}

extension ObjectWrite {
    init(_ write: RouteStatusWrite) {
        let kind = write.route.kind
        let address = ObjectAddress(
            group: "gateway.networking.k8s.io", plural: kind == .grpcRoute ? "grpcroutes" : "httproutes",
            kind: kind.rawValue, namespace: write.route.name.namespace, name: write.route.name.name)
        self.init(
            .patch, address, .status, resourceVersion: write.resourceVersion,
            fields: "\"status\":{\"parents\":\(String(decoding: write.parents, as: UTF8.self))}")
    }
}
