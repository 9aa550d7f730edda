/// A dataplane in memory for tests of everything above it. It keeps the programs as a kernel would, and is strict: a
/// plan that a real dataplane could misread is refused with EINVAL.
import Addressing
package import DataplaneIR
import Glibc
package import Observation
package import Reconcile
import Synchronization

// All state is behind one mutex, so that a test may look while the reconciler's thread works.
package final class FakeDataplane: Dataplane, Sendable {
    package let name = "fake"
    private let state = Mutex(State())

    private struct State {
        var programs: [ServicePortID: ServiceProgram] = [:]
        var node: NodeProgram?
        var plans: [Plan] = []
        var garbageCollections = 0
        var drift: [Drift] = []
        var failure: (@Sendable (Plan) -> DataplaneError?)?
        var refusal: (@Sendable (ServiceProgram) -> String?)?
        var quickLooks = 0
        var pieces = 0
        var isLastPiece: (@Sendable (Int) -> Bool)?
    }

    package init() {}

    /// What is in force.
    package var programs: [ServicePortID: ServiceProgram] { state.withLock { $0.programs } }
    package var node: NodeProgram? { state.withLock { $0.node } }
    /// Every plan that was handed in, also those that failed.
    package var plans: [Plan] { state.withLock { $0.plans } }
    package var garbageCollections: Int { state.withLock { $0.garbageCollections } }

    /// From now on `decide` says whether a plan fails; nothing of a failed plan is in force.
    package func fail(_ decide: (@Sendable (Plan) -> DataplaneError?)?) { state.withLock { $0.failure = decide } }
    /// The next `count` plans fail with `code`.
    package func failNext(_ count: Int = 1, code: Int32 = ENOMEM) {
        let left = Countdown(count)
        fail { _ in
            left.take() ? DataplaneError(operation: "write", code: code, description: "told to fail") : nil
        }
    }
    /// From now on services for which `decide` gives a reason do not fit.
    package func refuse(_ decide: (@Sendable (ServiceProgram) -> String?)?) { state.withLock { $0.refusal = decide } }
    /// What the next `verify` finds; a later plan repairs it.
    package func tamper(_ drift: [Drift]) { state.withLock { $0.drift = drift } }
    /// Takes a service out behind the reconciler's back, and lets `verify` find out.
    package func lose(_ id: ServicePortID) {
        state.withLock {
            $0.programs[id] = nil
            $0.drift.append(Drift(object: "fake", detail: "\(id) is missing"))
        }
    }

    package func write(_ plan: Plan) throws(DataplaneError) -> Receipt {
        let result: Result<Receipt, DataplaneError> = state.withLock { state in
            state.plans.append(plan)
            if let error = state.failure?(plan) { return .failure(error) }
            if let problem = problem(in: plan) {
                return .failure(DataplaneError(operation: "apply", code: EINVAL, description: problem))
            }
            return .success(Self.write(plan, &state))
        }
        return try result.get()
    }

    private static func write(_ plan: Plan, _ state: inout State) -> Receipt {
        var receipt = Receipt(generation: plan.generation)
        state.node = plan.node
        state.drift = []
        for id in plan.removals where state.programs.removeValue(forKey: id) != nil { receipt.operations += 1 }
        if plan.isFull {
            let wanted = Set(plan.upserts.map(\.id))
            for id in state.programs.keys where !wanted.contains(id) {
                state.programs[id] = nil
                receipt.operations += 1
            }
        }
        for program in plan.upserts where state.programs[program.id] != program {
            if let reason = state.refusal?(program) {
                receipt.refused[program.id] = reason
                continue
            }
            state.programs[program.id] = program
            receipt.operations += 1
        }
        return receipt
    }

    package func verify(quick: Bool) throws(DataplaneError) -> [Drift] {
        state.withLock { state in
            if quick { state.quickLooks += 1 }
            return state.drift
        }
    }
    /// One with each audit.
    package var quickLooks: Int { state.withLock { $0.quickLooks } }

    /// From now on a comparison has many pieces; `isLast` is asked after each, with its number.
    package func compareInPieces(_ isLast: (@Sendable (Int) -> Bool)?) { state.withLock { $0.isLastPiece = isLast } }
    /// The pieces of the last comparison so far.
    package var pieces: Int { state.withLock { $0.pieces } }

    package func compare(entries: Int, restarts: Bool) throws(DataplaneError) -> ComparedPiece {
        let (number, drift, isLast) = state.withLock { state in
            state.pieces = restarts ? 1 : state.pieces + 1
            return (state.pieces, state.drift, state.isLastPiece)
        }
        var piece = ComparedPiece()
        piece.drift = drift
        piece.entries = 1
        piece.isLast = isLast?(number) ?? true
        return piece
    }
    package func collectGarbage() throws(DataplaneError) { state.withLock { $0.garbageCollections += 1 } }
    package func capacity() throws(DataplaneError) -> [MapUsage] {
        [MapUsage(name: "services", type: "fake", entries: programs.count, maxEntries: 0, bytes: 0)]
    }
    package func counters() throws(DataplaneError) -> [String: UInt64] { [:] }
}

private final class Countdown: Sendable {
    private let left: Mutex<Int>
    init(_ count: Int) { left = Mutex(count) }
    func take() -> Bool {
        left.withLock {
            $0 -= 1
            return $0 >= 0
        }
    }
}

/// The first thing in a plan that breaks the promises of `Plan` and `ServiceProgram`; nil: none.
package func problem(in plan: Plan) -> String? {
    let ids = plan.upserts.map(\.id)
    if ids != ids.sorted() { return "upserts are not in the order of their IDs" }
    if Set(ids).count != ids.count { return "a service is upserted twice" }
    if let id = plan.removals.first(where: Set(ids).contains) { return "\(id) is upserted and removed" }
    if plan.isFull, !plan.removals.isEmpty { return "a full plan has removals" }
    for program in plan.upserts {
        if let problem = problem(in: program) { return "\(program.id): \(problem)" }
    }
    return nil
}

private func problem(in program: ServiceProgram) -> String? {
    let family = program.id.family
    if program.frontends != program.frontends.sorted() { return "frontends are not sorted" }
    if Set(program.frontends).count != program.frontends.count { return "a frontend is there twice" }
    if let other = program.frontends.first(where: { $0.address.map { $0.family != family } ?? false }) {
        return "frontend \(other) is of the wrong family"
    }
    if let other = program.frontends.first(where: { ($0.kind == .nodePort) != ($0.address == nil) }) {
        return "frontend \(other): only node ports have no address"
    }
    if let other = program.backends.first(where: { $0.address.address.family != family }) {
        return "backend \(other.address) is of the wrong family"
    }
    if Set(program.backends.map(\.address)).count != program.backends.count { return "a backend is there twice" }
    if !program.clusterRange.isEmpty, !program.localRange.isEmpty,
        program.localRange.lowerBound > program.clusterRange.upperBound
            || program.localRange.upperBound < program.clusterRange.upperBound
    {
        return "the block is not [cluster only | both | local only]: \(program.clusterRange), \(program.localRange)"
    }
    return nil
}
