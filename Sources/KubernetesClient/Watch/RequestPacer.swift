/// How often an API server is asked for one kind of object. No request goes out past it, and whoever wants one must say
/// first how the last one ended: so no answer, not even one that nobody thought of, can become a loop.

struct RequestPacer {
    /// When the next request may go out.
    enum Pace: Equatable {
        /// At once while there is credit, after a moment up to `spread`; then after growing pauses, up to `longest`.
        case soon(spread: Duration = .zero, longest: Duration = .seconds(3600))
        /// The list goes on: up to twenty pages a second, the first fifty at once.
        case nextPage
        /// After a pause that grows, and not before what was asked for.
        case backOff(atLeast: Duration = .zero)
        /// Longer than any pause between failures.
        case after(Duration)
    }
    private enum Gate {
        case open
        case closed(Duration)
        /// A request is out.
        case taken
    }

    private static let fullCredit = 4.0
    /// A watch that lives so long pays for one request.
    private static let price = Duration.seconds(10)
    private static let pageBurst = 50.0
    private static let pageInterval = Duration.milliseconds(50)

    private var backoff: Backoff
    private var gate = Gate.open
    private var credit = fullCredit
    private var pageCredit = pageBurst
    private var pagesCountedAt: Duration?

    init(backoff: Backoff) { self.backoff = backoff }

    /// nil: the request may go out now. Otherwise: ask again after so long.
    mutating func admit() -> Duration? {
        switch gate {
        case .open:
            gate = .taken
            return nil
        case .closed(let pause):
            gate = .open
            return pause
        case .taken:
            gate = .open
            return backoff.longest
        }
    }

    /// The last request has ended. False: pauses grow now, and somebody should be told.
    mutating func ended(_ pace: Pace, now: Duration, using random: inout some RandomNumberGenerator) -> Bool {
        switch pace {
        case .soon(let spread, let longest):
            guard credit >= 1 else {
                gate = .closed(min(backoff.next(using: &random), longest))
                return false
            }
            credit -= 1
            gate = spread > .zero ? .closed(spread * Double.random(in: 0...1, using: &random)) : .open
        case .nextPage:
            let earned = pagesCountedAt.map { (now - $0) / Self.pageInterval } ?? 0
            pagesCountedAt = now
            pageCredit = min(pageCredit + earned, Self.pageBurst)
            gate = pageCredit >= 1 ? .open : .closed(Self.pageInterval * (1 - pageCredit))
            pageCredit -= 1
        case .backOff(let least):
            gate = .closed(least + backoff.next(using: &random))
            return false
        case .after(let pause): gate = .closed(pause)
        }
        return true
    }

    /// A watch lived: only that earns credit. Time that passes while all is trouble does not.
    mutating func lived(_ life: Duration) { credit = min(credit + life / Self.price, Self.fullCredit) }

    /// A watch lived long enough for all to be well.
    mutating func forgetFailures() { backoff.reset() }
}
