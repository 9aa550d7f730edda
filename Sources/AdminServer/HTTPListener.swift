/// A listening address with its answers. An address that is taken is tried again until it is free: losing a health
/// port to another program for a while must not stop the node's traffic (spec row 140).
import NIOCore
import Synchronization

package final class HTTPListener: Sendable {
    package let address: ListenAddress
    private let loop: ServerLoop
    private let responder: HTTPResponder
    private let retryAfter: Duration
    /// Called with the reason at the first failure of a row, and with nil once the address is bound.
    private let report: @Sendable (String?) -> Void
    private let state = Mutex(State())

    private struct State {
        var isOpen = false
        var channel: (any Channel)?
        var hasFailed = false
        var retry: ServerLoop.Timer?
    }

    package init(
        _ address: ListenAddress, on loop: ServerLoop, retryAfter: Duration = .seconds(2),
        report: @escaping @Sendable (String?) -> Void = { _ in }, responder: @escaping HTTPResponder
    ) {
        self.address = address
        self.loop = loop
        self.retryAfter = retryAfter
        self.report = report
        self.responder = responder
    }

    /// Where it listens now, with the port the system chose if 0 was asked for; nil while it does not.
    package var boundPort: UInt16? {
        state.withLock { $0.channel?.localAddress?.port.map { UInt16(truncatingIfNeeded: $0) } }
    }

    /// Starts listening, trying again and again while the address is taken.
    package func start() {
        state.withLock { $0.isOpen = true }
        attempt()
    }

    /// Starts listening or throws; for an address that the program cannot do without.
    package func startNow() async throws {
        let channel = try await loop.bind(address, responder).get()
        state.withLock {
            $0.isOpen = true
            $0.channel = channel
        }
    }

    package func stop() {
        let (channel, retry) = state.withLock { state in
            defer { state = State() }
            return (state.channel, state.retry)
        }
        retry?.cancel()
        channel?.close(promise: nil)
    }

    /// Keeps itself alive until it listens or is stopped: whoever never wants to stop it need not hold it.
    private func attempt() {
        loop.bind(address, responder).whenComplete { self.finishAttempt($0) }
    }

    private func finishAttempt(_ result: Result<any Channel, any Error>) {
        switch result {
        case .success(let channel):
            let wanted = state.withLock { state in
                if state.isOpen { state.channel = channel }
                state.hasFailed = false
                return state.isOpen
            }
            if wanted { report(nil) } else { channel.close(promise: nil) }
        case .failure(let error):
            let timer = loop.schedule(after: retryAfter) { self.attempt() }
            let (isFirst, wanted) = state.withLock { state in
                defer { state.hasFailed = true }
                state.retry = timer
                return (!state.hasFailed, state.isOpen)
            }
            if !wanted { timer.cancel() }
            if isFirst, wanted { report("cannot listen on \(address): \(error)") }
        }
    }
}
