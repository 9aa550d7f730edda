/// Ejections, simulated with exact times.
import Balancing
import RouteIR
import Testing
import TestSupport

@Suite struct OutlierTests {
    private struct Rig {
        var balancer: EndpointBalancer
        var generator = FastGenerator(seed: 1)

        init(_ count: Int, _ change: (inout UpstreamPolicy.OutlierDetection) -> Void = { _ in }) {
            balancer = EndpointBalancer(
                upstream((0..<count).map { endpoint($0) }) {
                    var detection = UpstreamPolicy.OutlierDetection()
                    change(&detection)
                    $0.outlierDetection = detection
                }, zone: nil, now: .start)
        }
        /// Lets a host answer like this a number of times.
        mutating func answer(_ id: Int, _ outcome: RequestOutcome, _ times: Int, at seconds: Double = 0) {
            for _ in 0..<times {
                balancer.requestBegan(id)
                balancer.requestEnded(id, outcome, now: .at(seconds), using: &generator)
            }
        }
        /// Who can be chosen at that time.
        mutating func chosen(at seconds: Double) -> Set<Int> {
            Set((0..<200).compactMap { _ in balancer.pick(now: .at(seconds), using: &generator) })
        }
    }

    @Test func fiveErrorsInARowEject() {
        var rig = Rig(2)
        rig.answer(0, .serverError, 4)
        rig.answer(0, .success, 1)
        rig.answer(0, .gatewayError, 4)
        #expect(rig.chosen(at: 0) == [0, 1])
        rig.answer(0, .connectionFailure, 1)
        #expect(rig.chosen(at: 0) == [1])
    }

    @Test func gatewayErrorsCanBeCountedAlone() {
        var rig = Rig(3) {
            $0.consecutive5xx = nil
            $0.consecutiveGatewayErrors = 2
        }
        rig.answer(0, .serverError, 50)
        #expect(rig.chosen(at: 0) == [0, 1, 2])
        rig.answer(0, .gatewayError, 2)
        #expect(rig.chosen(at: 0) == [1, 2])
    }

    @Test func oneOfTwoMayAlwaysGoTheLastNever() {
        var pair = Rig(2)
        pair.answer(0, .serverError, 5)
        pair.answer(1, .serverError, 50)
        #expect(pair.chosen(at: 0) == [1])
        #expect(pair.balancer.hosts[1].record.spared > 0)
        var single = Rig(1)
        single.answer(0, .serverError, 50)
        #expect(single.chosen(at: 0) == [0])
    }

    @Test func theShareOfEjectedEndpointsIsLimited() {
        var rig = Rig(20) { $0.maxEjectionPercent = 10 }
        for id in 0..<20 { rig.answer(id, .serverError, 5) }
        #expect(rig.balancer.ejected == 2)
        #expect(rig.chosen(at: 0).count == 18)
    }

    @Test func ejectionsGrowAndAreForgiven() {
        var rig = Rig(2)
        rig.answer(0, .serverError, 5, at: 0)
        #expect(rig.chosen(at: 29) == [1])
        // Thirty seconds and at most a tenth.
        #expect(rig.chosen(at: 33.1) == [0, 1])
        rig.answer(0, .serverError, 5, at: 34)
        #expect(rig.chosen(at: 34 + 59) == [1])
        #expect(rig.chosen(at: 34 + 63.1) == [0, 1])
        // Quiet intervals pay it back: the next one is as short as the first.
        for second in stride(from: 100.0, through: 200, by: 10) { _ = rig.chosen(at: second) }
        rig.answer(0, .serverError, 5, at: 300)
        #expect(rig.chosen(at: 329) == [1])
        #expect(rig.chosen(at: 333.1) == [0, 1])
    }

    @Test func ejectedEndpointsServeWhenTheOthersAreGone() {
        var rig = Rig(2)
        rig.answer(0, .serverError, 5)
        var left = rig.balancer.upstream
        left.endpoints.removeLast()
        rig.balancer.update(left, now: .start)
        #expect(rig.chosen(at: 0) == [0])
    }
}
