/// How often one requester and all together may ask. What is kept is bounded by the limit of all, since only requests
/// that it lets through leave a trace. Times are in milliseconds of a clock that never goes back.

package struct RequestLimits: Sendable {
    /// `burst` at once, and after that one each `interval`.
    package struct Rate: Equatable, Sendable {
        package let burst: Int
        package let interval: Int

        package init(burst: Int, interval: Int) { (self.burst, self.interval) = (max(1, burst), max(1, interval)) }
    }

    package let each: Rate
    package let all: Rate
    /// When a requester's allowance is whole again.
    private var wholeAt: [String: Int] = [:]
    private var allWholeAt = Int.min

    /// A node asks for each of its ServiceAccounts twice a day; after a restart for all at once.
    package init(each: Rate = Rate(burst: 250, interval: 500), all: Rate = Rate(burst: 1000, interval: 10)) {
        (self.each, self.all) = (each, all)
    }

    /// More requesters than this cannot be without their whole allowance at one time.
    package var maximumTraces: Int { all.burst + each.burst * each.interval / all.interval + 1 }
    package var traces: Int { wholeAt.count }

    package mutating func take(_ requester: String, now: Int) throws(Refusal) {
        guard let next = each.after(wholeAt[requester], now: now) else {
            throw Refusal(.tooMany, "\(shown(requester)) asks more often than once in \(each.interval) ms")
        }
        guard let nextOfAll = all.after(allWholeAt, now: now) else {
            throw Refusal(.tooMany, "all together ask more often than once in \(all.interval) ms")
        }
        (wholeAt[requester], allWholeAt) = (next, nextOfAll)
        // At twice the bound half of them are whole again: forgetting costs a constant per request.
        if wholeAt.count > 2 * maximumTraces { wholeAt = wholeAt.filter { $0.value > now } }
    }
}

extension RequestLimits.Rate {
    /// nil: the allowance is used up.
    fileprivate func after(_ wholeAt: Int?, now: Int) -> Int? {
        let start = max(wholeAt ?? now, now)
        return start - now <= (burst - 1) * interval ? start + interval : nil
    }
}
