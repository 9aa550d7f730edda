/// Who is chosen: distributions by chi-square with fixed seeds, and exact sequences where the choice is not random.
import Addressing
import Balancing
import RouteIR
import Testing
import TestSupport

@Suite struct PickTests {
    /// Picks `count` times, each request ended at once.
    private func counts(_ balancer: inout EndpointBalancer, _ count: Int, seed: UInt64 = 7) -> [Int] {
        var generator = FastGenerator(seed: seed)
        var counts = Array(repeating: 0, count: balancer.hosts.count)
        for _ in 0..<count {
            if let id = balancer.pick(now: .start, using: &generator) { counts[id] += 1 }
        }
        return counts
    }

    @Test(arguments: [UpstreamPolicy.LoadBalancing.leastRequest, .random])
    func equalEndpointsGetEqualShares(_ kind: UpstreamPolicy.LoadBalancing) {
        var balancer = EndpointBalancer(
            upstream((0..<10).map { endpoint($0) }) { $0.loadBalancing = kind }, zone: nil, now: .start)
        // 27.9: one in a thousand with nine degrees of freedom.
        #expect(chiSquare(counts(&balancer, 10_000), shares: Array(repeating: 1, count: 10)) < 27.9)
    }

    @Test func randomFollowsWeights() {
        let endpoints = [
            endpoint(0, weight: 1), endpoint(1, weight: 2), endpoint(2, weight: 7), endpoint(3, weight: 0),
        ]
        var balancer = EndpointBalancer(upstream(endpoints) { $0.loadBalancing = .random }, zone: nil, now: .start)
        let counts = counts(&balancer, 10_000)
        #expect(chiSquare(Array(counts[..<3]), shares: [1, 2, 7]) < 13.8)
        #expect(counts[3] == 0)
    }

    @Test func roundRobinGoesRound() {
        var balancer = EndpointBalancer(
            upstream((0..<3).map { endpoint($0) }) { $0.loadBalancing = .roundRobin }, zone: nil, now: .start)
        #expect(counts(&balancer, 9) == [3, 3, 3])
        var weighted = EndpointBalancer(
            upstream([endpoint(0, weight: 5), endpoint(1, weight: 1), endpoint(2, weight: 1)]) {
                $0.loadBalancing = .roundRobin
            }, zone: nil, now: .start)
        var generator = FastGenerator(seed: 1)
        let sequence = (0..<7).map { _ in weighted.pick(now: .start, using: &generator) }
        #expect(sequence == [0, 0, 1, 0, 2, 0, 0])
    }

    @Test func leastRequestAvoidsTheBusy() {
        var balancer = EndpointBalancer(upstream([endpoint(0), endpoint(1)]), zone: nil, now: .start)
        balancer.requestBegan(0)
        #expect(counts(&balancer, 100) == [0, 100])
        // Twice the weight carries twice the load.
        var weighted = EndpointBalancer(
            upstream([endpoint(0, weight: 2), endpoint(1, weight: 1)]), zone: nil, now: .start)
        var generator = FastGenerator(seed: 3)
        for _ in 0..<3000 {
            if let id = weighted.pick(now: .start, using: &generator) { weighted.requestBegan(id) }
        }
        #expect(chiSquare(weighted.hosts.map { Int($0.active) }, shares: [2, 1]) < 1)
    }

    @Test func triedEndpointsAreNotTakenAgain() {
        var balancer = EndpointBalancer(upstream((0..<4).map { endpoint($0) }), zone: nil, now: .start)
        var generator = FastGenerator(seed: 5)
        for _ in 0..<200 {
            #expect(balancer.pick(tried: [0, 1, 3], now: .start, using: &generator) == 2)
        }
        #expect(balancer.pick(tried: [0, 1, 2, 3], now: .start, using: &generator) != nil)
    }

    @Test func theOwnZoneIsPreferredWhileItLasts() {
        var endpoints = [endpoint(0, zone: "a"), endpoint(1, zone: "b"), endpoint(2, zone: "b")]
        var balancer = EndpointBalancer(
            upstream(endpoints) { $0.prefersOwnZone = true }, zone: "b", now: .start)
        #expect(counts(&balancer, 100)[0] == 0)
        endpoints[1].isDraining = true
        endpoints[2].isDraining = true
        balancer.update(upstream(endpoints) { $0.prefersOwnZone = true }, now: .start)
        #expect(counts(&balancer, 100) == [100, 0, 0])
    }

    @Test func noEndpointNoChoice() {
        var generator = FastGenerator(seed: 1)
        for endpoints in [[], [endpoint(0, draining: true)], [endpoint(0, weight: 0)]] {
            var balancer = EndpointBalancer(upstream(endpoints), zone: nil, now: .start)
            #expect(balancer.pick(now: .start, using: &generator) == nil)
        }
    }

    @Test func aChangeKeepsWhatIsKnown() {
        var balancer = EndpointBalancer(upstream([endpoint(0), endpoint(1)]), zone: nil, now: .start)
        var generator = FastGenerator(seed: 1)
        balancer.requestBegan(0)
        balancer.requestBegan(1)
        balancer.update(upstream([endpoint(1), endpoint(2)]), now: .start)
        #expect(balancer.hosts.count == 3 && balancer.hosts[0].isRemoved && balancer.hosts[1].active == 1)
        #expect(balancer.pick(now: .start, using: &generator) == 2)
        balancer.requestEnded(0, .success, now: .start, using: &generator)
        balancer.update(upstream([endpoint(1), endpoint(2), endpoint(3)]), now: .start)
        #expect(balancer.hosts.count == 3 && balancer.hosts[0].endpoint == endpoint(3))
    }

    @Test func aNewEndpointIsWarmedUp() {
        let policy: (inout UpstreamPolicy) -> Void = {
            $0.loadBalancing = .random
            $0.warmup = UpstreamPolicy.Warmup(duration: .seconds(100))
        }
        var balancer = EndpointBalancer(upstream([endpoint(0)], policy), zone: nil, now: .start)
        balancer.update(upstream([endpoint(0), endpoint(1)], policy), now: .at(1000))
        var generator = FastGenerator(seed: 11)
        for (age, share) in [(0.0, 0.1), (50, 0.5), (100, 1)] {
            var counts = [0, 0]
            for _ in 0..<10_000 {
                if let id = balancer.pick(now: .at(1000 + age), using: &generator) { counts[id] += 1 }
            }
            #expect(chiSquare(counts, shares: [1, share]) < 10.8, "\(age) s: \(counts)")
        }
    }
}
