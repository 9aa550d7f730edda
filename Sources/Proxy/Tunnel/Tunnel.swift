/// HBONE, the tunnel of Istio's ambient mode: a TCP connection between two pods is a CONNECT stream on HTTP/2 over
/// mutual TLS 1.3 (docs/mesh.md). Names and bounds of both sides.
import Addressing
import CertificateAuthority
import HTTP2Wire
import NIOCore
import RouteIR

enum Tunnel {
    static let port = ProxyMesh.tunnelPort
    static let protocolName = "h2"
    /// What nobody reaches through a tunnel: it would come back.
    static let ownPorts: Set<UInt16> = [15001, 15006, 15008]

    /// Of one connection.
    static let streams = 100
    /// Not finished, of one pod on one loop.
    static let handshakes = 256
    /// Waiting for a certificate, on one loop.
    static let waiting = 1024
    static let handshakeTimeout: Duration = .seconds(10)
    static let connectTimeout: Duration = .seconds(10)
    static let idleTimeout: Duration = .seconds(300)
    static let pingInterval: Duration = .seconds(10)
    /// How long a connection waits for an endpoint's pod to be known, and how often it looks.
    static let podPatience: Duration = .seconds(2)
    static let podPause: TimeAmount = .milliseconds(20)
    /// How long the kernel may bring what dials a pod that has left the mesh.
    static let lingerTime: Duration = .seconds(3)
    /// Between two attempts while this node and the endpoint's may not know the same.
    static let newsPause: TimeAmount = .milliseconds(100)
    /// Nothing was heard for so long, though it was asked.
    static let silence: Duration = .seconds(20)

    /// Windows grow to what Istio's have from the start where they are used: nobody may send so much ahead on a stream
    /// that rests.
    static func limit(_ limits: inout HTTP2Limits) {
        limits.streams = UInt32(streams)
        limits.headerList = 16 << 10
        limits.headerBlock = 20 << 10
        limits.frame = 256 << 10
    }
}

/// A pod of this node as the beginning of tunnels.
struct TunnelSource: Hashable {
    /// Connections leave with its address.
    let pod: IPAddress
    let identity: WorkloadIdentity
}

/// Connections with the same route can be shared.
struct TunnelRoute: Hashable {
    let source: TunnelSource
    let destination: WorkloadIdentity
    let address: IPAddress
}

/// What the server's node is told of who calls.
struct TunnelCaller {
    let client: SocketAddress
    /// The service that was dialled, in DNS.
    let service: String?
    let workload: WorkloadEntry?
    /// Of the request that a connection is made for.
    var trace: TraceContext?
}

/// How an endpoint is reached.
enum Way {
    case plain
    case tunnel(TunnelRoute, TunnelCaller)
    /// It must be a tunnel, and none can be.
    case none(TunnelRefusal)

    var route: TunnelRoute? { if case .tunnel(let route, _) = self { route } else { nil } }
}

/// Why there is no tunnel, in a sentence for whoever has to do something about it.
struct TunnelRefusal: Error, Hashable {
    enum Kind: String, CaseIterable {
        /// Somebody has no identity, or no certificate for it.
        case identity
        /// Whether the endpoint's pod is in the mesh is not known.
        case unknownPod = "unknown-pod"
        case unknownRoot = "unknown-root"
        case expired
        case wrongIdentity = "wrong-identity"
        /// The other side refused our certificate.
        case refusedByPeer = "refused-by-peer"
        case handshake
        case connect
        /// A connection ended in the middle.
        case reset
        case badRequest = "bad-request"
        case application
        /// The server's policies do not let this client in.
        case policy
        case overload
    }
    let kind: Kind
    let sentence: String

    init(_ kind: Kind, _ sentence: String) { (self.kind, self.sentence) = (kind, sentence) }

    static func unknownPod(_ address: IPAddress) -> TunnelRefusal {
        TunnelRefusal(
            .unknownPod,
            "no Pod is known that has \(address), where an EndpointSlice says that one is: it may be in the mesh, so "
                + "nothing is sent to it in the clear; see the watches of pods in agentctl status")
    }
    /// Whether the endpoint's pod may have joined the mesh, or left it, and not everybody knows yet.
    var mayBeNews: Bool {
        switch kind {
        case .identity, .refusedByPeer, .handshake, .connect, .reset, .badRequest: true
        case .unknownPod, .unknownRoot, .expired, .wrongIdentity, .application, .policy, .overload: false
        }
    }
    static let noMesh = TunnelRefusal(.identity, "this node is in no mesh any more")

    /// What CONNECT is answered with (spec 3.2).
    var status: UInt16 {
        switch kind {
        case .application: 503
        case .policy: 401
        default: 400
        }
    }
}
