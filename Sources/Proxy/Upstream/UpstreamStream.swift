/// What an exchange wants of the endpoint's side: a connection of HTTP/1 or a stream of HTTP/2.
import Addressing
import Balancing
import HTTP2Wire
import NIOCore
import RouteIR

/// A request's head as its endpoint gets it, kept for another try.
enum RequestHead {
    case http1(ByteBuffer)
    case http2(FieldList)

    var wire: Upstream.Wire {
        switch self {
        case .http1: .http1
        case .http2: .h2c
        }
    }
}

/// A connection that is being made.
protocol PendingUpstream: AnyObject {
    /// The exchange waits for it no more. Without anybody who waits it ends: a socket for nobody is on no account.
    func abandon(_ exchange: Exchange)
}

protocol UpstreamStream: AnyObject {
    var address: SocketAddress { get }
    var host: EndpointBalancer.HostID { get }
    /// What is known of the connection; nil: it is not made yet.
    var link: Connector.Link? { get }
    var isWritable: Bool { get }
    /// Bytes of the request that the endpoint has not taken yet.
    var pendingBytes: Int { get }
    var isClosed: Bool { get }
    /// Whether any byte of the current answer has come.
    var hasAnswered: Bool { get }
    func begin(_ exchange: Exchange)
    /// What cannot be sent is told as a failure, `.unsendable`.
    func send(head: RequestHead, isLast: Bool)
    func send(body: ByteBuffer, isLast: Bool)
    func endBody(trailers: ByteBuffer?)
    func flush()
    func closeOutput()
    func pause()
    func resume()
    /// The exchange no longer wants the answer.
    func cancel()
    /// It was not needed after all.
    func release()
}
