/// How much may be under way to one upstream at a time (spec 6.4) and how many of that may be retries (spec 6.3).
package import RouteIR

/// Counts of one event loop. A limit is split evenly over the loops, each of which may always have one: a little may be
/// exceeded, nothing is ever locked.
package struct PoolLoad: Hashable, Sendable {
    package private(set) var connections: UInt32 = 0
    package private(set) var pending: UInt32 = 0
    package private(set) var requests: UInt32 = 0
    package private(set) var retries: UInt32 = 0
    private let shards: UInt32

    package init(shards: Int = 1) { self.shards = UInt32(clamping: max(1, shards)) }

    private func isBelow(_ count: UInt32, _ limit: UInt32?) -> Bool {
        limit.map { count < max(1, $0 / shards) } ?? true
    }

    package func mayConnect(_ policy: UpstreamPolicy) -> Bool { isBelow(connections, policy.maxConnections) }
    package mutating func connectionOpened() { connections += 1 }
    package mutating func connectionClosed() { connections -= 1 }

    package func mayWait(_ policy: UpstreamPolicy) -> Bool { isBelow(pending, policy.maxPendingRequests) }
    package mutating func waitBegan() { pending += 1 }
    package mutating func waitEnded() { pending -= 1 }

    package func mayRequest(_ policy: UpstreamPolicy) -> Bool { isBelow(requests, policy.maxRequests) }
    package mutating func requestBegan() { requests += 1 }
    package mutating func requestEnded() { requests -= 1 }

    /// A share of what is under way, but always a few, or a quiet service could not retry at all.
    package func mayRetry(_ budget: UpstreamPolicy.RetryBudget) -> Bool {
        let share = UInt64(requests + pending) * UInt64(budget.percent) / 100
        return UInt64(retries) < max(share, UInt64(budget.minConcurrency))
    }
    package mutating func retryBegan() { retries += 1 }
    package mutating func retryEnded() { retries -= 1 }
}

extension RetryPolicy {
    /// The pause before the `number`th retry, counted from 1: at least `backoff`, doubling up to ten times that, and a
    /// random part of the same size, so that clients do not come back in step.
    package func pause(before number: UInt32, using generator: inout FastGenerator) -> Duration {
        let least = min(backoff * (1 << min(number - 1, 10)), backoff * 10)
        let nanoseconds = least.wholeNanoseconds
        return least + .nanoseconds(Int64(clamping: UInt64.random(in: 0...nanoseconds, using: &generator)))
    }
}
