/// What a peer may cost. Each limit has an answer of its own: see `HTTP2FaultKind`.

package struct HTTP2Limits: Sendable {
    /// Streams that the peer may have open (RFC 9113, 5.1.2).
    package var streams: UInt32 = 100
    /// Of a decoded head (RFC 9113, 6.5.2), and of a header block before it is decoded.
    package var headerList = 60 << 10
    package var headerBlock = 80 << 10
    package var continuations = 16
    package var interimAnswers: UInt8 = 16
    package var headerTable = 4096
    package var frame = 16 << 10
    /// What the peer may send ahead on a stream and on all; both double as they are used up, to `largestWindow`.
    package var streamWindow: UInt32 = 65_535
    package var connectionWindow: UInt32 = 1 << 20
    package var largestWindow: UInt32 = 4 << 20
    /// By how much the windows of all streams may grow together; each takes half of what is left at most.
    package var streamGrowth: UInt32 = 8 << 20
    /// While so much lies with the owner unconsumed, and what the streams have grown by, the connection's window stays
    /// shut: a stream that grew and is read no more takes nothing from the others.
    package var unread = 4 << 20
    /// DATA frames without data, one after another: some clients end each message with one.
    package var emptyFrames = 8
    /// Resets by a client, and streams reset for mistakes (both leave work undone that was begun); frames that cost an
    /// answer or nothing. Each may come at once, and as many again in each half minute.
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
    /// Below zero: excused beforehand.
    private var level: Int64 = 0
    private var second: UInt32 = 0

    /// False: too many.
    mutating func add(_ limit: UInt32, now: UInt32) -> Bool {
        let elapsed = now &- second
        second = now
        if level > 0 { level = max(0, level - Int64(elapsed >= 30 ? limit : limit / 30 * elapsed)) }
        level += 1
        return level <= Int64(limit)
    }

    /// Work was done that explains so many of them, of which `credit` may come later.
    @inline(__always) mutating func excuse(_ count: Int64, credit: Int64 = 0) {
        level = max(level - count, min(level, -credit))
    }
}
