/// When a certificate is asked for: at once for a new identity, then at half of its life, a little earlier or later so
/// that not all nodes ask at one time. Whoever is refused asks again, less and less often, and the last certificate is
/// used until its end. Seconds since 1970; pure (spec 3.7).

package struct RenewalPlan: Sendable {
    package enum State: String, Sendable {
        /// There is none yet.
        case missing
        case valid
        /// The last one is used, and there is no newer one, though it was asked for.
        case overdue
        case expired
    }
    package struct Entry: Sendable {
        /// When it is asked for.
        fileprivate(set) var next: Int
        /// Asked for since then, and not answered.
        fileprivate(set) var asked: Int?
        fileprivate var failures = 0
        /// When the one there is ends.
        package fileprivate(set) var end: Int?
        /// Why the last answer was of no use; nil: it was.
        package fileprivate(set) var problem: String?

        package func state(at now: Int) -> State {
            guard let end else { return .missing }
            if end <= now { return .expired }
            return problem == nil ? .valid : .overdue
        }
    }

    /// Asked for and not answered; the authority has others to serve, too.
    private static let mostAsked = 16
    /// For an answer.
    private static let patience = 30
    private static let longestPause = 60

    package private(set) var entries: [WorkloadIdentity: Entry] = [:]

    package init() {}

    /// Returns those that are wanted no more: their keys are to be forgotten.
    package mutating func want(_ identities: Set<WorkloadIdentity>, now: Int) -> [WorkloadIdentity] {
        let gone = entries.keys.filter { !identities.contains($0) }
        for identity in gone { entries[identity] = nil }
        for identity in identities where entries[identity] == nil { entries[identity] = Entry(next: now) }
        return gone
    }

    /// What is to be asked for now, the most urgent first.
    package mutating func due(now: Int) -> [WorkloadIdentity] {
        for (identity, entry) in entries {
            guard let asked = entry.asked, now >= asked + Self.patience else { continue }
            fail(identity, "no answer came within \(Self.patience) s", now: now, jitter: 0.5)
        }
        let underWay = entries.values.count { $0.asked != nil }
        let due = entries.filter { $0.value.asked == nil && $0.value.next <= now }
        let urgent = due.sorted { ($0.value.end ?? 0, $0.value.next) < ($1.value.end ?? 0, $1.value.next) }
        let chosen = urgent.prefix(max(0, Self.mostAsked - underWay)).map(\.key)
        for identity in chosen { entries[identity]?.asked = now }
        return chosen
    }

    /// `jitter`: from 0 to 1, chosen anew each time.
    package mutating func issued(_ identity: WorkloadIdentity, until end: Int, now: Int, jitter: Double) {
        guard entries[identity] != nil else { return }
        let half = now + Int(Double(end - now) * (0.45 + 0.1 * jitter))
        entries[identity] = Entry(next: max(half, now + 1), end: end)
    }

    package mutating func fail(_ identity: WorkloadIdentity, _ problem: String, now: Int, jitter: Double) {
        guard var entry = entries[identity] else { return }
        let pause = min(Self.longestPause, 1 << min(entry.failures, 6))
        entry.failures += 1
        entry.next = now + max(1, Int(Double(pause) * (0.5 + jitter)))
        (entry.asked, entry.problem) = (nil, problem)
        entries[identity] = entry
    }

    /// What it has is believed no more: it asks at once.
    package mutating func renew(_ identity: WorkloadIdentity, now: Int) { entries[identity]?.next = now }

    /// Nobody is there any more who could answer; with the next one all is asked anew.
    package mutating func forgetAsked(now: Int) {
        for (identity, entry) in entries where entry.asked != nil {
            entries[identity]?.asked = nil
            entries[identity]?.next = min(entry.next, now)
        }
    }

    /// When there is something to do again; nil: nothing is wanted.
    package func next(after now: Int) -> Int? {
        entries.values.compactMap { entry -> Int? in
            let end = entry.end.flatMap { $0 > now ? $0 : nil }
            return [entry.asked.map { $0 + Self.patience } ?? entry.next, end].compactMap(\.self).min()
        }.min()
    }
}
