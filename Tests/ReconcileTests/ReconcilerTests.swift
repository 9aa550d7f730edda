/// The reconciler with a made-up clock.
import Addressing
import DataplaneIR
import Reconcile
import Testing

@Suite struct ReconcilerTests {
    private let node = NodeProgram(nodeName: "n")
    private func id(_ name: String) -> ServicePortID {
        ServicePortID(namespace: "ns", service: name, portName: "", transport: .tcp, family: .ipv4)
    }
    private func programs(_ names: String...) -> [ServicePortID: ServiceProgram] {
        Dictionary(
            uniqueKeysWithValues: names.map {
                (
                    id($0),
                    ServiceProgram(
                        id: id($0), frontends: [Frontend(.clusterIP, IPAddress(v4: 1), 80)], backends: [],
                        clusterRange: 0..<0, localRange: 0..<0)
                )
            })
    }
    private func plan(_ action: Reconciler.Action) -> Plan? { if case .apply(let plan) = action { plan } else { nil } }
    private func waits(_ action: Reconciler.Action) -> Duration? {
        if case .wait(let until) = action { until } else { nil }
    }
    private let broken = DataplaneError(operation: "op", code: 12, description: "op failed: out of memory")

    /// A reconciler whose first full plan is already in the kernel.
    private func settled(_ options: Reconciler.Options = .init(), refused: [ServicePortID: String] = [:]) -> Reconciler
    {
        var reconciler = Reconciler(options: options)
        reconciler.sourceIsComplete()
        _ = reconciler.next(now: .zero, programs: [:], node: node)
        var receipt = Receipt(generation: 1)
        receipt.refused = refused
        reconciler.succeeded(receipt, now: .zero)
        return reconciler
    }

    @Test func row158_nothingBeforeTheListsAreComplete() {
        var reconciler = Reconciler()
        reconciler.changed([id("a")], now: .zero)
        #expect(plan(reconciler.next(now: .zero, programs: programs("a"), node: node)) == nil)
        reconciler.sourceIsComplete()
        let first = plan(reconciler.next(now: .zero, programs: programs("a"), node: node))
        #expect(first?.isFull == true)
        #expect(first?.upserts.map(\.id) == [id("a")])
    }

    @Test func whatWaitsForItsTimeIsNotInSync() {
        var options = Reconciler.Options()
        options.minSyncPeriod = .seconds(1)
        for change in [
            { (reconciler: inout Reconciler) in reconciler.changed([self.id("a")], now: .zero) },
            { $0.nodeChanged(now: .zero) },
        ] {
            var reconciler = settled(options)
            #expect(reconciler.status.isInSync)
            change(&reconciler)
            #expect(waits(reconciler.next(now: .milliseconds(1), programs: programs("a"), node: node)) == .seconds(1))
            #expect(!reconciler.status.isInSync)
        }
    }

    @Test func afterTheFirstOnlyWhatChanged() {
        var reconciler = settled()
        reconciler.changed([id("a"), id("gone")], now: .zero)
        let next = plan(reconciler.next(now: .zero, programs: programs("a", "b"), node: node))
        #expect(next?.isFull == false)
        #expect(next?.generation == 2)
        #expect(next?.upserts.map(\.id) == [id("a")])
        #expect(next?.removals == [id("gone")])
    }

    @Test func row160_burstsCollapseAndTheFirstAfterAQuietTimeGoesAtOnce() {
        var options = Reconciler.Options()
        options.minSyncPeriod = .seconds(1)
        var reconciler = settled(options)
        reconciler.changed([id("a")], now: .seconds(10))
        #expect(plan(reconciler.next(now: .seconds(10), programs: programs("a"), node: node)) != nil)
        reconciler.succeeded(Receipt(generation: 2), now: .seconds(10))
        for step in 1...5 {
            let now = Duration.seconds(10) + .milliseconds(step * 100)
            reconciler.changed([id("a")], now: now)
            #expect(waits(reconciler.next(now: now, programs: programs("a"), node: node)) == .seconds(11))
        }
        #expect(plan(reconciler.next(now: .seconds(11), programs: programs("a"), node: node))?.generation == 3)
    }

