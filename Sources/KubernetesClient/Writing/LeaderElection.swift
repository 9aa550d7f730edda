/// Who of several replicas leads, by a Lease: a state machine without sockets or clock. `take` says what to do next
/// and `nextTick` when to ask again; `writeWindow` is when this replica may write.
///
/// Two never lead at a time. Whoever leads counts from the moment it sent its last renewal and stops `renewDeadline`
/// later; whoever waits counts from the moment it saw the Lease change and takes it `lease` later, which is longer.
/// Each counts by its own clock, so that clocks may run differently fast (by a sixth) and show different times. The
/// server's resourceVersion decides between two that write at once.

package struct LeaderElection: Sendable {
    package struct Timing: Sendable {
        /// How long a Lease that does not change belongs to its holder.
        package var lease = Duration.seconds(10)
        /// How long a leader leads after its last renewal.
        package var renewDeadline = Duration.seconds(7)
        /// Between two renewals, and how long a request may last.
        package var renewal = Duration.seconds(2)
        /// Between two looks at somebody else's Lease.
        package var poll = Duration.seconds(1)
        package init() {}
    }
    package enum Answer: Equatable, Sendable {
        case lease(LeaseRecord)
        case absent
        /// Somebody else wrote first.
        case conflict
        case failed(String)
    }
    package enum Event: Sendable {
        case tick
        case answer(Answer, to: Int)
        /// Hand back and end.
        case stop
        /// No write of ours is under way any more.
        case drained
    }
    package enum Change: Equatable, Sendable {
        case leading(term: Int64)
        case lost(String)
    }
    package enum Action: Equatable, Sendable {
        case read(id: Int)
        case create(LeaseRecord, id: Int)
        /// Replaces the Lease of the record's resourceVersion.
        case replace(LeaseRecord, id: Int)
        case tell(Change)
        /// Answer with `drained` once no write is under way.
        case drain
        case finish
    }
    private enum Purpose { case read, create, claim, release }
    private struct Request {
        var id: Int
        var purpose: Purpose
        var sentAt: Duration
    }

    package let identity: String
    private let timing: Timing
    private var request: Request?
    private var lastID = 0
    /// As it was last seen; nil: there is none.
    package private(set) var seen: LeaseRecord?
    /// By our own clock.
    private var seenSince = Duration.zero
    private var needsRead = true
    private var nextAt = Duration.zero
    private var validUntil: Duration?
    /// A Lease that we made may follow one that was deleted, whose holder does not know yet.
    private var validFrom = Duration.zero
    private var isToldLeading = false
    private var failures = 0
    /// Why the last request did not get what it wanted.
    package private(set) var problem: String?
    private var isStopping = false
    private var isDrained = false
    private var isOver = false

    package init(identity: String, timing: Timing = Timing()) {
        self.identity = identity
        self.timing = timing
    }

    /// When this replica may write; what it begins must end before the end.
    package var writeWindow: Range<Duration>? {
        guard !isStopping, let validUntil, validFrom < validUntil else { return nil }
        return validFrom..<validUntil
    }
    package func mayWrite(at now: Duration) -> Bool { writeWindow?.contains(now) == true }

    /// When to take a tick if nothing else happens.
    package var nextTick: Duration {
        var next = request == nil ? nextAt : request.map { $0.sentAt + timing.renewal } ?? nextAt
        if let validUntil { next = min(next, validUntil) }
        if !isToldLeading, let window = writeWindow { next = min(next, window.lowerBound) }
        return next
    }

    package mutating func take(_ event: Event, now: Duration) -> [Action] {
        guard !isOver else { return [] }
        var actions: [Action] = []
        switch event {
        case .tick: break
        case .answer(let answer, let id):
            // What comes late or twice says nothing about now.
            if let sent = request, sent.id == id {
                request = nil
                receive(answer, to: sent, now)
            }
        case .stop where !isStopping:
            isStopping = true
            actions.append(.drain)
        case .stop: break
        case .drained: isDrained = true
        }
        if let validUntil, now >= validUntil {
            self.validUntil = nil
            needsRead = true
        }
        tell(&actions, now)
        decide(&actions, now)
        return actions
    }

    private mutating func tell(_ actions: inout [Action], _ now: Duration) {
        guard mayWrite(at: now) != isToldLeading else { return }
        isToldLeading.toggle()
        guard !isToldLeading else { return actions.append(.tell(.leading(term: seen?.transitions ?? 0))) }
        let reason =
            isStopping
            ? "this replica ends"
            : seen.map { $0.holder != identity && !$0.holder.isEmpty } == true
                ? "\(seen?.holder ?? "") holds the lease"
                : "the lease could not be renewed in time" + (problem.map { ": \($0)" } ?? "")
        actions.append(.tell(.lost(reason)))
    }

    // MARK: Answers

    private mutating func receive(_ answer: Answer, to sent: Request, _ now: Duration) {
        switch answer {
        case .lease(let record):
            (problem, failures, needsRead) = (nil, 0, false)
            // Ours, and not the one that we knew: one of our requests made it, perhaps one whose answer was lost.
            if record.holder == identity, record.uid != seen?.uid { validFrom = now + timing.lease }
            if record != seen { (seen, seenSince) = (record, now) }
            switch sent.purpose {
            case .read:
                if record.holder != identity { validUntil = nil }
                nextAt = now
                if !isFree(now), record.holder != identity { nextAt = min(now + timing.poll, expiry) }
            case .create, .claim:
                validUntil = sent.sentAt + timing.renewDeadline
                nextAt = max(now, sent.sentAt + timing.renewal)
            case .release: break
            }
        case .absent:
            problem = nil
            (seen, seenSince, validUntil) = (nil, now, nil)
            needsRead = sent.purpose != .read
            nextAt = needsRead ? now + pause() : now
        case .conflict:
            needsRead = true
            nextAt = now + (failures == 0 ? .zero : pause())
            failures += 1
        case .failed(let reason):
            // Whether it was done is not known.
            problem = reason
            needsRead = true
            nextAt = now + pause()
        }
    }

    private mutating func pause() -> Duration {
        failures += 1
        return min(.milliseconds(125) * (1 << min(failures, 5)), timing.renewal)
    }

    private var expiry: Duration {
        let theirs = Duration.seconds(min(max(seen?.seconds ?? 0, 0), 60))
        return seenSince + max(theirs, timing.lease)
    }
    private func isFree(_ now: Duration) -> Bool { seen.map { $0.holder.isEmpty || now >= expiry } ?? true }

    // MARK: What next

    private mutating func decide(_ actions: inout [Action], _ now: Duration) {
        if let sent = request {
            guard now >= sent.sentAt + timing.renewal else { return }
            request = nil
            receive(.failed("no answer in time"), to: sent, now)
        }
        if isStopping { return end(&actions, now) }
        guard now >= nextAt else { return }
        if needsRead { return actions.append(.read(id: send(.read, now))) }
        guard var wanted = seen else {
            return actions.append(.create(claim(LeaseRecord()), id: send(.create, now)))
        }
        if wanted.holder != identity {
            guard isFree(now) else { return actions.append(.read(id: send(.read, now))) }
            wanted.transitions += 1
            wanted.acquireTime = ""
            validFrom = now
        }
        actions.append(.replace(claim(wanted), id: send(.claim, now)))
    }
    private func claim(_ record: LeaseRecord) -> LeaseRecord {
        var record = record
        record.holder = identity
        record.seconds = timing.lease.components.seconds + (timing.lease.components.attoseconds > 0 ? 1 : 0)
        return record
    }
    private mutating func send(_ purpose: Purpose, _ now: Duration) -> Int {
        lastID += 1
        request = Request(id: lastID, purpose: purpose, sentAt: now)
        return lastID
    }

    /// Hands back what is ours, once, so that the next leader need not wait. Not while a Lease that we created is too
    /// young: an earlier leader may not know yet.
    private mutating func end(_ actions: inout [Action], _ now: Duration) {
        guard isDrained else { return }
        if let seen, seen.holder == identity, validUntil != nil, now >= validFrom {
            validUntil = nil
            var record = seen
            record.holder = ""
            record.seconds = 1
            return actions.append(.replace(record, id: send(.release, now)))
        }
        isOver = true
        actions.append(.finish)
    }
}
