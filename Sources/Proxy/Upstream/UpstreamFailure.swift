/// What an endpoint's side says to the exchange when nothing comes of a try.
import HTTP2Wire
import HTTPWire

/// Why an endpoint's side has no WebSocket for a client that speaks the other version of HTTP.
enum NoWebSocket {
    /// Its SETTINGS do not say that it knows extended CONNECT (RFC 8441, 3).
    case notOffered
    /// It answered the request as if it asked for nothing more.
    case ignored(status: UInt16)
    /// Its 101 does not answer the key (RFC 6455, 4.1).
    case badAnswer
}

/// Why an attempt came to nothing.
enum UpstreamFailure {
    case unreachable(Connector.Failure)
    /// The endpoint said that it did nothing with the request.
    case refused
    /// The same, because it ends the connection, as servers do in order after so many requests.
    case leaving
    /// It cut the request off, which it cannot have done without seeing it.
    case reset
    case closed
    /// The request's head or trailer cannot be sent to an endpoint of HTTP/2.
    case unsendable(WireViolation)
    case violation(WireViolation)
    /// The same of an endpoint that speaks HTTP/2, whose stream was reset for it.
    case malformed(HTTP2Fault)
    /// Of an answer with this status, whose head the client does not take: no fault of the endpoint's.
    case unwanted(WireViolation, status: UInt16)
    case noWebSocket(NoWebSocket)
    case timeout
}
