/// How far this node is: up to which version of the API server everything that was told is in force. A version belongs
/// to the compilation that contained it, so that it moves on however often something changes; it never goes back.
package import Cluster

package struct Marks: Sendable {
    package typealias Versions = [ObjectKind: String]

    private struct Mark: Sendable {
        var versions: Versions = [:]
        /// Of the hand-over that contains them.
        var generation: UInt64 = 0
        /// When the kernel had it.
        var since = Duration.zero
    }

    private var taken: Versions = [:]
    /// There are some that no compilation has contained yet, and a compilation of which the kernel may not have all.
    private var hasTaken = false
    private var hasCompiled = false
    private var compiled = Mark()
    private var inPlan: Mark?
    /// What the kernel has and the proxies have not: the oldest, which the next acknowledgement ends however many come
    /// after it, and the newest.
    private var unacknowledged: (oldest: Mark, newest: Mark?)?

    /// In the kernel.
    package private(set) var written: Versions = [:]
    /// And with every proxy that takes new connections.
    package private(set) var acknowledged: Versions = [:]
    /// Since when the oldest that is in the kernel waits for the proxies.
    package var waitsForProxySince: Duration? { unacknowledged?.oldest.since }

    mutating func take(_ versions: Versions) {
        taken.merge(versions) { $1 }
        hasTaken = true
    }

    /// Everything that was taken in is compiled, and handed over with this generation at the latest.
    mutating func compiled(_ generation: UInt64) {
        guard hasTaken else { return }
        (hasTaken, hasCompiled) = (false, true)
        compiled = Mark(versions: taken, generation: generation)
    }

    /// The plan that is made now contains all of it.
    mutating func planned() { (inPlan, hasCompiled) = (compiled, false) }

    /// The last plan is in the kernel. One that failed is followed by another that contains as much.
    mutating func written(now: Duration) {
        guard let mark = inPlan.take() else { return }
        note(mark, now)
    }

    /// The kernel needs nothing more.
    mutating func nothingIsPending(now: Duration) {
        guard hasCompiled else { return }
        hasCompiled = false
        note(compiled, now)
    }

    private mutating func note(_ mark: Mark, _ now: Duration) {
        written = mark.versions
        var mark = mark
        mark.since = now
        if let oldest = unacknowledged?.oldest {
            unacknowledged = (oldest, mark)
        } else {
            unacknowledged = (mark, nil)
        }
    }

    /// Every proxy that takes new connections has this generation or a later one; nil: there is none.
    mutating func acknowledged(_ generation: UInt64?, now: Duration) {
        guard let generation else { return }
        while let (oldest, newest) = unacknowledged, oldest.generation <= generation {
            acknowledged = oldest.versions
            unacknowledged = newest.map { ($0, nil) }
        }
    }
}
