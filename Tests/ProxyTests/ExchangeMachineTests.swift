/// Where a request is on its way, without a connection: sequences of events with what must come of them, and random
/// walks of which only the end is known beforehand.
import Balancing
import HTTPWire
import RouteIR
import TestSupport
import Testing

@testable import Proxy

/// What can happen to a request, in any order.
private enum Event: CaseIterable, Hashable {
    case begin, beginReused, wait, turn, connected, connectionFailed, otherConnected
    case piece, lastPiece, clientIsGone, clientErrs, drain
    case interim, head, retriedHead, upgrade, answerBytes, answerEnd
    case closed, reset, refused, leaving, timeout, violation, unsendable, routeTimeout
}

/// Stands for `Exchange`: does what the machine says and writes down what client, endpoint and pool see of it.
private struct Walk {
    typealias Machine = ExchangeMachine<Int>
    private(set) var machine: Machine
    let limit: RetryPolicy
    private(set) var seen: [String] = []
    private(set) var heads = 0
    private(set) var ends = 0
    private(set) var faults: [String] = []
    /// Given out by the pool and not given back.
    private var hosts = 0
    private var countedRetries = 0
    private var places = 0
    /// A body that cannot be sent again.
    var canRepeat = true
    private var streams = 0

    init(_ limit: RetryPolicy, isIdempotent: Bool = true, hasBody: Bool = false) {
        self.limit = limit
        machine = Machine(hasBody: hasBody, keepsConnection: true)
        machine.mayTry(limit, isIdempotent: isIdempotent)
    }

    mutating func perform(_ event: Event) {
        let wasOver = machine.isOver
        let before = seen.count
        switch event {
        case .begin, .beginReused, .wait, .turn, .connected, .connectionFailed, .otherConnected: seek(event)
        case .piece, .lastPiece, .clientIsGone, .clientErrs, .drain: client(event)
        case .interim, .head, .retriedHead, .upgrade, .answerBytes, .answerEnd: answer(event)
        case .closed: failed(.closed)
        case .reset: failed(.reset)
        case .refused: failed(.refused)
        case .leaving: failed(.leaving)
        case .timeout: failed(.timeout)
        case .violation: failed(.violation(WireViolation(502, .badStatusLine)))
        case .unsendable: failed(.unsendable(WireViolation(431, .headTooLong)))
        case .routeTimeout: stop()
        }
        if wasOver, seen.count > before { faults.append("\(event) after the end: \(seen[before...])") }
        check()
    }

    private mutating func seek(_ event: Event) {
        switch event {
        case .begin, .beginReused:
            guard machine.mayBegin else { return }
            machine.begin(machine.tries.failed.count, isReused: event == .beginReused, now: .start)
            hosts += 1
            seen.append("try")
        case .wait:
            guard machine.mayBegin else { return }
            machine.queue()
            places += 1
        case .turn:
            guard machine.isQueued else { return }
            places -= 1
            machine.unqueue()
        case .connected:
            streams += 1
            if machine.connected(streams, to: machine.tries.failed.count) { seen.append("sent") }
        case .otherConnected:
            if machine.connected(-1, to: -1) { faults.append("sent to an endpoint that nobody chose") }
        default:
            if machine.isConnecting(to: machine.tries.failed.count) {
                failed(.unreachable(Connector.Failure(reason: "refused")))
            }
        }
    }

    private mutating func client(_ event: Event) {
        switch event {
        case .clientIsGone:
            if machine.isTunnel { endTunnel() } else { abort() }
        case .clientErrs: stop()
        case .drain: machine.closesConnection()
        default:
            switch machine.requestBytes(isLast: event == .lastPiece) {
            case .nowhere: break
            case .store, .endpoint: seen.append(event == .lastPiece ? "last" : "piece")
            }
        }
    }

    private mutating func answer(_ event: Event) {
        switch event {
        case .interim: if machine.interimHead(bytes: 10) == true { seen.append("interim") }
        case .head, .upgrade:
            guard machine.awaitsAnswer else { return }
            heads += 1
            seen.append("head")
            if event == .upgrade { machine.becameTunnel() } else { machine.answered(.init()) }
        case .retriedHead:
            guard canRepeat, machine.tries.mayRetry(isUntouched: false), let remains = machine.discardAnswer() else {
                return answer(.head)
            }
            giveBack(remains)
            retry()
        case .answerBytes: if machine.hasAnswer { seen.append("bytes") }
        default: if let remains = machine.completed() { end(remains, "answered") }
        }
    }

