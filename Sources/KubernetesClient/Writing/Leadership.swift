/// Whether this replica may write, asked before each write and once more as the write leaves.
import Synchronization

/// Guards writes that only one may do at a time.
package protocol WriteFence: Sendable {
    /// nil: must not. Otherwise how long there is time; `endWrite` must follow.
    func beginWrite() -> Duration?
    /// Whether what the server may do for so long would end in time. Asked as the last bytes go to the connection: the
    /// process may have been stopped meanwhile.
    func mayStillWrite(for time: Duration) -> Bool
    func endWrite()
}

package final class Leadership: WriteFence {
    private struct State {
        var window: Range<Duration>?
        var writes = 0
        var drained: StopSignal?
    }
    /// A write that has less is not begun.
    private static let least = Duration.milliseconds(200)
    private let state = Mutex(State())
    private let start = ContinuousClock.now

    init() {}

    /// Counts while the machine is suspended, too.
    var now: Duration { ContinuousClock.now - start }
    package var isLeading: Bool { mayWrite(at: now) }
    package func mayWrite(at now: Duration) -> Bool { state.withLock { $0.window?.contains(now) == true } }

    func set(_ window: Range<Duration>?) { state.withLock { $0.window = window } }

    package func beginWrite() -> Duration? {
        let now = now
        return state.withLock { state in
            guard let window = state.window, window.contains(now), window.upperBound - now >= Self.least else {
                return nil
            }
            state.writes += 1
            return window.upperBound - now
        }
    }
    package func mayStillWrite(for time: Duration) -> Bool {
        let now = now
        return state.withLock { $0.window.map { $0.contains(now) && $0.upperBound - now >= time } ?? false }
    }
    package func endWrite() {
        state.withLock { state in
            state.writes -= 1
            return state.writes == 0 ? state.drained.take() : nil
        }?.send()
    }

    /// Returns once no write is under way. Each has a deadline.
    func drain() async {
        let signal = state.withLock { state -> StopSignal? in
            guard state.writes > 0 else { return nil }
            let signal = StopSignal()
            state.drained = signal
            return signal
        }
        await signal?.wait()
    }
}
