/// A listening address with its answers. An address that is taken is tried again until it is free: losing a health
/// port to another program for a while must not stop the node's traffic (spec row 140).
import Glibc
import NIOCore
import Synchronization

/// Why an address cannot be listened on.
package struct ListenFailure: Error, Equatable, CustomStringConvertible {
    package let address: ListenAddress
    /// An errno; 0: something else.
    package let code: Int32
    package let reason: String

    init(_ address: ListenAddress, _ error: any Error) {
        self.address = address
        code = (error as? IOError)?.errnoCode ?? 0
        reason = code == 0 ? "\(error)" : String(cString: strerror(code))
    }
    package var description: String { "cannot listen on \(address): \(reason)" }
}

package final class HTTPListener: Sendable {
    package let address: ListenAddress
    private let loop: ServerLoop
    private let setup: ConnectionSetup
    private let longestPause: Duration
    /// Called with the reason at the first failure of a row, and with nil once the address is bound.
    private let report: @Sendable (ListenFailure?) -> Void
    private let state = Mutex(State())

    private struct State {
        var isOpen = false
        var channel: (any Channel)?
        /// After the failure before; nil: there was none.
        var pause: Duration?
        var retry: ServerLoop.Timer?
    }

    /// `tls`: what it shows, and it speaks HTTP/2 too. `shed`: told of who was turned out before being done.
    package init(
        _ address: ListenAddress, on loop: ServerLoop, limits: ConnectionLimits = ConnectionLimits(),
        tls: ServedCertificate? = nil, longestPause: Duration = .seconds(2),
        report: @escaping @Sendable (ListenFailure?) -> Void = { _ in },
        shed: @escaping @Sendable (ShedReason) -> Void = { _ in }, responder: @escaping HTTPResponder
    ) {
        self.address = address
        self.loop = loop
        setup = ConnectionSetup(
            connections: .makeBoxSendingValue(
                ServerConnections(limits, perPeer: tls == nil ? .max : limits.connectionsPerPeer, shed: shed),
                eventLoop: loop.loop),
            certificate: tls, responder: responder)
        self.longestPause = longestPause
        self.report = report
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
        let channel = try await loop.bind(address, setup).get()
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
        loop.bind(address, setup).whenComplete { self.finishAttempt($0) }
    }

    private func finishAttempt(_ result: Result<any Channel, any Error>) {
        switch result {
        case .success(let channel):
            let wanted = state.withLock { state in
                if state.isOpen { state.channel = channel }
                state.pause = nil
                return state.isOpen
            }
            if wanted { report(nil) } else { channel.close(promise: nil) }
        case .failure(let error):
            let isFirst = state.withLock { state in
                guard state.isOpen else { return false }
                let isFirst = state.pause == nil
                let pause = min(state.pause.map { $0 * 2 } ?? longestPause / 16, longestPause)
                state.pause = pause
                state.retry = loop.schedule(after: pause) { self.attempt() }
                return isFirst
            }
            if isFirst { report(ListenFailure(address, error)) }
        }
    }
}
