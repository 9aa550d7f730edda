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
        /// The server's history has become another one: it was restored from a backup.
        case wentBack
    }
    /// What an event or a bookmark means for the stream it came in.
    enum Meaning: Equatable, Sendable {
        case progress
        /// The streamed list is complete.
        case listComplete
        /// The server sends no streamed lists: give this request up.
        case noStreamedList
        /// Its version is older than what we have: give this request up.
        case wentBack
    }
    enum PageMeaning: Equatable, Sendable {
        case more
        case last
        /// The list would never end; the text ends a sentence.
        case endless(String)
    }
    struct Problem: Equatable, Sendable {
        var message: String
        /// The feature is off: nothing for anybody to do.
        var isHarmless = false
    }
    /// What an end leads to. Every end has one.
    struct Verdict {
        var pace: RequestPacer.Pace
        /// What is wrong already.
        var problem: Problem?
        /// What is wrong if it happens too often. Ends a sentence that begins with the server.
        var habit = ""
    }
    /// With 500 objects a page, far more than any cluster has.
    private static let mostPages = 10_000

    let resource: WatchedResource
    /// Trouble the next attempt may end; nil: all is well.
    private(set) var problem: Problem?
    /// The server has no such resource.
    var isAbsent = false
    /// We may not read it.
    var isForbidden = false
    private(set) var resourceVersion: String?

    private var pacer: RequestPacer
    /// What to send next, and what was sent last.
    private var plan: Request = .streamedList
    private var sent: Request = .streamedList
    /// The server refused our credentials, and has not taken any since.
    var didRefuseCredentials = false
    private var isStreamingOffered = true
    /// Since when the current connection is good, and since when what it sends is a watch.
    private var acceptedAt: Duration?
    private var watchingSince: Duration?
    private var didReceive = false
    private var endsWithoutProgress = 0
    /// Since a watch last lived for a while.
    var lostHistories = 0
    /// The tokens of the list that is being read.
    private var tokens: Set<String> = []
    /// The complete list is not believed: how long until the next one.
    private var doubt: Duration?
    /// Trouble that came back after it seemed to be over is told until a watch has lived for a while: nobody who looks
    /// must find by chance that all is well.
    private var relapses = 0
    private var seemedWell = true
    private var isLasting: Bool { relapses > 1 }

    init(resource: WatchedResource, backoff: Backoff = Backoff()) {
        self.resource = resource
        pacer = RequestPacer(backoff: backoff)
    }

    private var firstRequest: Request { isStreamingOffered ? .streamedList : .page(continueToken: nil) }
    /// The first list is complete, or an earlier one was and its history goes on.
    var isWatching: Bool { if case .watch = plan { true } else { false } }
    var sentStreamedList: Bool { sent == .streamedList }

    mutating func next() -> Action {
        if let pause = pacer.admit() { return .wait(pause) }
        acceptedAt = nil
        watchingSince = nil
        didReceive = false
        sent = plan
        return .send(plan)
    }

    // MARK: While an answer comes

    /// The server began to answer. `now` counts from any fixed moment.
    mutating func accepted(now: Duration) {
        acceptedAt = now
        didRefuseCredentials = false
        isAbsent = false
        isForbidden = false
        guard isWatching else { return }
        watchingSince = now
        seemsWell()
    }

    /// An object was added or modified, or deleted. (Servers of old tell the version a deleted object had in life.)
    mutating func received(resourceVersion: String, isDeletion: Bool = false, now: Duration) -> Meaning {
        didReceive = true
        guard isWatching else { return .progress }
        if isOlder(resourceVersion) { return isDeletion ? .progress : .wentBack }
        noteLife(now)
        advance(to: resourceVersion)
        return .progress
    }

    mutating func receivedBookmark(resourceVersion: String, isInitialEventsEnd: Bool, now: Duration) -> Meaning {
        guard plan == .streamedList else { return received(resourceVersion: resourceVersion, now: now) }
        didReceive = true
        guard isInitialEventsEnd else {
            // Servers before 1.27 ignore the parameters and would never end the list.
            refuseStreamedLists()
            return .noStreamedList
        }
        watchingSince = now
        beginWatching(from: resourceVersion)
        return .listComplete
    }

    /// A page is complete.
    mutating func receivedPage(resourceVersion: String, continueToken: String) -> PageMeaning {
        guard !continueToken.isEmpty else {
            beginWatching(from: resourceVersion)
            return .last
        }
        if sent == .page(continueToken: nil) { tokens = [] }
        guard tokens.insert(continueToken).inserted else {
            return .endless("sends a list that never ends: two of its pages continue at the same token")
        }
        guard tokens.count < Self.mostPages else {
            return .endless("sends a list that never ends: \(Self.mostPages) pages, and it goes on")
        }
        plan = .page(continueToken: continueToken)
        return .more
    }

    /// The complete list is not believed: make another one after `delay`.
    mutating func distrustList(delay: Duration) {
        startOver()
        doubt = delay
        resourceVersion = nil
    }

    private mutating func beginWatching(from version: String) {
        tokens = []
        seemsWell()
        if let resourceVersion, isOlder(version) { tellWentBack(from: resourceVersion, to: version) }
        plan = .watch(resourceVersion: version)
        advance(to: version)
    }
    private mutating func advance(to version: String) {
        endsWithoutProgress = 0
        guard !version.isEmpty else { return }
        resourceVersion = version
        if isWatching { plan = .watch(resourceVersion: version) }
    }
    /// Versions of one kind that are numbers can be compared (KEP-5504). Others are never older.
    private func isOlder(_ version: String) -> Bool {
        guard let new = UInt64(version), let old = resourceVersion.flatMap({ UInt64($0) }) else { return false }
        return new < old
    }

    // MARK: How it ended

    mutating func ended(_ end: End, now: Duration, using random: inout some RandomNumberGenerator) {
        let life = watchingSince.map { now - $0 } ?? .zero
        pacer.lived(life)
        noteLife(now)
        let verdict =
            switch end {
            case .closed: closed(after: life)
            // Most likely the path is dead and the server is not: another connection will tell.
            case .silent where isWatching && acceptedAt != nil: Verdict(pace: .soon(), habit: "falls silent")
            case .silent: fail("does not answer")
            case .failed(let reason): fail(reason)
            case .refused(let status): refused(status, using: &random)
            case .wentBack: wentBack()
            }
        let isSoon = pacer.ended(verdict.pace, now: now, using: &random)
        if let problem = verdict.problem ?? (isSoon ? nil : Problem(message: "the API server \(verdict.habit)")) {
            tell(problem)
        }
    }

    private mutating func closed(after life: Duration) -> Verdict {
        if let delay = doubt.take() { return Verdict(pace: .after(delay)) }
        switch sent {
        case .page:
            // A page that brought neither the next one nor the end of the list.
            guard plan != sent else { return fail("ended its list in the middle") }
            return Verdict(pace: .nextPage)
        case .streamedList where !isWatching:
            // Perhaps this server never ends such a list; pages come to an end by themselves.
            plan = .page(continueToken: nil)
            return Verdict(pace: .soon(), habit: "ends its lists before they are complete")
        case .streamedList, .watch:
            // After `timeoutSeconds` this is how every watch ends. At once it is not.
            if !didReceive, life < .seconds(1) { return fail(shortLives) }
            return Verdict(pace: .soon(longest: .seconds(5)), habit: shortLives)
        }
    }
    private var shortLives: String {
        "ends its watches of \(resource.plural) after moments, again and again, so that changes come late; look at the "
            + "time limits of proxies and load balancers in front of it (they must be longer than 10 minutes)"
    }

    mutating func fail(_ reason: String) -> Verdict {
        endsWithoutProgress += 1
        // An event that cannot be read would end every watch at the same place: a new list steps over it.
        if !isWatching || endsWithoutProgress >= 3 { startOver() }
        return Verdict(pace: .backOff(), problem: Problem(message: "the API server \(reason)"))
    }

    /// The next request is a new list.
    mutating func startOver() {
        endsWithoutProgress = 0
        tokens = []
        plan = firstRequest
    }

    mutating func refuseStreamedLists() {
        isStreamingOffered = false
        startOver()
    }

    // MARK: What is told

    private mutating func seemsWell() {
        guard !isLasting else { return }
        problem = nil
        seemedWell = true
    }
    private mutating func tell(_ trouble: Problem) {
        if seemedWell { relapses += 1 }
        seemedWell = false
        problem = trouble
    }
    private mutating func tellWentBack(from old: String, to new: String) {
        relapses = 2
        tell(
            Problem(
                message: "the API server's history went back from version \(old) to \(new), as after etcd was restored "
                    + "from a backup; all \(resource.plural) were listed again and are what it says now"))
    }
    /// Once a watch has lived for a while all is well, whatever was before.
    private mutating func noteLife(_ now: Duration) {
        guard let watchingSince, now - watchingSince >= Backoff.health else { return }
        pacer.forgetFailures()
        relapses = 0
        lostHistories = 0
        seemsWell()
    }
}
