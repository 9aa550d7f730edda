/// Where a request is on its way, and what that leaves possible: values in, values out. Each phase carries what is true
/// in it, so that an answer without a head, a second head or a try too many cannot be written down. `Exchange` does
/// what the machine says.
import Balancing
import RouteIR

/// `Stream` is the endpoint's side of the exchange; the machine only keeps it.
struct ExchangeMachine<Stream> {
    enum Phase {
        /// Before the first try, or between two. `isRetry`: the next one is counted against the budget.
        case choosing(isRetry: Bool)
        /// In the queue of its pool.
        case queued(isRetry: Bool)
        /// An endpoint is chosen, the connection to it is being made.
        case connecting(Try)
        /// The request is on its way, or all there; no answer has begun.
        case asking(Try, Stream)
        /// The client has the head of the answer.
        case answering(Try, Stream, Answer)
        /// Bytes in both directions.
        case tunnel(Try, Stream)
        case ended(Ending)
    }
    struct Try {
        let host: EndpointBalancer.HostID
        /// On a connection, or beside others on one, that has served before.
        let isReused: Bool
        let isRetry: Bool
        let began: Moment
    }
    /// What the client is told, and how.
    struct Answer {
        enum Chunks {
            case asTheyCame
            /// The client's side has none.
            case removed
            /// The endpoint's side has none.
            case added
        }
        var chunks = Chunks.asTheyCame
        /// Only the end of the client's connection ends it.
        var endsWithConnection = false
    }
    enum Ending {
        case answered
        /// `isCut`: of the answer there is a part that must not look like the whole.
        case aborted(isCut: Bool)
        /// `isCut`: before the endpoint had said that it sends no more, or while it was still to take something.
        case tunnel(isCut: Bool)
    }
    /// What a phase leaves to be given back.
    struct Remains {
        var host: EndpointBalancer.HostID?
        var stream: Stream?
        var isRetry = false
        var isQueued = false
    }

    private(set) var phase = Phase.choosing(isRetry: false)
    private(set) var tries = Tries()
    /// Everything that the client has to send was received.
    private(set) var isRequestComplete: Bool
    /// The client was told to send no more of it for now.
    private(set) var isRequestPaused = false
    /// For another request, as far as it is known.
    private var keepsConnection: Bool
    private var interim = (answers: 0, bytes: 0)
    private(set) var tunnelEnds = TunnelEnds()

    init(hasBody: Bool, keepsConnection: Bool) {
        isRequestComplete = !hasBody
        self.keepsConnection = keepsConnection
    }

    // MARK: What can be asked of it

    var isOver: Bool { if case .ended = phase { true } else { false } }
    var isQueued: Bool { if case .queued = phase { true } else { false } }
    var isTunnel: Bool { if case .tunnel = phase { true } else { false } }
    var wasTunnelCut: Bool { if case .ended(.tunnel(true)) = phase { true } else { false } }
    /// A head has gone to the client.
    var hasAnswer: Bool {
        switch phase {
        case .answering, .tunnel: true
        case .choosing, .queued, .connecting, .asking, .ended: false
        }
    }
    var answer: Answer? { if case .answering(_, _, let answer) = phase { answer } else { nil } }
    /// When the try under way began.
    var began: Moment? {
        switch phase {
        case .connecting(let one), .asking(let one, _), .answering(let one, _, _), .tunnel(let one, _): one.began
        case .choosing, .queued, .ended: nil
        }
    }
    var stream: Stream? {
        switch phase {
        case .asking(_, let stream), .answering(_, let stream, _), .tunnel(_, let stream): stream
        case .choosing, .queued, .connecting, .ended: nil
        }
    }
    /// An orderly end of the client's connection would make a part look like the whole.
    var isCut: Bool {
        switch phase {
        case .answering(_, _, let answer): answer.endsWithConnection
        case .ended(.aborted(let isCut)), .ended(.tunnel(let isCut)): isCut
        case .tunnel: !tunnelEnds.hasWholeAnswer
        case .choosing, .queued, .connecting, .asking, .ended: false
        }
    }
    /// The client's connection can be used again, as far as this request is concerned.
    var keepsAlive: Bool { keepsConnection && isRequestComplete }

    // MARK: Tries

    mutating func mayTry(_ limit: RetryPolicy?, isIdempotent: Bool) {
        tries.allow(limit, isIdempotent: isIdempotent)
    }

    mutating func queue() { if case .choosing(let isRetry) = phase { phase = .queued(isRetry: isRetry) } }
    /// Its turn has come.
    mutating func unqueue() { if case .queued(let isRetry) = phase { phase = .choosing(isRetry: isRetry) } }

