/// What was issued and refused: the newest of each for `agentctl ca`, counts for metrics, one line each for the audit.

package struct IssueLedger: Sendable {
    package struct Issued: Equatable, Sendable {
        /// In hexadecimal.
        package let serial: String
        package let grant: Grant
        /// In seconds since 1970, like all times here.
        package let at: Int
        package let notAfter: Int

        package init(serial: String, grant: Grant, at: Int, notAfter: Int) {
            (self.serial, self.grant, self.at, self.notAfter) = (serial, grant, at, notAfter)
        }

        package var auditLine: String {
            "issued serial=\(serial) identity=\(grant.identity) to=\(grant.requester) pod=\(shown(grant.podUID)) "
                + "node=\(shown(grant.node)) notAfter=\(notAfter)"
        }
    }
    package struct Refused: Equatable, Sendable {
        /// The peer's address.
        package let peer: String
        package let refusal: Refusal
        package let at: Int

        package init(peer: String, refusal: Refusal, at: Int) {
            (self.peer, self.refusal, self.at) = (peer, refusal, at)
        }

        package var auditLine: String {
            "refused reason=\(refusal.reason.rawValue) peer=\(shown(peer)): \(refusal.sentence)"
        }
    }

    package let capacity: Int
    /// A crowd that comes too early or too often is told of once a second: a log that it fills hides the rest.
    private var toldAt: [Refusal.Reason: Int] = [:]
    /// Oldest first.
    package private(set) var issued: [Issued] = []
    package private(set) var refused: [Refused] = []
    package private(set) var issuedCount = 0
    package private(set) var refusedCounts: [Refusal.Reason: Int] = [:]

    package init(capacity: Int = 256) { self.capacity = max(1, capacity) }

    /// The line for the audit.
    package mutating func note(_ entry: Issued) -> String {
        issuedCount += 1
        append(entry, to: &issued)
        return entry.auditLine
    }

    /// nil: counted, and no more.
    package mutating func note(_ entry: Refused) -> String? {
        let reason = entry.refusal.reason
        refusedCounts[reason, default: 0] += 1
        if reason == .tooMany || reason == .notReady {
            guard toldAt[reason] != entry.at else { return nil }
            toldAt[reason] = entry.at
        }
        append(entry, to: &refused)
        return entry.auditLine
    }

    private func append<Entry>(_ entry: Entry, to list: inout [Entry]) {
        if list.count == capacity { list.removeFirst() }
        list.append(entry)
    }
}
