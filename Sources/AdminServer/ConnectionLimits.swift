/// How much of a small server its clients may take up. Health ports are open to whoever reaches the node, and a load
/// balancer that gets no answer there takes the node out; the controller's doors are open to every pod.
import NIOCore

package struct ConnectionLimits: Sendable {
    /// One more, and the one makes room that has kept us waiting for the longest, of those of the peer that has the
    /// most. Handshakes count.
    package var connections = 128
    /// Of one address, behind TLS: a pod may not have them all, whatever it does with them.
    package var connectionsPerPeer = 64
    /// Head and body of one request together.
    package var requestBytes = 16 << 10
    /// Requests of all connections together, until they are answered; more, and room is made in the same way.
    package var heldBytes = 32 << 20
    /// Requests sent ahead of the answers, over HTTP/1.1.
    package var requestsAhead = 16
    /// Requests at once on one HTTP/2 connection; together they are no larger than two.
    package var streams = 32
    /// From the connection, or a later request's first byte, to the request's end; with TLS once more for it.
    package var request = Duration.seconds(10)
    /// Between an answer and the next request's first byte.
    package var idle = Duration.seconds(90)
    /// From an answer to its last byte having gone out.
    package var answer = Duration.seconds(30)
    /// An older connection ends with its next answer; over HTTP/2 it is told to, and has the time of an answer for it.
    package var age = Duration.seconds(600)

    package init() {}
}

/// Why a connection, or a request of it over HTTP/2, was ended before its client was done.
package enum ShedReason: String, CaseIterable, Sendable {
    case tooMany = "too-many"
    case slowRequest = "slow-request"
    case largeRequest = "large-request"
    case slowReader = "slow-reader"
    /// Pings, resets and frames that ask for work and carry nothing.
    case frameFlood = "frame-flood"
}

/// A connection of a listener, whatever it speaks.
protocol OpenConnection: AnyObject {
    var isWaitingForClient: Bool { get }
    var waitingSince: NIODeadline { get }
    var peer: String { get }
    /// Of requests that are not answered yet.
    var heldBytes: Int { get }
    /// `reason`: nil for an orderly end.
    func close(_ reason: ShedReason?)
}

/// The open connections of one listener. Lives on the loop.
final class ServerConnections {
    let limits: ConnectionLimits
    let shed: @Sendable (ShedReason) -> Void
    private let perPeer: Int
    private var open: [ObjectIdentifier: any OpenConnection] = [:]
    private var openOfPeer: [String: Int] = [:]
    private var heldBytes = 0

    init(_ limits: ConnectionLimits, perPeer: Int, shed: @escaping @Sendable (ShedReason) -> Void) {
        self.limits = limits
        self.perPeer = perPeer
        self.shed = shed
    }

    /// Whoever asks at once is answered before anything else is accepted: only who keeps us waiting is turned out.
    func add(_ connection: any OpenConnection) {
        open[ObjectIdentifier(connection)] = connection
        let ofPeer = openOfPeer[connection.peer, default: 0] + 1
        openOfPeer[connection.peer] = ofPeer
        if ofPeer > perPeer {
            _ = makeRoom { $0.peer == connection.peer }
        } else if open.count > limits.connections {
            _ = makeRoom { _ in true }
        }
    }
    /// `reason`: nil for an orderly end.
    func remove(_ connection: any OpenConnection, _ reason: ShedReason?) {
        guard open.removeValue(forKey: ObjectIdentifier(connection)) != nil else { return }
        let ofPeer = openOfPeer[connection.peer, default: 1] - 1
        openOfPeer[connection.peer] = ofPeer > 0 ? ofPeer : nil
        heldBytes -= connection.heldBytes
        if let reason { shed(reason) }
    }
    /// Tells of bytes that a connection holds already. It may be closed when this returns.
    func held(_ count: Int) {
        heldBytes += count
        while heldBytes > limits.heldBytes, makeRoom(where: { $0.heldBytes > 0 }) {}
    }
    func released(_ count: Int) { heldBytes -= count }

    /// Whoever takes the most room gives it: nobody takes it from the others by connecting over and over.
    private func makeRoom(where frees: (any OpenConnection) -> Bool) -> Bool {
        let mayEnd = open.values.filter { $0.isWaitingForClient && frees($0) }
        let counts = mayEnd.reduce(into: [:]) { $0[$1.peer, default: 0] += 1 }
        let most = counts.values.max()
        let victim = mayEnd.filter { counts[$0.peer] == most }.min { $0.waitingSince < $1.waitingSince }
        victim?.close(.tooMany)
        return victim != nil
    }
}