    private mutating func failed(_ failure: UpstreamFailure) {
        switch machine.failed(failure, hasAnswered: false, canRepeat: canRepeat) {
        case .ignored: break
        case .tunnelEnded: endTunnel()
        case .answerCut: abort()
        case .unsendable: reply()
        case .tryEnded(let remains, let next):
            giveBack(remains)
            switch next {
            case .again: break
            case .retry: retry()
            case .reply: reply()
            }
        }
    }
    private mutating func retry() {
        machine.retry()
        countedRetries += 1
    }
    private mutating func stop() {
        switch machine.exit {
        case .reply: reply()
        case .abort: abort()
        case .endTunnel: endTunnel()
        case .none: break
        }
    }
    private mutating func reply() {
        guard let remains = machine.replied() else { return }
        heads += 1
        end(remains, "replied")
    }
    private mutating func abort() { if let remains = machine.aborted() { end(remains, "aborted") } }
    private mutating func endTunnel() { if let remains = machine.tunnelEnded() { end(remains, "tunnel ended") } }
    private mutating func end(_ remains: Machine.Remains, _ how: String) {
        giveBack(remains)
        if remains.isQueued { places -= 1 }
        ends += 1
        seen.append(how)
    }
    private mutating func giveBack(_ remains: Machine.Remains) {
        if remains.host != nil { hosts -= 1 }
        if remains.isRetry { countedRetries -= 1 }
    }

    /// What holds after every event.
    private mutating func check() {
        if heads > 1 { faults.append("two heads") }
        if ends > 1 { faults.append("two ends") }
        if machine.isOver != (ends == 1) { faults.append("an end that nobody was told of") }
        if machine.tries.count > limit.attempts + 1 { faults.append("\(machine.tries.count) tries") }
        if places != (machine.isQueued ? 1 : 0) { faults.append("\(places) places in the queue") }
        let isTrying = machine.began != nil
        if hosts != (isTrying ? 1 : 0) { faults.append("\(hosts) endpoints at work") }
        if machine.isOver, countedRetries != 0 { faults.append("\(countedRetries) retries still counted") }
        if machine.hasAnswer, heads == 0 { faults.append("an answer without a head") }
    }
}

@Suite struct ExchangeMachineTests {
    private static let once = RetryPolicy(attempts: 0)
    private static let twice = RetryPolicy(attempts: 1)
    private static let neverSent = RetryPolicy(attempts: 2, classes: .neverSent)

    private struct Row: CustomTestStringConvertible {
        let events: [Event]
        let seen: String
        var limit = ExchangeMachineTests.once
        var isIdempotent = true
        var canRepeat = true
        var hasBody = false
        var testDescription: String { "\(events)" }
    }

    private static let rows = [
        Row(
            events: [.begin, .connected, .head, .answerBytes, .answerEnd],
            seen: "try sent head bytes answered"),
        // Nothing after the end, and no second head.
        Row(
            events: [.begin, .connected, .head, .head, .answerEnd, .answerBytes, .head, .closed],
            seen: "try sent head answered"),
        Row(events: [.begin, .connected, .answerBytes, .answerEnd], seen: "try sent"),
        Row(events: [.begin, .connected, .interim, .interim, .head, .interim], seen: "try sent interim interim head"),
        // A request's body before there is an endpoint, while there is one, and after its end.
        Row(
            events: [.piece, .begin, .piece, .connected, .lastPiece, .lastPiece, .head, .answerEnd],
            seen: "piece try piece sent last head answered", hasBody: true),
        Row(events: [.lastPiece, .begin], seen: "try"),
        // Waiting for a place.
        Row(events: [.wait, .begin, .turn, .begin, .connected], seen: "try sent"),
        Row(events: [.wait, .routeTimeout, .turn, .begin], seen: "replied"),
        Row(events: [.wait, .clientIsGone], seen: "aborted"),
        // A connection that comes too late, or is not the one that was asked for.
        Row(events: [.begin, .routeTimeout, .connected], seen: "try replied"),
        Row(events: [.begin, .otherConnected, .connected], seen: "try sent"),
        // Failures before an answer.
        Row(events: [.begin, .connectionFailed], seen: "try replied"),
        Row(events: [.begin, .connectionFailed, .begin], seen: "try try", limit: neverSent),
        Row(
            events: [.begin, .connectionFailed, .begin, .connectionFailed, .begin, .connectionFailed, .begin],
            seen: "try try try replied", limit: neverSent),
        Row(events: [.begin, .connected, .refused, .begin], seen: "try sent try", limit: neverSent),
        Row(events: [.begin, .connected, .reset, .begin], seen: "try sent replied", limit: neverSent),
        Row(events: [.begin, .connected, .reset, .begin], seen: "try sent try", limit: twice),
        Row(events: [.begin, .connected, .reset], seen: "try sent replied", limit: twice, isIdempotent: false),
        Row(events: [.begin, .connected, .reset], seen: "try sent replied", limit: twice, canRepeat: false),
        Row(events: [.begin, .connected, .unsendable], seen: "try sent replied", limit: twice),
        // What a connection's end in order has undone is no try, but that has an end.
        Row(
            events: (0..<9).flatMap { _ in [.begin, .connected, .leaving] },
            seen: String(repeating: "try sent ", count: 9) + "replied", limit: RetryPolicy(attempts: 0)),
        Row(events: [.begin, .connected, .leaving], seen: "try sent replied", limit: twice, canRepeat: false),
        // An idle connection's end under a request, once at once.
        Row(
            events: [.beginReused, .connected, .closed, .begin, .connected, .closed],
            seen: "try sent try sent replied", limit: neverSent),
        Row(
            events: [.beginReused, .connected, .closed], seen: "try sent replied", limit: neverSent, isIdempotent: false
        ),
        Row(events: [.beginReused, .connected, .closed], seen: "try sent replied"),
        // Answers that are thrown away.
        Row(
            events: [.begin, .connected, .retriedHead, .begin, .connected, .retriedHead, .answerEnd],
            seen: "try sent try sent head answered", limit: twice),
        // Failures after an answer has begun.
        Row(events: [.begin, .connected, .head, .closed], seen: "try sent head aborted", limit: twice),
        Row(events: [.begin, .connected, .head, .routeTimeout], seen: "try sent head aborted"),
        Row(events: [.begin, .connected, .head, .clientErrs], seen: "try sent head aborted"),
        Row(events: [.begin, .connected, .clientErrs], seen: "try sent replied"),
        // Tunnels.
        Row(
            events: [.begin, .connected, .upgrade, .answerBytes, .answerEnd, .closed],
            seen: "try sent head bytes tunnel ended"),
        Row(events: [.begin, .connected, .upgrade, .clientIsGone, .answerBytes], seen: "try sent head tunnel ended"),
    ]

