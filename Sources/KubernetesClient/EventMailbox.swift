/// What the watches have to tell, between them and the agent. Changes wait here until the agent asks, and then all come
/// in one event: a single edit is told at once, a list of fifty thousand objects in as many pieces as the agent takes.
import Cluster
import Synchronization

final class EventMailbox: Sendable {
    private struct State {
        var changes: [Change] = []
        /// The versions that these changes reach, and those that what was told before has reached.
        var reached: [ObjectKind: String] = [:]
        var owedReached: [ObjectKind: String] = [:]
        /// Kinds of which the first list is not complete.
        var incomplete: Set<ObjectKind>
        var didTellSynced = false
        /// The changes of the first lists were told; `synced` comes before any later one.
        var owesSynced = false
        /// In which the pods of this node are followed.
        var podRound: Int?
        var arePodsComplete = false
        /// They are complete, which was not told yet.
        var owesPods = false
        /// Nor are they told without those of the other nodes, which are still being listed.
        var lacksOtherPods = false
        var wantsOtherPods = false
        /// By what is followed.
        var problems: [String: [SourceProblem]] = [:]
        var hasNewProblems = false
        var consumer: CheckedContinuation<SourceEvent?, Never>?
        /// Those who wait until less is waiting, or more is complete.
        var waiting: [StopSignal] = []
        var isFinished = false
    }
    /// Enough for one large list; more than this the agent should not be behind.
    private static let limit = 20_000

    private let state: Mutex<State>

    init(awaiting kinds: Set<ObjectKind>) { state = Mutex(State(incomplete: kinds)) }

    // MARK: The watches' side

    /// Tells of changes, in order; they end the first list of the kind they are `completing`. Waits as long as the
    /// agent is far behind, which makes the connection fill up and the server wait. `reached`: with them all of the
    /// kind is told up to a version.
    func send(
        _ changes: [Change], completing kind: ObjectKind? = nil, areOtherPodsComplete: Bool = false,
        reached: (kind: ObjectKind, version: String)? = nil
    ) async {
        update { state in
            state.changes += changes
            if let reached { state.reached[reached.kind] = reached.version }
            if let kind { state.incomplete.remove(kind) }
            // They are followed later than the rest, so nobody waits for them here.
            if kind == .pod, state.podRound != nil { (state.arePodsComplete, state.owesPods) = (true, true) }
            if areOtherPodsComplete, state.lacksOtherPods {
                (state.lacksOtherPods, state.owesPods) = (false, state.arePodsComplete)
            }
        }
        await wait { $0.changes.count > Self.limit }
    }

    /// Pods that are complete belong to this round from now on; nil: nobody wants to hear of it.
    func followPods(round: Int?) {
        update { ($0.podRound, $0.arePodsComplete, $0.owesPods) = (round, false, false) }
    }

    /// Whether to tell that pods are complete only once those of other nodes are too.
    func awaitOtherPods(_ isWanted: Bool) { update { ($0.lacksOtherPods, $0.wantsOtherPods) = (isWanted, isWanted) } }

    /// Waits for the first lists of all but these kinds.
    func completeness(but optional: Set<ObjectKind>) async { await wait { !$0.incomplete.isSubset(of: optional) } }

    /// As long as that is so, unless the source is stopped or the task cancelled.
    private func wait(while isPending: (State) -> Bool) async {
        while !Task.isCancelled {
            let signal = state.withLock { state -> StopSignal? in
                guard !state.isFinished, isPending(state) else { return nil }
                let signal = StopSignal()
                state.waiting.append(signal)
                return signal
            }
            guard let signal else { return }
            await signal.wait()
        }
    }
    private func wake() {
        let signals = state.withLock { state in
            defer { state.waiting = [] }
            return state.waiting
        }
        for signal in signals { signal.send() }
    }

    /// Replaces what is wrong with one of the things that are followed.
    func report(_ problems: [SourceProblem], for title: String) {
        update { state in
            guard state.problems[title, default: []] != problems else { return }
            state.problems[title] = problems.isEmpty ? nil : problems
            state.hasNewProblems = true
        }
    }

    /// The source is stopped: what waits is still told, then the stream ends.
    func finish() { update { $0.isFinished = true } }

    private func update(_ body: (inout sending State) -> Void) {
        let delivery = state.withLock { state -> (CheckedContinuation<SourceEvent?, Never>, SourceEvent?)? in
            body(&state)
            guard let consumer = state.consumer else { return nil }
            let event = Self.next(&state)
            guard event != nil || state.isFinished else { return nil }
            state.consumer = nil
            return (consumer, event)
        }
        if let (consumer, event) = delivery { consumer.resume(returning: event) }
        wake()
    }

    // MARK: The agent's side

    /// The next event; nil once finished. For one consumer.
    func next() async -> SourceEvent? {
        await withCheckedContinuation { continuation in
            let answer = state.withLock { state -> SourceEvent?? in
                if let event = Self.next(&state) { return .some(event) }
                if state.isFinished { return .some(nil) }
                state.consumer = continuation
                return nil
            }
            if let answer { continuation.resume(returning: answer) }
            wake()
        }
    }

    private static func next(_ state: inout State) -> SourceEvent? {
        if state.owesSynced {
            state.owesSynced = false
            state.didTellSynced = true
            return .synced
        }
        if let reached = state.owedReached.takeAll() { return .reached(reached) }
        let isComplete = state.incomplete.isEmpty && !state.didTellSynced
        if !state.changes.isEmpty {
            defer { state.changes = [] }
            state.owesSynced = isComplete
            state.owedReached = state.reached.takeAll() ?? [:]
            return .changes(state.changes)
        }
        if isComplete {
            state.didTellSynced = true
            return .synced
        }
        if state.owesPods, !state.lacksOtherPods, let round = state.podRound {
            state.owesPods = false
            return .podsKnown(round: round, ofAll: state.wantsOtherPods)
        }
        if let reached = state.reached.takeAll() { return .reached(reached) }
        guard state.hasNewProblems else { return nil }
        state.hasNewProblems = false
        return .problems(state.problems.sorted { $0.key < $1.key }.flatMap(\.value))
    }
}

extension Dictionary {
    /// nil: there was nothing.
    fileprivate mutating func takeAll() -> Self? {
        guard !isEmpty else { return nil }
        defer { self = [:] }
        return self
    }
}
