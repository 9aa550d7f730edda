/// How much of a small server its clients may take up. Health ports are open to whoever reaches the node, and a load
/// balancer that gets no answer there takes the node out.
import NIOCore

package struct ConnectionLimits: Sendable {
    /// One more, and the connection that has kept its client waited for the longest makes room.
    package var connections = 128
    /// Head and body together; no question here has a body.
    package var requestBytes = 16 << 10
    /// Requests sent ahead of the answers.
    package var requestsAhead = 16
    /// From the connection, or a later request's first byte, to the request's end.
    package var request = Duration.seconds(10)
    /// Between an answer and the next request's first byte.
    package var idle = Duration.seconds(90)
    /// From an answer to its last byte having gone out.
    package var answer = Duration.seconds(30)
    /// An older connection ends with its next answer.
    package var age = Duration.seconds(600)

    package init() {}
}

/// Why a connection was closed before its client was done.
package enum ShedReason: String, CaseIterable, Sendable {
    case tooMany = "too-many"
    case slowRequest = "slow-request"
    case largeRequest = "large-request"
    case slowReader = "slow-reader"
}

/// The open connections of one listener. Lives on the loop.
final class ServerConnections {
    let limits: ConnectionLimits
    private let shed: @Sendable (ShedReason) -> Void
    private var open: [ObjectIdentifier: HTTPConnection] = [:]

    init(_ limits: ConnectionLimits, shed: @escaping @Sendable (ShedReason) -> Void) {
        self.limits = limits
        self.shed = shed
    }

    /// Whoever asks at once is answered before anything else is accepted: only who keeps us waiting is turned out.
    func add(_ connection: HTTPConnection) {
        open[ObjectIdentifier(connection)] = connection
        guard open.count > limits.connections else { return }
        open.values.filter(\.isWaitingForClient).min { $0.waitingSince < $1.waitingSince }?.close(.tooMany)
    }
    /// `reason`: nil for an orderly end.
    func remove(_ connection: HTTPConnection, _ reason: ShedReason?) {
        guard open.removeValue(forKey: ObjectIdentifier(connection)) != nil, let reason else { return }
        shed(reason)
    }
}
