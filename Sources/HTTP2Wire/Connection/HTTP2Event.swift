/// What the machine tells its owner. Fields of heads and trailers are in the list that was given to `next`, data is a
/// part of the input; both are valid until the owner calls `next` again.

package enum HTTP2Event: Sendable {
    /// A request (of a server) or the final response (of a client).
    case head(stream: UInt32, HeadFacts, isLast: Bool)
    /// 1xx: another head follows.
    case interim(stream: UInt32, HeadFacts)
    /// Each byte is the owner's until it says `consumed`, even if the stream ends or is reset before.
    case data(stream: UInt32, Range<Int>, isLast: Bool)
    case trailers(stream: UInt32)
    /// A request that is malformed, or too long. The stream is open for an answer (400, 431) and for `reset`, one of
    /// which must follow; what else comes on it is dropped.
    case malformed(stream: UInt32, HTTP2Fault)
    /// By the peer; `refusedStream` also if its GOAWAY says that it did nothing with the request.
    case reset(stream: UInt32, HTTP2Code)
    /// By us, for a mistake of the peer's; the owner may not have heard of the stream (`tooManyStreams`).
    case failed(stream: UInt32, HTTP2Fault)
    /// There is room for data again that `sendData` did not take.
    case writable(stream: UInt32)
    /// The peer's, in `peer`.
    case settings
    case goAway(lastStream: UInt32, HTTP2Code)
    /// The answer to `ping`.
    case pong(UInt64)
    /// The connection is at its end: send what is in `output` and close. All streams are gone.
    case violated(HTTP2Fault)
}

/// Why something cannot be sent. Nothing was written then.
package enum SendRefusal: Error, Hashable, Sendable {
    /// The stream is over, or was never there.
    case closed
    /// A head behind the final one, data before it, anything behind the end.
    case wrongState
    case malformed(HTTP2FaultKind)
    /// Longer than the peer's SETTINGS_MAX_HEADER_LIST_SIZE.
    case headTooLong
    /// The peer's SETTINGS_MAX_CONCURRENT_STREAMS are open: wait until one has ended.
    case tooManyStreams
    /// The peer, or we, said goodbye, or IDs have run out: take another connection.
    case goingAway
    /// The peer has not said that it knows extended CONNECT (RFC 8441, 3).
    case extendedConnectNotOffered
}
