/// What to ask of the API server next to keep one kind of object up to date: a state machine without sockets or clock.
/// `next` says what to do, `received…` and `ended` tell what came of it.
///
///     streamed list ──initial-events-end──► watching ◄──last page── paged list
///          ▲  └──── not offered, or ended too soon ───────────────────▲ ▲
///          └───────────────────── 410 Gone ── watching ───────────────┘ (where streaming is not offered)

struct WatchMachine {
    enum Request: Equatable, Sendable {
        /// A watch that begins with everything there is (KEP-3157, "WatchList").
        case streamedList
        /// A page of a list. The first page, without token, begins a new list.
        case page(continueToken: String?)
        case watch(resourceVersion: String)

        /// Everything is delivered anew: what is not among it is gone.
        var beginsReplacing: Bool { self == .streamedList || self == .page(continueToken: nil) }
        var isList: Bool { if case .watch = self { false } else { true } }
    }
    enum Action: Equatable, Sendable {
        case send(Request)
        case wait(Duration)
        /// Read the token again, or run the plugin again; then ask what is next.
        case renewCredentials
    }
    /// How a request ended.
    enum End: Equatable, Sendable {
        /// The server ended the answer in good order.
        case closed
        /// It said no, in the answer's head or in an ERROR event.
        case refused(APIStatus)
        /// Nothing came for too long.
        case silent
        /// Connection lost, or what came is not what an API server sends. The text ends a sentence.
        case failed(String)
    }
    /// What a bookmark means for the stream it came in.
    enum BookmarkMeaning: Equatable, Sendable {
        case progress
        /// The streamed list is complete.
        case listComplete
        /// The server sends no streamed lists: give this request up.
        case noStreamedList
    }
    struct Problem: Equatable, Sendable {
        var message: String
        /// The feature is off: nothing for anybody to do.
        var isHarmless = false
    }

    let resource: WatchedResource
    /// Trouble the next attempt may end; nil: all is well.
    var problem: Problem?
    /// The server has no such resource.
    var isAbsent = false
    /// We may not read it.
    var isForbidden = false
    private(set) var resourceVersion: String?
    var backoff: Backoff

    /// What to send next, and what was sent last.
    private var plan: Request = .streamedList
    private var sent: Request = .streamedList
    var pause: Duration?
    var mustRenewCredentials = false
    /// Credentials were renewed since the server last took them.
    var didRenewCredentials = false
    private var isStreamingOffered = true
    /// Since when the current connection is good.
    private var acceptedAt: Duration?
    private var didReceive = false
    private var endsWithoutProgress = 0
    var lostHistories = 0

    init(resource: WatchedResource, backoff: Backoff = Backoff()) {
        self.resource = resource
        self.backoff = backoff
    }

    private var firstRequest: Request { isStreamingOffered ? .streamedList : .page(continueToken: nil) }
    /// The first list is complete, or an earlier one was and its history goes on.
    var isWatching: Bool { if case .watch = plan { true } else { false } }

    mutating func next() -> Action {
        if let pause {
            self.pause = nil
            return .wait(pause)
        }
        if mustRenewCredentials {
            mustRenewCredentials = false
            didRenewCredentials = true
            return .renewCredentials
        }
        acceptedAt = nil
        didReceive = false
        sent = plan
        return .send(plan)
    }

    // MARK: While an answer comes

    /// The server began to answer. `now` counts from any fixed moment.
    mutating func accepted(now: Duration) {
        acceptedAt = now
        didRenewCredentials = false
        isAbsent = false
        isForbidden = false
        if isWatching { problem = nil }
    }

    mutating func received(resourceVersion: String) {
        didReceive = true
        guard isWatching else { return }
        advance(to: resourceVersion)
    }

    mutating func receivedBookmark(resourceVersion: String, isInitialEventsEnd: Bool) -> BookmarkMeaning {
        didReceive = true
        guard plan == .streamedList else {
            advance(to: resourceVersion)
            return .progress
        }
        guard isInitialEventsEnd else {
            // Servers before 1.27 ignore the parameters and would never end the list.
            refuseStreamedLists()
            return .noStreamedList
        }
        beginWatching(from: resourceVersion)
        return .listComplete
    }

    /// A page is complete. True: it was the last one.
    mutating func receivedPage(resourceVersion: String, continueToken: String) -> Bool {
        guard continueToken.isEmpty else {
            plan = .page(continueToken: continueToken)
            return false
        }
        beginWatching(from: resourceVersion)
        return true
    }

    /// The complete list is not believed: make another one after `delay`.
    mutating func distrustList(delay: Duration) {
        startOver()
        pause = delay
        resourceVersion = nil
    }

    private mutating func beginWatching(from version: String) {
        lostHistories = 0
        problem = nil
        advance(to: version)
        plan = .watch(resourceVersion: version)
    }
    private mutating func advance(to version: String) {
        endsWithoutProgress = 0
        guard !version.isEmpty else { return }
        resourceVersion = version
        if isWatching { plan = .watch(resourceVersion: version) }
    }

    // MARK: How it ended

    mutating func ended(_ end: End, now: Duration, using random: inout some RandomNumberGenerator) {
        let lifetime = acceptedAt.map { now - $0 } ?? .zero
        if lifetime >= Backoff.health { backoff.reset() }
        switch end {
        case .closed: closed(after: lifetime, using: &random)
        case .silent where isWatching && acceptedAt != nil:
            break  // Most likely the path is dead and the server is not: another connection will tell.
        case .silent: fail("does not answer", using: &random)
        case .failed(let reason): fail(reason, using: &random)
        case .refused(let status): refused(status, using: &random)
        }
    }

    private mutating func closed(after lifetime: Duration, using random: inout some RandomNumberGenerator) {
        switch sent {
        case .page: break
        case .streamedList where !isWatching:
            // Perhaps this server never ends such a list; pages come to an end by themselves.
            plan = .page(continueToken: nil)
        case .streamedList, .watch:
            // After `timeoutSeconds` this is how every watch ends. At once it is not.
            if !didReceive, lifetime < .seconds(1) { fail("ends its watches at once", using: &random) }
        }
    }

    private mutating func fail(_ reason: String, using random: inout some RandomNumberGenerator) {
        problem = Problem(message: "the API server \(reason)")
        pause = backoff.next(using: &random)
        endsWithoutProgress += 1
        // An event that cannot be read would end every watch at the same place: a new list steps over it.
        if !isWatching || endsWithoutProgress >= 3 { startOver() }
    }

    /// The next request is a new list.
    mutating func startOver() {
        endsWithoutProgress = 0
        plan = firstRequest
    }

    var sentStreamedList: Bool { sent == .streamedList }

    mutating func refuseStreamedLists() {
        isStreamingOffered = false
        startOver()
    }
}
