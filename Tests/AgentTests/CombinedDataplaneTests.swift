// Two dataplanes behind one: neither may hold the other back.
import DataplaneIR
import Reconcile
import Testing
import TestSupport

@testable import Agent

@Suite struct CombinedDataplaneTests {
    private let plan = Plan(
        generation: 1, node: NodeProgram(nodeName: "n"), upserts: [], removals: [], isFull: true)

    @Test func bothGetEveryPlan() throws {
        let (primary, companion) = (FakeDataplane(), FakeDataplane())
        let receipt = try CombinedDataplane(primary: primary, companion: companion).apply(plan)
        #expect(receipt.generation == 1)
        #expect(primary.plans.count == 1 && companion.plans.count == 1)
    }

    @Test func theFailureOfOneIsReportedButKeepsNothingFromTheOther() {
        for failing in 0...1 {
            let both = [FakeDataplane(), FakeDataplane()]
            both[failing].failNext()
            let combined = CombinedDataplane(primary: both[0], companion: both[1])
            #expect(throws: DataplaneError.self) { try combined.apply(plan) }
            #expect(both[1 - failing].node != nil)
        }
    }

    @Test func driftOfEitherIsFound() throws {
        let companion = FakeDataplane()
        companion.tamper([Drift(object: "table", detail: "is missing")])
        let combined = CombinedDataplane(primary: FakeDataplane(), companion: companion)
        #expect(try combined.verify(quick: true).count == 1)
    }
}
