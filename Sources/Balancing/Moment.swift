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
    package func since(_ earlier: Moment) -> Duration { .nanoseconds(Int64(clamping: nanosecondsSince(earlier))) }
    package func nanosecondsSince(_ earlier: Moment) -> UInt64 {
        nanoseconds > earlier.nanoseconds ? nanoseconds - earlier.nanoseconds : 0
    }
}

extension Duration {
    /// At least zero; more than a century counts as a century.
    package var wholeNanoseconds: UInt64 {
        let attoseconds = attoseconds
        guard attoseconds >= 0 else { return 0 }
        // By hand, because divisions of 128 bits are slow and each request needs several.
        let high = UInt64(truncatingIfNeeded: attoseconds >> 64)
        let low = UInt64(truncatingIfNeeded: attoseconds)
        let (billion, century): (UInt64, UInt64) = (1_000_000_000, 3_200_000_000_000_000_000)
        return high < billion ? min(billion.dividingFullWidth((high, low)).quotient, century) : century
    }
}