    @Test(arguments: rows) private func whatComesOfEvents(row: Row) {
        var walk = Walk(row.limit, isIdempotent: row.isIdempotent, hasBody: row.hasBody)
        walk.canRepeat = row.canRepeat
        for event in row.events { walk.perform(event) }
        #expect(walk.seen.joined(separator: " ") == row.seen)
        #expect(walk.faults.isEmpty)
    }

    /// Events in an order that no peer would think of.
    @Test func everyWalkEndsOnceAndInOneWay() {
        var random = SeededGenerator()
        var endings: [String: Int] = [:]
        for _ in 0..<20_000 {
            let limit = RetryPolicy(
                attempts: .random(in: 0...3, using: &random),
                classes: RetryPolicy.Classes(rawValue: .random(in: 0...7, using: &random)))
            var walk = Walk(limit, isIdempotent: Bool.random(using: &random), hasBody: Bool.random(using: &random))
            walk.canRepeat = Bool.random(using: &random)
            var events: [Event] = []
            for _ in 0..<Int.random(in: 1...40, using: &random) {
                // Half of the steps go on, or few would get far.
                let onward: [Event] = [.begin, .connected, .head, .upgrade, .answerEnd]
                let pool = Bool.random(using: &random) ? onward : Event.allCases
                events.append(pool[Int.random(in: 0..<pool.count, using: &random)])
                walk.perform(events[events.count - 1])
            }
            walk.perform(.clientIsGone)
            #expect(walk.faults.isEmpty && walk.ends == 1, "\(events): \(walk.seen)")
            endings[
                walk.seen.last { ["answered", "replied", "aborted", "tunnel ended"].contains($0) } ?? "", default: 0] +=
                1
        }
        // The walks went everywhere.
        #expect(endings.keys.sorted() == ["aborted", "answered", "replied", "tunnel ended"], "\(endings)")
    }

    @Test func interimAnswersAreBounded() {
        var machine = ExchangeMachine<Int>(hasBody: false, keepsConnection: true)
        let early = machine.interimHead(bytes: 1)
        machine.begin(0, isReused: false, now: .start)
        let isSent = machine.connected(1, to: 0)
        var other = machine
        let heads = (0..<17).map { _ in machine.interimHead(bytes: 1) }
        let long = (0..<2).map { _ in other.interimHead(bytes: 48 << 10) }
        #expect(early == nil && isSent)
        #expect(heads == Array(repeating: true, count: 16) + [false] && long == [true, false])
    }

    @Test func theConnectionIsKeptOnlyAfterAWholeRequest() {
        var machine = ExchangeMachine<Int>(hasBody: true, keepsConnection: true)
        #expect(!machine.keepsAlive)
        _ = machine.requestBytes(isLast: true)
        #expect(machine.keepsAlive)
        machine.closesConnection()
        #expect(!machine.keepsAlive)
    }
}
