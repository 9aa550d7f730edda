/// On or off. One task waits for a change, anybody may make it.
import Synchronization

final class Switch: Sendable {
    private struct State {
        var isOn = false
        var waiter: (wanted: Bool, continuation: CheckedContinuation<Void, Never>)?
        var isCancelled = false
    }
    private let state = Mutex(State())

    func set(_ isOn: Bool) {
        change { $0.isOn = isOn }
    }

    /// Returns once it is in that position or the task is cancelled.
    func wait(for wanted: Bool) async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                change { $0.waiter = (wanted, continuation) }
            }
        } onCancel: {
            change { $0.isCancelled = true }
        }
    }

    private func change(_ edit: (inout sending State) -> Void) {
        let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
            edit(&state)
            guard let waiter = state.waiter, state.isCancelled || waiter.wanted == state.isOn else {
                return nil
            }
            state.waiter = nil
            return waiter.continuation
        }
        waiter?.resume()
    }
}
