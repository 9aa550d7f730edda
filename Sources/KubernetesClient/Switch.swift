/// On in some round, or off. One task waits for a change, anybody may make it.
import Synchronization

final class Switch: Sendable {
    private struct State {
        /// nil: off.
        var round: Int?
        var waiter: (isMet: @Sendable (Int?) -> Bool, continuation: CheckedContinuation<Int?, Never>)?
        var isCancelled = false
    }
    private let state = Mutex(State())

    func set(_ round: Int?) {
        change { $0.round = round }
    }

    /// Returns where it stands once that is so or the task is cancelled.
    func wait(until isMet: @escaping @Sendable (Int?) -> Bool) async -> Int? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                change { $0.waiter = (isMet, continuation) }
            }
        } onCancel: {
            change { $0.isCancelled = true }
        }
    }

    private func change(_ edit: (inout sending State) -> Void) {
        let waiter = state.withLock { state -> (CheckedContinuation<Int?, Never>, Int?)? in
            edit(&state)
            guard let waiter = state.waiter, state.isCancelled || waiter.isMet(state.round) else { return nil }
            state.waiter = nil
            return (waiter.continuation, state.round)
        }
        if let (continuation, round) = waiter { continuation.resume(returning: round) }
    }
}
