/// Consistent hashing: shares by weight, and how few keys move.
import Balancing
import RouteIR
import Testing
import TestSupport

@Suite struct MaglevTests {
    private func keys(_ count: Int) -> [UInt64] { (0..<count).map { stableHash("10.1.0.\($0):80".utf8) } }

    @Test func slotsFollowWeights() {
        let table = Maglev(keys: keys(2), weights: [1, 2])
        let counts = [0, 1].map { owner in table.slots.count { $0 == owner } }
        // The shares of spec 6.1.
        #expect(counts == [21846, 43691])
        let equal = Maglev(keys: keys(100), weights: Array(repeating: 1, count: 100))
        #expect((0..<100).allSatisfy { owner in (655...656).contains(equal.slots.count { $0 == owner }) })
        #expect(Maglev(keys: keys(2), weights: [0, 0]).slots.isEmpty)
    }

    @Test func anEndpointThatLeavesMovesLittleElse() {
        let keys = keys(100)
        let before = Maglev(keys: keys, weights: Array(repeating: 1, count: 100))
        var weights = Array(repeating: UInt32(1), count: 100)
        weights[42] = 0
        let after = Maglev(keys: keys, weights: weights)
        let moved = (0..<Maglev.size).count { before.slots[$0] != 42 && before.slots[$0] != after.slots[$0] }
        #expect(after.slots.allSatisfy { $0 != 42 })
        // The paper's figure for this size: well below two in a hundred.
        #expect(moved < Maglev.size * 3 / 100, "\(moved) of \(Maglev.size)")
    }

    @Test func aKeyStaysWithItsEndpoint() {
        let hash: (inout UpstreamPolicy) -> Void = { $0.loadBalancing = .consistentHash([.sourceIP]) }
        var balancer = EndpointBalancer(upstream((0..<10).map { endpoint($0) }, hash), zone: nil, now: .start)
        var generator = FastGenerator(seed: 1)
        let hashes = (0..<1000).map { stableHash("client \($0)".utf8) }
        let first = hashes.map { balancer.pick(hash: $0, now: .start, using: &generator) }
        #expect(first == hashes.map { balancer.pick(hash: $0, now: .start, using: &generator) })
        #expect(Set(first).count == 10)
        balancer.update(upstream((0..<9).map { endpoint($0) }, hash), now: .start)
        let second = hashes.map { balancer.pick(hash: $0, now: .start, using: &generator) }
        let moved = zip(first, second).count { $0 != $1 && $0 != 9 }
        #expect(moved < 60 && !second.contains(9), "\(moved)")
    }

    @Test func keysOfAnEjectedEndpointAloneMove() {
        var balancer = EndpointBalancer(
            upstream((0..<10).map { endpoint($0) }) {
                $0.loadBalancing = .consistentHash([.sourceIP])
                $0.outlierDetection = UpstreamPolicy.OutlierDetection()
            }, zone: nil, now: .start)
        var generator = FastGenerator(seed: 1)
        let hashes = (0..<1000).map { stableHash("client \($0)".utf8) }
        let first = hashes.map { balancer.pick(hash: $0, now: .start, using: &generator) }
        for _ in 0..<5 {
            balancer.requestBegan(3)
            balancer.requestEnded(3, .serverError, now: .start, using: &generator)
        }
        let second = hashes.map { balancer.pick(hash: $0, now: .start, using: &generator) }
        #expect(zip(first, second).allSatisfy { $0 == 3 ? $1 != 3 : $0 == $1 })
    }
}
