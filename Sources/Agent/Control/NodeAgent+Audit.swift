/// Does the kernel still hold what was written? Found differences are written again at once (spec row 169).
import AdminAPI
import DataplaneIR
import Logging
import Reconcile
import Telemetry

extension NodeAgent {
    /// Differences worth printing; the count says how many there are.
    private static let shown = 10

    func runAudit() {
        var found = 0
        var failed = false
        for job in audit.jobs(now: now) {
            let start = now
            do throws(DataplaneError) {
                let drift = try job.dataplane.verify(quick: job.isQuick)
                audit.done(job, took: now - start, foundDrift: !drift.isEmpty, now: now)
                if !drift.isEmpty { report(drift, in: job.dataplane.name) }
                found += drift.count
            } catch {
                failed = true
                log.warning("comparing \(job.dataplane.name) with the kernel failed: \(error)")
            }
        }
        deadlines.audit = audit.finish(now: now)
        let proven = found == 0 && !failed
        environment.board.update { contents in
            contents.auditAt = now
            contents.auditPassed = proven
            if proven { contents.status.drift.repaired = true }
        }
        metrics.note(environment.board.now)
        if found > 0 { reconciler.driftFound(now: now) }
        refreshDetails()
    }

    private func report(_ drift: [Drift], in name: String) {
        for difference in drift.prefix(Self.shown) {
            log.warning("the kernel differs from what was written, repairing: \(difference)")
        }
        if drift.count > Self.shown { log.warning("and \(drift.count - Self.shown) more differences in \(name)") }
        metrics.drift.add(Double(drift.count), name)
        environment.board.update { contents in
            contents.driftAt = now
            contents.status.drift.found += UInt64(drift.count)
            contents.status.drift.last = drift.prefix(Self.shown).map(\.description)
            contents.status.drift.repaired = false
        }
    }

    /// `agentctl verify`: everything, entry by entry, now.
    func verifyNow(repair: Bool) throws(DataplaneError) -> VerifyReport {
        let differences = try allDifferences()
        guard repair, !differences.isEmpty else { return VerifyReport(differences: differences, repaired: false) }
        reconciler.driftFound(now: now)
        settle()
        return VerifyReport(differences: differences, repaired: try allDifferences().isEmpty)
    }

    private func allDifferences() throws(DataplaneError) -> [VerifyReport.Difference] {
        var result: [VerifyReport.Difference] = []
        for part in dataplane.parts {
            for drift in try part.dataplane.verify(quick: false) {
                result.append(.init(object: drift.object, detail: drift.detail))
            }
        }
        let status = reconciler.status
        if let error = status.lastError { result.append(.init(object: "sync", detail: "not written: \(error)")) }
        for (id, reason) in status.refused.sorted(by: { $0.key < $1.key }) {
            result.append(.init(object: "service \(id.displayName)", detail: "not written: \(reason)"))
        }
        return result
    }
}
