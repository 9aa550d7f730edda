/// What one relayed connection leaves behind: for metrics and the access log (spec 3.10).
import Addressing
package import Balancing
package import CertificateAuthority
package import RouteIR

package struct FlowRecord: Sendable {
    package enum Direction: String, Sendable {
        case inbound, outbound
    }
    package var direction: Direction
    package var began: Moment
    package var ended: Moment
    package var client: SocketAddress
    /// What the client wanted, and where that led.
    package var dialled: SocketAddress
    package var server: SocketAddress?
    /// The tunnel's other end; nil: plaintext.
    package var tunnel: SocketAddress?
    package var service: UpstreamID?
    /// As the client's node calls it.
    package var serviceHost: String?
    package var source: WorkloadEntry?
    package var destination: WorkloadEntry?
    package var sourceIdentity: WorkloadIdentity?
    package var destinationIdentity: WorkloadIdentity?
    /// By the client, and by the server.
    package var received: UInt64 = 0
    package var sent: UInt64 = 0
    /// Of those, what the series know already.
    var counted: (received: UInt64, sent: UInt64) = (0, 0)
    /// Both sides were there.
    package var isOpen = false
    var refusal: TunnelRefusal?
    /// Why it ended, if not in order.
    package var failure: String? { refusal?.sentence }

    init(_ direction: Direction, began: Moment, client: SocketAddress, dialled: SocketAddress) {
        (self.direction, self.began, ended, self.client, self.dialled) = (direction, began, began, client, dialled)
    }

    package var isTunnelled: Bool { tunnel != nil }
    package var duration: Duration { ended.since(began) }
}
