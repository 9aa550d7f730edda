/// What an exchange wants of the client's side, whatever that speaks.
import HTTPWire
import NIOCore

/// Each side writes a head once, in its own form: what came, as `shard.edit` changes it. Trailers are lines of HTTP/1.
protocol ResponseSink: AnyObject {
    var speaksHTTP2: Bool { get }
    var isWritable: Bool { get }
    /// `isLast`: no body follows. Throws if this side cannot send such a head; then it has sent nothing.
    func forwardHead(_ head: MessageHead, _ bytes: ByteBuffer, isLast: Bool) throws(WireViolation)
    /// One of the proxy's own, in HTTP/1's form.
    func writeHead(_ text: ByteBuffer, isLast: Bool) throws(WireViolation)
    func writeBody(_ bytes: ByteBuffer, isLast: Bool)
    func flush()
    /// Body bytes of the request are not wanted for now; wanted again.
    func pauseRequest()
    func resumeRequest()
    /// The answer is complete, or it is cut off and the client must notice.
    func finished(_ exchange: Exchange, keepsAlive: Bool, trailers: ByteBuffer?)
    func aborted(_ exchange: Exchange)
    /// Bytes in both directions from now on.
    func becameTunnel()
    /// The backend sends no more into the tunnel.
    func tunnelEnded()
}
