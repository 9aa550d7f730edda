/// Chooses the endpoint for a request and remembers how the endpoints fare. A value per upstream and event loop: time
/// and random numbers are arguments, nothing is shared, nothing is locked.
package import Addressing
package import RouteIR

package struct EndpointBalancer: Sendable {
    /// An endpoint with what is known of it.
    package struct Host: Sendable {
        package internal(set) var endpoint: Endpoint
        /// Requests under way.
        package internal(set) var active: UInt32 = 0
        package internal(set) var total: UInt64 = 0
        package internal(set) var record = OutlierRecord()
        /// Since when it is among its endpoints; nil: from the beginning, so it is warm.
        var since: Moment?
        /// No longer among its endpoints; kept until its last request is through.
        package internal(set) var isRemoved = false
        /// For smooth weighted round robin.
        var credit: Int64 = 0

        /// May be chosen, unless it is ejected.
        var isEligible: Bool { !isRemoved && !endpoint.isDraining && endpoint.weight > 0 }
    }
    /// A place in `hosts`. It stays the same host's as long as that is an endpoint or has requests under way.
    package typealias HostID = Int

    package private(set) var upstream: Upstream
    package internal(set) var hosts: [Host] = []
    private var byAddress: [SocketAddress: HostID] = [:]
    private let zone: String?

    /// Those to choose from: eligible, not ejected, in the own zone if that is preferred and possible.
    var candidates: [HostID] = []
    var sampler = WeightedSampler([])
    var turn = 0
    /// Over all eligible hosts; made when it is first needed.
    var maglev: (table: Maglev, hosts: [HostID])?
    /// When an ejection ends or an interval is over.
    var nextSweep: Moment
    package internal(set) var ejected = 0

    package init(_ upstream: Upstream, zone: String?, now: Moment, firstTurn: Int = 0) {
        self.upstream = upstream
        self.zone = zone
        turn = firstTurn
        nextSweep = now
        for endpoint in upstream.endpoints { insert(endpoint, since: nil) }
        refresh()
    }

    /// Takes over a new version of the upstream; what is known of endpoints that stay is kept.
    package mutating func update(_ new: Upstream, now: Moment) {
        let isFirst = !hosts.contains { !$0.isRemoved }
        upstream = new
        var kept = Set<HostID>()
        for endpoint in new.endpoints {
            if let id = byAddress[endpoint.address] {
                hosts[id].endpoint = endpoint
                kept.insert(id)
            } else {
                kept.insert(insert(endpoint, since: isFirst ? nil : now))
            }
        }
        for id in hosts.indices where !hosts[id].isRemoved && !kept.contains(id) {
            hosts[id].isRemoved = true
            byAddress[hosts[id].endpoint.address] = nil
        }
        if new.policy.outlierDetection == nil {
            for id in hosts.indices { hosts[id].record = OutlierRecord() }
        }
        maglev = nil
        nextSweep = now
        refresh()
    }

    @discardableResult private mutating func insert(_ endpoint: Endpoint, since: Moment?) -> HostID {
        let host = Host(endpoint: endpoint, since: since)
        let id = hosts.firstIndex { $0.isRemoved && $0.active == 0 } ?? hosts.count
        if id == hosts.count { hosts.append(host) } else { hosts[id] = host }
        byAddress[endpoint.address] = id
        return id
    }

    /// Works out anew who can be chosen, after a change of the endpoints or of ejections.
    mutating func refresh() {
        let eligible = hosts.indices.filter { hosts[$0].isEligible }
        ejected = eligible.count { hosts[$0].record.ejectedUntil != nil }
        var usable = eligible.filter { hosts[$0].record.ejectedUntil == nil }
        // Endpoints may have gone until only ejected ones are left: better those than nobody.
        if usable.isEmpty { usable = eligible }
        if upstream.policy.prefersOwnZone, let zone {
            let near = usable.filter { hosts[$0].endpoint.zone == zone }
            if !near.isEmpty { usable = near }
        }
        candidates = usable
        sampler = WeightedSampler(usable.map { hosts[$0].endpoint.weight })
    }

    package func host(at address: SocketAddress) -> HostID? { byAddress[address] }
    /// Whether any endpoint could be chosen now.
    package var hasCandidates: Bool { !candidates.isEmpty }

    package mutating func requestBegan(_ id: HostID) {
        hosts[id].active += 1
        hosts[id].total += 1
    }

    /// Must be called once for each `requestBegan`. True if the endpoint was ejected for it.
    @discardableResult package mutating func requestEnded(
        _ id: HostID, _ outcome: RequestOutcome?, now: Moment, using generator: inout FastGenerator
    ) -> Bool {
        hosts[id].active -= 1
        guard let outcome, let policy = upstream.policy.outlierDetection, hosts[id].isEligible,
            hosts[id].record.ejectedUntil == nil, hosts[id].record.count(outcome, policy)
        else { return false }
        let eligible = hosts.count { $0.isEligible }
        let isAllowed = ejected == 0 || (ejected + 1) * 100 <= eligible * Int(policy.maxEjectionPercent)
        guard isAllowed, eligible - ejected > 1 else {
            hosts[id].record.spared += 1
            return false
        }
        // A tenth more or less, so that endpoints ejected together do not return together.
        let tenth = policy.baseEjection.wholeNanoseconds / 10
        let jitter = Duration.nanoseconds(Int64(clamping: UInt64.random(in: 0...tenth, using: &generator)))
        hosts[id].record.eject(policy, now: now, jitter: jitter)
        nextSweep = min(nextSweep, now + policy.interval)
        refresh()
        return true
    }

    /// Ends ejections whose time is over, and forgives a little after each quiet interval.
    mutating func sweep(now: Moment) {
        guard let policy = upstream.policy.outlierDetection, now >= nextSweep else { return }
        var next = now + policy.interval
        for id in hosts.indices {
            if let until = hosts[id].record.ejectedUntil {
                if until <= now { hosts[id].record.ejectedUntil = nil } else { next = min(next, until) }
            } else if hosts[id].record.multiplier > 0 {
                hosts[id].record.multiplier -= 1
            }
        }
        nextSweep = next
        refresh()
    }
}