    var mayBegin: Bool { if case .choosing = phase { tries.isAnotherLeft } else { false } }
    mutating func begin(_ host: EndpointBalancer.HostID, isReused: Bool, now: Moment) {
        guard mayBegin, case .choosing(let isRetry) = phase else { return }
        tries.begin()
        phase = .connecting(Try(host: host, isReused: isReused, isRetry: isRetry, began: now))
    }

    func isConnecting(to host: EndpointBalancer.HostID) -> Bool {
        if case .connecting(let one) = phase { one.host == host } else { false }
    }
    /// False: it is not wanted, the request has ended or gone elsewhere meanwhile.
    mutating func connected(_ stream: Stream, to host: EndpointBalancer.HostID) -> Bool {
        guard case .connecting(let one) = phase, one.host == host else { return false }
        phase = .asking(one, stream)
        return true
    }

    /// The answer is thrown away for another try. nil: there is none.
    mutating func discardAnswer() -> Remains? {
        guard case .asking(let one, _) = phase else { return nil }
        tries.failed(at: one.host)
        return leave(for: .choosing(isRetry: false))
    }
    mutating func retry() { if case .choosing = phase { phase = .choosing(isRetry: true) } }

    // MARK: Failures of the endpoint

    enum Failed {
        /// Nobody waits for that any more.
        case ignored
        case tunnelEnded
        case answerCut
        /// No endpoint can be sent this.
        case unsendable
        case tryEnded(Remains, Next)
    }
    enum Next {
        /// At once, on a connection of its own.
        case again
        /// If the budget allows.
        case retry
        case reply
    }

    /// `hasAnswered`: bytes of an answer have come. `canRepeat`: all that was sent can be sent again.
    mutating func failed(_ failure: UpstreamFailure, hasAnswered: Bool, canRepeat: Bool) -> Failed {
        let one: Try
        switch phase {
        case .ended, .choosing, .queued: return .ignored
        case .tunnel: return .tunnelEnded
        case .answering: return .answerCut
        case .connecting(let current), .asking(let current, _): one = current
        }
        // Nobody has seen it: no connection came to be, or the endpoint says so itself and has not shown otherwise.
        let isUntouched: Bool
        switch failure {
        case .unsendable: return .unsendable
        case .unreachable, .leaving, .noWebSocket(.notOffered): isUntouched = true
        case .refused: isUntouched = !hasAnswered
        case .closed, .reset, .timeout, .violation, .malformed, .unwanted, .noWebSocket: isUntouched = false
        }
        let remains = leave(for: .choosing(isRetry: false))
        // A server may close an idle connection while a request is on its way. It may as well have read it, so this is
        // for what may be done twice (RFC 9110, 9.2.2), and a try like any other.
        if case .closed = failure, one.isReused, !hasAnswered, tries.mayRepeatAtOnce, canRepeat {
            tries.repeatsAtOnce()
            return .tryEnded(remains, .again)
        }
        // All that were on their way when a server ended a connection in order: nobody has failed, and no budget for
        // failures is large enough for them.
        if case .leaving = failure, canRepeat, tries.undo() { return .tryEnded(remains, .again) }
        tries.failed(at: one.host)
        return .tryEnded(remains, canRepeat && tries.mayRetry(isUntouched: isUntouched) ? .retry : .reply)
    }

    // MARK: From the client

    enum Destination {
        case nowhere
        case endpoint(Stream)
        /// Until there is an endpoint.
        case store
    }

    mutating func requestBytes(isLast: Bool) -> Destination {
        guard !isRequestComplete else { return .nowhere }
        let destination = destination
        if case .nowhere = destination { return .nowhere }
        isRequestComplete = isLast
        return destination
    }
    private var destination: Destination {
        switch phase {
        case .choosing, .queued, .connecting: .store
        case .asking(_, let stream), .answering(_, let stream, _): .endpoint(stream)
        case .tunnel, .ended: .nowhere
        }
    }

    /// True: that is news for the client.
    mutating func pauseRequest() -> Bool {
        defer { isRequestPaused = true }
        return !isRequestPaused
    }
    mutating func resumeRequest() -> Bool {
        defer { isRequestPaused = false }
        return isRequestPaused
    }
    mutating func closesConnection() { keepsConnection = false }

    // MARK: From the endpoint

    /// More of them, or longer ones together, are no answer to any request.
    static var maximumInterim: (answers: Int, bytes: Int) { (16, 64 << 10) }

    /// A head before the answer; nil: nobody waits for it, false: it is one too many.
    mutating func interimHead(bytes: Int) -> Bool? {
        guard case .asking = phase else { return nil }
        interim = (interim.answers + 1, interim.bytes + bytes)
        return interim.answers <= Self.maximumInterim.answers && interim.bytes <= Self.maximumInterim.bytes
    }
    /// A head may be sent to the client: there was none, and there is one to come.
    var awaitsAnswer: Bool { if case .asking = phase { true } else { false } }
    /// The client has got it.
    mutating func answered(_ answer: Answer) {
        guard case .asking(let one, let stream) = phase else { return }
        phase = .answering(one, stream, answer)
    }
    mutating func becameTunnel() {
        guard case .asking(let one, let stream) = phase else { return }
        phase = .tunnel(one, stream)
    }

