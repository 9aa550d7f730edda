/// Stands behind TLS until both sides know each other, and then gives its place to HTTP/2: before that nothing of
/// either is looked at or sent.
import Balancing
import CertificateAuthority
import Glibc
import NIOCore
import NIOSSL
import NIOTLS

final class TunnelHandshake: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer
    typealias Check = (PeerCheck.Facts) throws(TunnelRefusal) -> WorkloadIdentity

    private let tls: NIOSSLHandler
    /// What TLS believes.
    private let roots: [[UInt8]]
    private let check: Check
    /// Called once. `install` what comes next from inside it.
    private var then: ((Result<TunnelPeer, TunnelRefusal>) -> Void)?
    private var refusal: TunnelRefusal?
    private var timer: Scheduled<Void>?

    init(
        _ tls: NIOSSLHandler, roots: [[UInt8]], check: @escaping Check,
        then: @escaping (Result<TunnelPeer, TunnelRefusal>) -> Void
    ) {
        (self.tls, self.roots, self.check, self.then) = (tls, roots, check, then)
    }

    func handlerAdded(context: ChannelHandlerContext) {
        let limit = TimeAmount.nanoseconds(Int64(clamping: Tunnel.handshakeTimeout.wholeNanoseconds))
        timer = context.eventLoop.assumeIsolated().scheduleTask(in: limit) {
            self.refusal = TunnelRefusal(.handshake, "TLS was not set up within \(Tunnel.handshakeTimeout)")
            context.close(promise: nil)
        }
    }
    func handlerRemoved(context: ChannelHandlerContext) { timer?.cancel() }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard case TLSUserEvent.handshakeCompleted(let name)? = event as? TLSUserEvent else {
            return context.fireUserInboundEventTriggered(event)
        }
        do throws(TunnelRefusal) {
            guard let certificate = tls.peerCertificate else {
                throw TunnelRefusal(.handshake, "the peer has shown no certificate")
            }
            let facts = PeerCheck.Facts(certificate)
            let peer = TunnelPeer(try check(facts), facts, certificate, roots: roots)
            guard name == Tunnel.protocolName else {
                throw TunnelRefusal(.handshake, "the peer does not speak HTTP/2 (ALPN h2)")
            }
            finish(.success(peer))
            context.pipeline.syncOperations.removeHandler(self, promise: nil)
        } catch {
            finish(.failure(error))
            context.close(promise: nil)
        }
    }

    private func finish(_ result: Result<TunnelPeer, TunnelRefusal>) {
        let then = then
        self.then = nil
        timer?.cancel()
        then?(result)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        finish(.failure(refusal ?? explain(error)))
        context.close(promise: nil)
    }
    func channelInactive(context: ChannelHandlerContext) {
        finish(
            .failure(refusal ?? TunnelRefusal(.reset, "the peer closed the connection before TLS was set up")))
        context.fireChannelInactive()
    }

    private func explain(_ error: any Error) -> TunnelRefusal {
        if let error = error as? IOError {
            return TunnelRefusal(.connect, "the connection failed: \(String(cString: strerror(error.errnoCode)))")
        }
        let text = "\(error)"
        if text.contains("eofDuringHandshake") || text.contains("uncleanShutdown") {
            return TunnelRefusal(.reset, "the peer closed the connection before TLS was set up")
        }
        guard text.contains("CERTIFICATE_VERIFY_FAILED") else { return tlsRefusal(text) }
        // TLS says only that it is not good.
        if let certificate = tls.peerCertificate,
            let late = PeerCheck.lateness(PeerCheck.Facts(certificate), at: wallClock())
        {
            return late
        }
        return TunnelRefusal(
            .unknownRoot,
            "the peer's certificate leads to no root that this node believes: it is of another mesh, or "
                + "the roots here are old")
    }
}

let refusedCertificate =
    "it refuses our certificate: it may expect another identity or trust domain, and its log says why"

/// What an error of TLS means. Alerts are what the other side says.
func tlsRefusal(_ text: String) -> TunnelRefusal {
    if text.contains("ALERT") {
        let reason =
            text.contains("UNKNOWN_CA")
            ? "it does not believe the root of our certificate"
            : text.contains("CERTIFICATE_EXPIRED")
                ? "it finds our certificate expired: look at both clocks"
                : text.contains("PROTOCOL_VERSION")
                    ? "it does not speak TLS 1.3"
                    : refusedCertificate
        return TunnelRefusal(.refusedByPeer, "the peer ended TLS: \(reason)")
    }
    if text.contains("PEER_DID_NOT_RETURN_A_CERTIFICATE") {
        return TunnelRefusal(.handshake, "the peer has shown no certificate")
    }
    if text.contains("WRONG_VERSION_NUMBER") || text.contains("HTTP_REQUEST") {
        return TunnelRefusal(.handshake, "the peer does not speak TLS")
    }
    if text.contains("UNSUPPORTED_PROTOCOL") || text.contains("NO_SUPPORTED_VERSIONS") {
        return TunnelRefusal(.handshake, "the peer does not speak TLS 1.3")
    }
    return TunnelRefusal(.handshake, "TLS with the peer failed")
}
