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

    /// Timers that are cancelled when they have gone off already must not become more and more.
    @Test func anAuditWakesTheAgentOnce() async throws {
        try await AgentRig.run(auditPeriod: .milliseconds(5)) { rig in
            rig.send(webService(), webSlice(1))
            rig.synced()
            try await rig.inSync()
            try await soon("proven") { rig.board.status.dataplane.proven }
            let (ticks, looks) = (await rig.agent.ticks, rig.dataplane.quickLooks)
            try await soon("audited") { rig.dataplane.quickLooks >= looks + 200 }
            let (woken, audits) = (await rig.agent.ticks - ticks, rig.dataplane.quickLooks - looks)
            #expect(woken <= audits + audits / 2)
        }
    }

    // MARK: How often

    /// What was looked at, entry by entry.
    private struct Work {
        var hurried = 0
        var thin = 0
        /// Of thin pieces.
        var mostInAMinute = 0
        var comparisons = 0
    }

    /// Audits every three seconds; 2048 entries cost 5 ms.
    private func work(
        _ schedule: inout AuditSchedule, from start: Duration, for time: Duration, entries: Int, isSpoilt: Bool = false,
        _ event: (inout AuditSchedule, Duration) -> Void = { _, _ in }
    ) -> Work {
        var now = start
        var left = entries
        var work = Work()
        var minute = (end: start + .seconds(60), thin: 0)
        func compare(_ schedule: inout AuditSchedule) -> Int {
            if schedule.parts[0].isAtStart { left = entries }
            var piece = ComparedPiece()
            piece.entries = min(left, schedule.parts[0].pieceSize)
            left -= piece.entries
            piece.isLast = left == 0
            piece.isSpoilt = isSpoilt && !schedule.parts[0].isHurried
            work.comparisons += piece.isLast ? 1 : 0
            schedule.compared(0, piece, took: .microseconds(5000 * piece.entries / 2048), now: now)
            return piece.entries
        }
        while now < start + time {
            event(&schedule, now)
            for _ in schedule.beginAudit(now: now) {
                let count = compare(&schedule)
                work.thin += count
                minute.thin += count
            }
            while !schedule.hurried.isEmpty {
                work.hurried += compare(&schedule)
                now += .milliseconds(6)
            }
            now += .seconds(3)
            if now >= minute.end {
                work.mostInAMinute = max(work.mostInAMinute, minute.thin)
                minute = (minute.end + .seconds(60), 0)
            }
        }
        return work
    }

    private func plan(isFull: Bool) -> Plan {
        Plan(generation: 1, node: NodeProgram(nodeName: "n"), upserts: [], removals: [], isFull: isFull)
    }
    private func schedule(_ fullAudit: OpenDataplane.FullAudit) -> AuditSchedule {
        var schedule = AuditSchedule(parts: [.init(dataplane, fullAudit: fullAudit)], period: .seconds(3))
        _ = schedule.afterWrite(plan(isFull: true), now: .zero)
        return schedule
    }

    /// 10,000 services: the kernel tells of foreign changes, so this only makes sure.
    @Test func whereTheKernelTellsOfChangesAnIdleHourCostsTwoComparisonsSpreadThin() {
        var schedule = schedule(.whenTold)
        let first = work(&schedule, from: .seconds(1), for: .seconds(1), entries: 140_000)
        #expect(first.hurried == 140_000, "after a full plan")
        let idle = work(&schedule, from: .seconds(11), for: .seconds(3600), entries: 140_000)
        #expect(idle.hurried == 0, "nothing happens at one go")
        #expect(idle.comparisons == 2, "a fifth of a thousandth of the time, but not nothing")
        #expect(idle.mostInAMinute <= 140_000 / 20)
        schedule.foreignChange(in: dataplane.name, now: .seconds(3700))
        let told = work(&schedule, from: .seconds(3700), for: .seconds(10), entries: 140_000)
        #expect(told.hurried == 140_000, "when told")
    }

    /// Some comparisons would fit into each audit.
    @Test func whereThereIsLittleToCompareItIsComparedAboutOnceAMinute() {
        var schedule = schedule(.whenTold)
        _ = work(&schedule, from: .seconds(1), for: .seconds(1), entries: 40)
        let idle = work(&schedule, from: .seconds(11), for: .seconds(3600), entries: 40)
        #expect(idle.hurried == 0 && idle.comparisons >= 60 && idle.comparisons <= 80)
    }

    /// Lists that writes spoil all the time have an end all the same.
    @Test(arguments: [true, false])
    func whereThinPiecesGetNowhereEverythingIsComparedAtOneGo(isOurs: Bool) {
        var schedule = schedule(.whenTold)
        let (few, plan) = (140_000, plan(isFull: false))
        _ = work(&schedule, from: .seconds(1), for: .seconds(1), entries: few)
        let busy = work(&schedule, from: .seconds(11), for: .seconds(3600), entries: few, isSpoilt: !isOurs) {
            schedule, now in
            if isOurs { _ = schedule.afterWrite(plan, now: now) }
        }
        #expect(busy.comparisons == 2 && busy.hurried == 280_000)
    }

    @Test(arguments: [(10_000, 30), (50_000, 6), (1_000_000, 6)])
    func whereItDoesNotEachAuditHasOnePiece(entries: Int, comparisons: Int) {
        var schedule = schedule(.rolling)
        _ = work(&schedule, from: .seconds(1), for: .seconds(1), entries: entries)
        let idle = work(&schedule, from: .seconds(11), for: .seconds(3600), entries: entries)
        #expect(idle.hurried == 0)
        #expect(idle.comparisons >= comparisons - 1 && idle.comparisons <= comparisons)
        #expect(idle.mostInAMinute <= 20 * max(256, entries / 200 + 1))
    }

    /// A comparison that has begun is ended, and pauses ten times as long as it took.
    @Test func whoeverChangesThingsAllTheTimeDoesNotMakeUsCompareAllTheTime() {
        var schedule = schedule(.whenTold)
        let name = dataplane.name
        let found = work(&schedule, from: .seconds(1), for: .seconds(600), entries: 2_048_000) { schedule, now in
            schedule.foreignChange(in: name, now: now)
        }
        #expect(found.hurried % 2_048_000 == 0 && found.thin == 0)
        #expect(found.comparisons >= 5 && found.comparisons <= 12)
    }
}
