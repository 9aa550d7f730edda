/// The choice itself, for each kind of balancing.
import Addressing
import RouteIR

extension EndpointBalancer {
    /// The endpoint for a request; nil: there is none. `hash` is that of the first hash input the request has; `tried`
    /// are not taken again as long as there are others.
    package mutating func pick(
        hash: UInt64? = nil, tried: [HostID] = [], now: Moment, using generator: inout FastGenerator
    ) -> HostID? {
        sweep(now: now)
        guard !candidates.isEmpty else { return nil }
        var choice: HostID?
        // Envoy's number of reselections; with few candidates the scan below finds what chance does not.
        for _ in 0..<(tried.isEmpty ? 1 : 6) {
            choice = pickWarm(hash: hash, now: now, &generator)
            guard let choice, tried.contains(choice) else { return choice }
        }
        return candidates.first { !tried.contains($0) } ?? choice
    }

    private mutating func pickOnce(hash: UInt64?, _ generator: inout FastGenerator) -> HostID? {
        switch upstream.policy.loadBalancing {
        case .leastRequest: leastOfTwo(&generator)
        case .random: draw(&generator)
        case .roundRobin: nextInTurn()
        case .consistentHash:
            if let hash { byHash(hash) } else { draw(&generator) }
        }
    }

    private func draw(_ generator: inout FastGenerator) -> HostID? {
        sampler.draw(using: &generator).map { candidates[$0] }
    }

    /// The less loaded of two different ones; load counts relative to weight.
    private func leastOfTwo(_ generator: inout FastGenerator) -> HostID? {
        guard candidates.count > 1 else { return candidates.first }
        guard let first = sampler.draw(using: &generator) else { return nil }
        var second: Int
        if sampler.isUniform {
            second = generator.next(below: candidates.count - 1)
            if second >= first { second += 1 }
        } else {
            second = sampler.draw(using: &generator) ?? first
        }
        let (a, b) = (candidates[first], candidates[second])
        let (loadOfA, loadOfB) = (UInt64(hosts[a].active + 1), UInt64(hosts[b].active + 1))
        let isFirstLess =
            loadOfA * UInt64(hosts[b].endpoint.weight) <= loadOfB * UInt64(hosts[a].endpoint.weight)
        return isFirstLess ? a : b
    }

    /// With weights: smooth weighted round robin, which spreads the turns of a heavy endpoint evenly.
    private mutating func nextInTurn() -> HostID? {
        if sampler.isUniform {
            turn = (turn &+ 1) % candidates.count
            return candidates[turn]
        }
        var total: Int64 = 0
        var best: HostID?
        for id in candidates {
            let weight = Int64(hosts[id].endpoint.weight)
            hosts[id].credit += weight
            total += weight
            if best.map({ hosts[id].credit > hosts[$0].credit }) ?? true { best = id }
        }
        if let best { hosts[best].credit -= total }
        return best
    }

    /// The endpoint of the key's slot, or of the next slot whose endpoint can be chosen: the others' keys stay.
    private mutating func byHash(_ hash: UInt64) -> HostID? {
        let (table, owners) = maglevTable()
        guard !table.slots.isEmpty else { return nil }
        let start = table.slot(for: hash)
        for step in 0..<Maglev.size {
            let id = owners[Int(table.slots[(start + step) % Maglev.size])]
            if hosts[id].record.ejectedUntil == nil { return id }
        }
        return owners[Int(table.slots[start])]
    }

    private mutating func maglevTable() -> (table: Maglev, hosts: [HostID]) {
        if let maglev { return maglev }
        let eligible = hosts.indices.filter { hosts[$0].isEligible }.sorted {
            hosts[$0].endpoint.address < hosts[$1].endpoint.address
        }
        let keys = eligible.map { stableHash(hosts[$0].endpoint.address.description.utf8) }
        let made = (Maglev(keys: keys, weights: eligible.map { hosts[$0].endpoint.weight }), eligible)
        maglev = made
        return made
    }

    /// A new endpoint gets a growing share: a choice of it stands with a probability that rises to one. Keys are not
    /// moved for that.
    private mutating func pickWarm(
        hash: UInt64?, now: Moment, _ generator: inout FastGenerator
    ) -> HostID? {
        var choice = pickOnce(hash: hash, &generator)
        guard let policy = upstream.policy.warmup, candidates.count > 1, hash == nil else { return choice }
        for _ in 0..<8 {
            guard let id = choice, let share = warmShare(hosts[id], policy, now),
                generator.nextFraction() >= share
            else { return choice }
            choice = pickOnce(hash: nil, &generator)
        }
        return choice
    }

    /// nil: it is warm.
    private func warmShare(_ host: Host, _ policy: UpstreamPolicy.Warmup, _ now: Moment) -> Double? {
        guard let since = host.since, policy.duration > .zero else { return nil }
        let age = now.since(since)
        guard age < policy.duration else { return nil }
        return max(Double(policy.minimumPercent) / 100, age / policy.duration)
    }
}