    // MARK: The end

    /// How a request can end that cannot go on.
    enum Exit {
        case none, reply, abort, endTunnel
    }
    var exit: Exit {
        switch phase {
        case .choosing, .queued, .connecting, .asking: .reply
        case .answering: .abort
        case .tunnel: .endTunnel
        case .ended: .none
        }
    }

    /// nil: there is no answer that could be complete.
    mutating func completed() -> Remains? {
        guard case .answering = phase else { return nil }
        return leave(for: .ended(.answered))
    }
    /// With an answer of our own; nil: the client has another already.
    mutating func replied() -> Remains? {
        guard case .reply = exit else { return nil }
        return leave(for: .ended(.answered))
    }
    /// nil: it is over already.
    mutating func aborted() -> Remains? { isOver ? nil : leave(for: .ended(.aborted(isCut: isCut))) }
    mutating func tunnelEnded() -> Remains? {
        isTunnel ? leave(for: .ended(.tunnel(isCut: !tunnelEnds.hasWholeAnswer))) : nil
    }
    /// This side of the tunnel sends no more. False: it said so before.
    mutating func tunnelHalfEnded(_ side: TunnelEnds) -> Bool { isTunnel && tunnelEnds.insert(side).inserted }
    /// The connection or stream on this side is gone; the other one may still have to take what was sent to it.
    mutating func tunnelLeft(_ side: TunnelEnds) -> Remains? {
        let isNews = tunnelEnds.insert(side).inserted
        guard !isNews || !tunnelEnds.isComplete || tunnelEnds.haveBothLeft else { return nil }
        return tunnelEnded()
    }

    private mutating func leave(for next: Phase) -> Remains {
        defer { phase = next }
        switch phase {
        case .choosing(let isRetry): return Remains(isRetry: isRetry)
        case .queued(let isRetry): return Remains(isRetry: isRetry, isQueued: true)
        case .connecting(let one): return Remains(host: one.host, isRetry: one.isRetry)
        case .asking(let one, let stream), .answering(let one, let stream, _), .tunnel(let one, let stream):
            return Remains(host: one.host, stream: stream, isRetry: one.isRetry)
        case .ended: return Remains()
        }
    }
}

/// How much of a tunnel is at its end: its two directions, then the connections or streams it runs over.
struct TunnelEnds: OptionSet {
    let rawValue: UInt8
    /// Sends no more.
    static let client = Self(rawValue: 1)
    static let endpoint = Self(rawValue: 2)
    static let clientLeft = Self(rawValue: 4)
    static let endpointLeft = Self(rawValue: 8)

    /// Both have said so: what is on its way still arrives, and then it is over.
    var isComplete: Bool { isSuperset(of: [.client, .endpoint]) }
    var haveBothLeft: Bool { isSuperset(of: [.clientLeft, .endpointLeft]) }
    /// All that the endpoint will ever send has come.
    var hasWholeAnswer: Bool { isSuperset(of: [.endpoint, .endpointLeft]) }
}

/// How often a request was sent and may be, and where it came to nothing.
struct Tries {
    private(set) var count: UInt32 = 0
    private(set) var failed: [EndpointBalancer.HostID] = []
    /// Of idle connections: where one was closed under the request, the others are likely to go as well.
    private(set) var mayReuse = true
    /// After the first.
    private var more: UInt32 = 0
    private var classes: RetryPolicy.Classes = []
    private var isIdempotent = false
    private var undone = 0

    mutating func allow(_ limit: RetryPolicy?, isIdempotent: Bool) {
        more = limit?.attempts ?? 0
        classes = limit?.classes ?? []
        self.isIdempotent = isIdempotent
    }

    /// There is one left.
    var isAnotherLeft: Bool { count <= more }
    var mayRepeatAtOnce: Bool { mayReuse && isIdempotent && isAnotherLeft }
    /// `isUntouched`: no endpoint can have seen the request.
    func mayRetry(isUntouched: Bool) -> Bool {
        guard isAnotherLeft else { return false }
        return isUntouched && classes.contains(.neverSent)
            || classes.contains(isIdempotent ? .idempotent : .nonIdempotent)
    }

    fileprivate mutating func begin() { count += 1 }
    fileprivate mutating func failed(at host: EndpointBalancer.HostID) { failed.append(host) }
    fileprivate mutating func repeatsAtOnce() { mayReuse = false }
    /// It was none. False: that cannot be so each time.
    fileprivate mutating func undo() -> Bool {
        guard undone < 8 else { return false }
        undone += 1
        count -= 1
        return true
    }
}
