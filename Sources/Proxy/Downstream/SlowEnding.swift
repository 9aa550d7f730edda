/// The end of a client's connection: the client may take what it has coming as slowly as it likes, as long as it takes
/// any of it.
import Balancing

struct SlowEnding {
    /// Of a client that has everything and does not close.
    private static let grace = Duration.seconds(2)

    /// When it last took something, and how much was left then.
    private var since: Moment
    private var unsent: Int

    init(since: Moment = .start, unsent: Int = 0) {
        self.since = since
        self.unsent = unsent
    }

    var isSent: Bool { unsent == 0 }

    mutating func isOver(_ now: Moment, unsent: Int, patience: Duration) -> Bool {
        if unsent < self.unsent { self = SlowEnding(since: now, unsent: unsent) }
        return now.since(since) > (isSent ? Self.grace : patience)
    }
}