    @Test func onePlanAtATime() {
        var reconciler = settled()
        reconciler.changed([id("a")], now: .zero)
        #expect(plan(reconciler.next(now: .zero, programs: programs("a"), node: node)) != nil)
        reconciler.changed([id("b")], now: .zero)
        #expect(plan(reconciler.next(now: .zero, programs: programs("a", "b"), node: node)) == nil)
        reconciler.succeeded(Receipt(generation: 2), now: .zero)
        #expect(
            plan(reconciler.next(now: .zero, programs: programs("a", "b"), node: node))?.upserts.map(\.id) == [id("b")])
    }

    @Test func aFailureIsRetriedWithGrowingDelaysAndNothingIsLost() {
        var reconciler = settled()
        reconciler.changed([id("a")], now: .zero)
        var now = Duration.zero
        var delays: [Duration] = []
        var full: [Bool] = []
        for _ in 0..<12 {
            guard let plan = plan(reconciler.next(now: now, programs: programs("a"), node: node)) else {
                Issue.record("no plan at \(now)")
                return
            }
            full.append(plan.isFull)
            reconciler.failed(broken, now: now, jitter: 1)
            #expect(!reconciler.status.isInSync)
            #expect(reconciler.status.lastError == broken.description)
            guard let until = waits(reconciler.next(now: now, programs: programs("a"), node: node)) else {
                Issue.record("does not wait")
                return
            }
            delays.append(until - now)
            now = until
        }
        #expect(delays.prefix(3) == [.milliseconds(100), .milliseconds(200), .milliseconds(400)])
        #expect(delays.last == .seconds(30))
        #expect(full == [false, false, false] + Array(repeating: true, count: 9))
        #expect(plan(reconciler.next(now: now, programs: programs("a"), node: node))?.upserts.map(\.id) == [id("a")])
        reconciler.succeeded(Receipt(generation: reconciler.status.attempted), now: now)
        #expect(reconciler.status.isInSync)
        #expect(reconciler.status.lastError == nil)
    }

    @Test func jitterNeverMoreThanHalvesTheDelay() {
        var reconciler = settled()
        reconciler.changed([id("a")], now: .zero)
        _ = reconciler.next(now: .zero, programs: programs("a"), node: node)
        reconciler.failed(broken, now: .zero, jitter: 0)
        #expect(waits(reconciler.next(now: .zero, programs: programs("a"), node: node)) == .milliseconds(50))
    }

    @Test func aRefusedServiceIsTriedAgainWhenRoomIsMade() {
        var reconciler = settled(refused: [id("big"): "map backends is full"])
        #expect(!reconciler.status.isInSync)
        reconciler.changed([id("a")], now: .zero)
        #expect(
            plan(reconciler.next(now: .zero, programs: programs("a", "big"), node: node))?.upserts.map(\.id) == [
                id("a")
            ])
        reconciler.succeeded(Receipt(generation: 2), now: .zero)
        reconciler.changed([id("a")], now: .zero)
        let retry = plan(reconciler.next(now: .zero, programs: programs("big"), node: node))
        #expect(retry?.removals == [id("a")])
        #expect(retry?.upserts.map(\.id) == [id("big")])
        reconciler.succeeded(Receipt(generation: 3), now: .zero)
        #expect(reconciler.status.refused.isEmpty)
        #expect(reconciler.status.isInSync)
    }

    @Test func aRefusedServiceIsTriedAgainAfterAWhileWithoutAnyReason() {
        var reconciler = settled(refused: [id("big"): "full"])
        #expect(waits(reconciler.next(now: .zero, programs: programs("big"), node: node)) == .seconds(30))
        #expect(plan(reconciler.next(now: .seconds(30), programs: programs("big"), node: node))?.upserts.count == 1)
    }

    @Test func driftAsksForAFullPlan() {
        var reconciler = settled()
        if case .rest = reconciler.next(now: .zero, programs: programs("a"), node: node) {
        } else {
            Issue.record("no rest")
        }
        reconciler.driftFound(now: .seconds(5))
        #expect(plan(reconciler.next(now: .seconds(5), programs: programs("a"), node: node))?.isFull == true)
    }
}
