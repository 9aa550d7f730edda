/// A point in time as an argument: everything in this module is told the time, so that tests can simulate hours.

package struct Moment: Hashable, Comparable, Sendable, BitwiseCopyable {
    /// Of a clock that never goes back.
    package let nanoseconds: UInt64

    package init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }
    package static let start = Moment(nanoseconds: 0)

    package static func < (a: Moment, b: Moment) -> Bool { a.nanoseconds < b.nanoseconds }
    package static func + (a: Moment, b: Duration) -> Moment {
        Moment(nanoseconds: a.nanoseconds &+ b.wholeNanoseconds)
    }
    /// Zero if `earlier` is later.
    package func since(_ earlier: Moment) -> Duration {
        .nanoseconds(Int64(clamping: nanoseconds > earlier.nanoseconds ? nanoseconds - earlier.nanoseconds : 0))
    }
}

extension Duration {
    /// At least zero; more than a century counts as a century.
    package var wholeNanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        return UInt64(min(seconds, 3_200_000_000)) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
    }
}
