/// What a keeper of keys shows: who signs now, and what `agentctl ca` tells.
import AdminAPI
import CertificateAuthority
import KubernetesClient
import Signing
import Synchronization

extension AuthorityKeeper {
    private static let day = 86_400

    func show(_ memory: inout Memory) {
        var report = AuthorityReport.Keys()
        var signer: Signer?
        do throws(SigningError) {
            switch memory.foreign {
            case .present(let authority, _):
                report.origin = "cacerts"
                let chosen = try self.signer(before: Signer(authority, life: timing.rotation.leafLife), memory.own)
                signer = chosen
                report.root = try chosen.root.flatMap { root throws(SigningError) in try .init(pem: root) }
                if chosen.chain.count > 1 { report.intermediate = .init(chosen.authority.facts) }
                if let root = authority.chain.last, root != chosen.root { report.nextRoot = try .init(pem: root) }
            case .damaged: report.origin = "cacerts"
            case .absent:
                signer = try memory.own.signer(life: timing.rotation.leafLife)
                if let own = signer { signer = try self.signer(before: own, memory.own) }
                try report.describe(memory.own)
            case .unknown: break
            }
        } catch {
            memory.problems.append("\(secret) is damaged: \(error.sentence)")
        }
        if signer == nil, memory.problems.isEmpty, !leadership.isLeading {
            memory.problems.append("there is no key yet; the replica that leads makes it")
        }
        let soon = now() + 30 * Self.day
        for (name, certificate, limit) in [
            ("root", report.root, soon), ("intermediate", report.intermediate, now() + 10 * Self.day),
        ] {
            guard let certificate, certificate.notAfter < (report.origin == "own" ? limit : soon) else { continue }
            let days = max(0, certificate.notAfter - now()) / Self.day
            memory.problems.append(
                "the \(name) \(certificate.subject) ends in \(days) days; "
                    + (report.origin == "own"
                        ? "it should have been renewed: agentctl ca renew \(name)" : "put another into Secret cacerts"))
        }
        // Others may sign under another root by now, and forget this one.
        let isLate = memory.lastRead.map { now() > $0 + timing.rotation.settling } ?? false
        if isLate {
            signer = nil
            memory.problems.append("the Secrets could not be read for too long: nothing is signed until they are")
        }
        report.problems = memory.problems
        state.withLock { state in
            // What signed goes on until it is known what does instead.
            if signer != nil || isLate { state.signer = signer }
            report.isReady = state.signer != nil
            if case .unknown = memory.foreign {
                (report.origin, report.root) = (state.report.origin, state.report.root)
            }
            state.report = report
        }
    }

    /// The one that signed goes on, if it may, until everybody can know the root of the one that comes.
    private func signer(before next: Signer, _ own: OwnKeys) throws(SigningError) -> Signer {
        let isKnown = { (signer: Signer) in own.isKnown(signer.root, now: self.now(), self.timing.rotation) }
        if isKnown(next) { return next }
        let earlier = [state.withLock(\.signer), try own.signer(life: timing.rotation.leafLife)]
            .compactMap(\.self).filter { $0.leafEnd(now: now()) != nil }
        return earlier.first(where: isKnown) ?? earlier.first ?? next
    }
}
