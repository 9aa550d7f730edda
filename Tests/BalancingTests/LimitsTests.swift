/// Limits, the retry budget and the pauses between tries.
import Balancing
import RouteIR
import Testing
import TestSupport

@Suite struct LimitsTests {
    @Test func limitsHoldAndAreSplit() {
        var policy = UpstreamPolicy()
        var load = PoolLoad(shards: 2)
        #expect(load.mayConnect(policy) && load.mayWait(policy) && load.mayRequest(policy))
        policy.maxConnections = 4
        policy.maxPendingRequests = 1
        policy.maxRequests = 2
        load.connectionOpened()
        #expect(load.mayConnect(policy))
        load.connectionOpened()
        #expect(!load.mayConnect(policy))
        load.connectionClosed()
        #expect(load.mayConnect(policy))
        load.waitBegan()
        #expect(!load.mayWait(policy))
        load.requestBegan()
        #expect(!load.mayRequest(policy))
        load.requestEnded()
        #expect(load.mayRequest(policy))
    }

    @Test func retriesAreAShareButSomeAlways() {
        let budget = UpstreamPolicy.RetryBudget()
        var load = PoolLoad()
        for _ in 0..<3 {
            #expect(load.mayRetry(budget))
            load.retryBegan()
        }
        #expect(!load.mayRetry(budget))
        for _ in 0..<20 { load.requestBegan() }
        #expect(load.mayRetry(budget))
        load.retryBegan()
        #expect(!load.mayRetry(budget))
    }

    @Test func pausesDoubleUpToTenfold() {
        let policy = RetryPolicy(attempts: 9, backoff: .milliseconds(25))
        var generator = FastGenerator(seed: 2)
        for (number, least) in [(1, 25), (2, 50), (3, 100), (4, 200), (5, 250), (40, 250)] {
            for _ in 0..<20 {
                let pause = policy.pause(before: UInt32(number), using: &generator)
                #expect(pause >= .milliseconds(least) && pause <= .milliseconds(2 * least))
            }
        }
    }

    @Test func aSamplerOfNothingDrawsNothing() {
        var generator = FastGenerator(seed: 2)
        #expect(WeightedSampler([]).draw(using: &generator) == nil)
        #expect(WeightedSampler([0, 0]).draw(using: &generator) == nil)
        #expect((0..<100).allSatisfy { _ in WeightedSampler([0, 5, 0]).draw(using: &generator) == 1 })
    }
}
