/// How long to wait after failures: longer each time, and never at the same moment as all the other nodes that lost the
/// same server.

struct Backoff {
    /// The longest wait after the first failure; it doubles with each further one.
    var first = Duration.milliseconds(800)
    var longest = Duration.seconds(30)
    /// Failures are forgotten once a watch was good for so long.
    static let health = Duration.seconds(60)

    private(set) var failures = 0

    mutating func reset() { failures = 0 }

    /// From half the limit to the limit: spread, and never so short that many of them fit into a moment.
    mutating func next(using random: inout some RandomNumberGenerator) -> Duration {
        let limit = min(first * (1 << min(failures, 10)), longest)
        failures += 1
        return limit * Double.random(in: 0.5...1, using: &random)
    }
}
