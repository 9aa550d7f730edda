// Comparing with the kernel costs an idle agent next to nothing, and nobody who changes something waits for it.
import Addressing
import AdminAPI
import Cluster
import DataplaneIR
import Reconcile
import Testing
import TestSupport

@testable import Agent

@Suite(.timeLimit(.minutes(5))) struct AuditTests {
    private let web = ServicePortID(
        namespace: "default", service: "web", portName: "", transport: .tcp, family: .ipv4)
    private let dataplane = FakeDataplane()

    /// The comparison has no end before the change is written, which comes in while the third piece is made.
    @Test func aChangeIsWrittenBetweenThePiecesOfAComparison() async throws {
        try await AgentRig.run { rig in
            let patience = 5000
            rig.dataplane.compareInPieces { [web] number in
                if number == 3 { rig.send(webService(), webSlice(1)) }
                return rig.dataplane.programs[web] != nil || number == patience
            }
            rig.synced()
            try await soon("proven") { rig.board.status.dataplane.proven }
            #expect(rig.dataplane.programs[web] != nil)
            #expect(rig.dataplane.pieces < patience)
        }
    }

    @Test func nothingIsProvenBeforeTheLastPiece() async throws {
        try await AgentRig.run { rig in
            rig.dataplane.compareInPieces { _ in false }
            rig.synced()
            try await soon("compared") { rig.dataplane.pieces > 50 }
            #expect(!rig.board.status.dataplane.proven)
            rig.dataplane.compareInPieces { $0 >= 100 }
            try await soon("proven") { rig.board.status.dataplane.proven }
        }
    }

    @Test func aDifferenceInALaterPieceIsRepaired() async throws {
        try await AgentRig.run { rig in
            rig.send(webService(), webSlice(1))
            rig.dataplane.compareInPieces { [web] number in
                if number == 5 { rig.dataplane.lose(web) }
                return number == 10
            }
            rig.synced()
            try await soon("found") { rig.board.status.drift.found > 0 }
            rig.dataplane.compareInPieces(nil)
            try await soon("repaired") { rig.board.status.dataplane.proven && rig.board.status.drift.repaired }
            #expect(rig.dataplane.programs[web] != nil)
        }
    }

    // MARK: How often

    /// Audits every three seconds; a comparison has `pieces` pieces of 5 ms. Returns how many pieces there were.
    private func work(
        _ schedule: inout AuditSchedule, from start: Duration, for time: Duration, pieces: Int,
        _ event: (inout AuditSchedule, Duration) -> Void = { _, _ in }
    ) -> Int {
        var now = start
        var (count, done) = (0, 0)
        while now < start + time {
            event(&schedule, now)
            for _ in schedule.beginAudit(now: now) { count += 1 }
            while !schedule.hurried.isEmpty {
                count += 1
                done += 1
                schedule.compared(0, isLast: done % pieces == 0, took: .milliseconds(5), now: now)
                now += .milliseconds(6)
            }
            now += .seconds(3)
        }
        return count
    }

    private func schedule(_ fullAudit: OpenDataplane.FullAudit) -> AuditSchedule {
        var schedule = AuditSchedule(parts: [.init(dataplane, fullAudit: fullAudit)], period: .seconds(3))
        let plan = Plan(generation: 1, node: NodeProgram(nodeName: "n"), upserts: [], removals: [], isFull: true)
        _ = schedule.afterWrite(plan, now: .zero)
        return schedule
    }

    /// 140,000 elements.
    @Test func whereTheKernelTellsOfChangesAnIdleHourCostsTwoComparisons() {
        var schedule = schedule(.whenTold)
        let first = work(&schedule, from: .seconds(1), for: .seconds(10), pieces: 70)
        #expect(first == 70, "after a full plan")
        let idle = work(&schedule, from: .seconds(11), for: .seconds(3600), pieces: 70)
        #expect(idle == 140, "a tenth of a thousandth of the time, but not nothing")
        schedule.foreignChange(in: dataplane.name, now: .seconds(3700))
        let told = work(&schedule, from: .seconds(3700), for: .seconds(10), pieces: 70)
        #expect(told == 70, "when told")
    }

    @Test func whereItDoesNotEachAuditHasOnePiece() {
        var schedule = schedule(.rolling)
        _ = work(&schedule, from: .seconds(1), for: .seconds(10), pieces: 70)
        let idle = work(&schedule, from: .seconds(11), for: .seconds(3600), pieces: 70)
        #expect(idle == 1200)
    }

    /// A comparison that has begun is ended, and pauses ten times as long as it took.
    @Test func whoeverChangesThingsAllTheTimeDoesNotMakeUsCompareAllTheTime() {
        var schedule = schedule(.whenTold)
        let name = dataplane.name
        let count = work(&schedule, from: .seconds(1), for: .seconds(600), pieces: 1000) { schedule, now in
            schedule.foreignChange(in: name, now: now)
        }
        #expect(count % 1000 == 0)
        #expect(count >= 5000 && count <= 12_000)
    }
}
