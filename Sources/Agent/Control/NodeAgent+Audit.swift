/// Does the kernel still hold what was written? Found differences are written again at once (spec row 169).
import AdminAPI
import DataplaneIR
import Logging
import NodeControl
import Reconcile
import Telemetry

extension NodeAgent {
    /// Differences worth printing; the count says how many there are.
    private static let shown = 10

    func runAudit() {
        let pieces = audit.beginAudit(now: now)
        deadlines.audit = audit.next
        var isRight = true
        for index in audit.parts.indices {
            let dataplane = audit.parts[index].dataplane
            if !check(index, { () throws(DataplaneError) in try dataplane.verify(quick: true) }) {
                isRight = false
            } else if pieces.contains(index) {
                isRight = comparePiece(index) && isRight
            }
        }
        conclude(isRight)
        refreshDetails()
    }

    /// A piece more of what is doubted; between two of them whatever else there is to do is done.
    func continueComparison() {
        var isRight = true
        for index in audit.hurried { isRight = comparePiece(index) && isRight }
        if !isRight || !audit.isDoubted { conclude(isRight) }
        if isRight { deadlines.comparison = audit.hurried.isEmpty ? nil : now + Self.betweenPieces }
    }
    private static let betweenPieces = Duration.milliseconds(1)

    private func comparePiece(_ index: Int) -> Bool {
        let part = audit.parts[index]
        let start = now
        return check(index) { () throws(DataplaneError) in
            let piece = try part.dataplane.compare(entries: part.pieceSize, restarts: part.isAtStart)
            metrics.comparisons.entries.add(Double(piece.entries), part.dataplane.name)
            if piece.isLast { metrics.comparisons.whole.add(1, part.dataplane.name) }
            audit.compared(index, piece, took: now - start, now: now)
            return piece.drift
        }
    }

    /// False unless it looked and found nothing.
    private func check(_ index: Int, _ look: () throws(DataplaneError) -> [Drift]) -> Bool {
        let name = audit.parts[index].dataplane.name
        do throws(DataplaneError) {
            let drift = try look()
            if drift.isEmpty { return true }
            report(drift, in: name)
            take(.drift)
        } catch {
            log.warning("comparing \(name) with the kernel failed: \(error)")
        }
        audit.giveUp(index, now: now)
        return false
    }

    private func conclude(_ isRight: Bool) {
        deadlines.comparison = audit.hurried.isEmpty ? nil : now
        // As long as something is doubted, what was known before stands.
        let isProven = isRight && !audit.isDoubted
        environment.board.update { contents in
            contents.auditAt = now
            if !isRight { contents.auditPassed = false }
            guard isProven else { return }
            contents.auditPassed = true
            contents.status.drift.repaired = true
        }
        environment.board.read { metrics.note($0) }
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
        controller.take(.drift, now: now)
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
        let status = controller.reconciler.status
        if let error = status.lastError { result.append(.init(object: "sync", detail: "not written: \(error)")) }
        for (id, reason) in status.refused.sorted(by: { $0.key < $1.key }) {
            result.append(.init(object: "service \(id.displayName)", detail: "not written: \(reason)"))
        }
        return result
    }
}
