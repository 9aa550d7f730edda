/// One task waits for the end, anybody may call it.
import Synchronization

final class StopSignal: Sendable {
    private struct State {
        var isSent = false
        var waiter: CheckedContinuation<Void, Never>?
    }
    private let state = Mutex(State())

    func send() {
        let waiter = state.withLock { state in
            state.isSent = true
            return state.waiter.take()
        }
        waiter?.resume()
    }

    /// Returns once `send` was called or the task is cancelled.
    func wait() async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isSent = state.withLock { state in
                    if !state.isSent { state.waiter = continuation }
                    return state.isSent
                }
                if isSent { continuation.resume() }
            }
        } onCancel: {
            send()
        }
    }
}
