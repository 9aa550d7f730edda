/// What a peer may cost. Each limit has an answer of its own: see `HTTP2FaultKind`.

package struct HTTP2Limits: Sendable {
    /// Streams that the peer may have open (RFC 9113, 5.1.2).
    package var streams: UInt32 = 100
    /// Of a decoded head (RFC 9113, 6.5.2), and of a header block before it is decoded.
    package var headerList = 60 << 10
    package var headerBlock = 80 << 10
    package var continuations = 16
    package var interimAnswers = 16
    package var headerTable = 4096
    package var frame = 16 << 10
    /// What the peer may send ahead on a stream and on all; both double as they are used up, to `largestWindow`.
    package var streamWindow: UInt32 = 65_535
    package var connectionWindow: UInt32 = 1 << 20
    package var largestWindow: UInt32 = 4 << 20
    /// While so much lies with the owner unconsumed, the connection's window stays shut.
    package var unread = 4 << 20
    /// DATA frames without data, one after another: some clients end each message with one.
    package var emptyFrames = 8
    /// Resets by the peer, and streams reset for its mistakes (both leave work undone that was begun); frames that cost
    /// an answer or nothing. Each may come at once, and as many again in each half minute.
    package var resets: UInt32 = 1000
    package var controlFrames: UInt32 = 1000
    /// Answers that wait for a peer that does not read.
    package var waitingAnswers = 1024
    /// Streams we have reset and whose late frames are no mistake (RFC 9113, 5.1).
    package var rememberedResets = 1024
    package var offersExtendedConnect = false

    package init() {}
}

/// Counts what must not come too often: it leaks as fast as a half minute empties it.
struct LeakyCount: Sendable, BitwiseCopyable {
    private var level: UInt32 = 0
    private var second: UInt32 = 0

    /// False: too many.
    mutating func add(_ limit: UInt32, now: UInt32) -> Bool {
        let elapsed = now &- second
        second = now
        let leaked = elapsed >= 30 ? limit : limit / 30 * elapsed
        level = level > leaked ? level - leaked + 1 : 1
        return level <= limit
    }

    /// Work was done that explains so many of them.
    @inline(__always) mutating func excuse(_ count: UInt32) { level = level > count ? level - count : 0 }
}
