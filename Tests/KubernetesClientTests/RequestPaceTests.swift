/// Nothing an API server can say makes us ask without a growing pause and a word about it: over every status and every
/// way for lists, pages and watches to end, and over random scripts of answers, all in virtual time.
import TestSupport
import Testing

@testable import KubernetesClient

/// What a server does with one request.
private enum Answer: Sendable {
    case refuse(APIStatus)
    /// All in order, then ended like this.
    case serve(then: WatchMachine.End)
    /// Accepted, and ended before anything came.
    case accept(then: WatchMachine.End)
    case page(token: String)
    case bookmark(version: Int)
    case doubtfulList
}

private struct Drive {
    static let doubt = Duration.seconds(15)
    var machine = WatchMachine(resource: .services(proxyName: nil))
    var now = Duration.zero
    var random = SeededGenerator(seed: 1)
    /// When requests went out: further pages of a list, and all others.
    var pages: [Duration] = []
    var others: [Duration] = []
    var doubted = false
    /// A pause nobody is told the reason of.
    var silentPause: Duration?

    mutating func run(for time: Duration, _ answer: (WatchMachine.Request, inout Drive) -> Answer) {
        while now < time {
            switch machine.next() {
            case .wait(let pause):
                if pause > .milliseconds(150), machine.problem == nil, !doubted { silentPause = pause }
                now += pause
            case .send(let request):
                doubted = false
                if case .page(.some) = request { pages.append(now) } else { others.append(now) }
                take(answer(request, &self), of: request)
            }
        }
    }

    private mutating func take(_ answer: Answer, of request: WatchMachine.Request) {
        var end: WatchMachine.End = .closed
        switch answer {
        case .refuse(let status): return machine.ended(.refused(status), now: now, using: &random)
        case .accept(let then):
            machine.accepted(now: now)
            end = then
        case .serve(let then):
            machine.accepted(now: now)
            end = serve(request, then)
        case .doubtfulList:
            machine.accepted(now: now)
            _ = serve(request, .closed)
            machine.distrustList(delay: Self.doubt)
            doubted = true
        case .page(let token):
            machine.accepted(now: now)
            if case .page = request {
                if case .endless(let reason) = machine.receivedPage(resourceVersion: "10", continueToken: token) {
                    end = .failed(reason)
                }
            }
        case .bookmark(let version):
            machine.accepted(now: now)
            let meaning = machine.receivedBookmark(
                resourceVersion: "\(version)", isInitialEventsEnd: false, now: now)
            if meaning == .wentBack { end = .wentBack }
        }
        machine.ended(end, now: now, using: &random)
    }

    private mutating func serve(_ request: WatchMachine.Request, _ then: WatchMachine.End) -> WatchMachine.End {
        switch request {
        case .page:
            _ = machine.receivedPage(resourceVersion: "10", continueToken: "")
            return .closed
        case .streamedList:
            _ = machine.receivedBookmark(resourceVersion: "10", isInitialEventsEnd: true, now: now)
        case .watch: _ = machine.received(resourceVersion: "10", now: now)
        }
        return then
    }
}

/// The most of `times` in any ten seconds.
private func busiest(_ times: [Duration]) -> Int {
    var first = 0
    var most = 0
    for (last, time) in times.enumerated() {
        while time - times[first] > .seconds(10) { first += 1 }
        most = max(most, last - first + 1)
    }
    return most
}

@Suite struct RequestPaceTests {
    /// Requests in any ten seconds, whatever is answered; further pages of a list apart.
    private static let most = 20
    private static let mostPages = 260

    private func expectPaced(_ drive: Drive, _ what: String, _ location: SourceLocation = #_sourceLocation) {
        #expect(busiest(drive.others) <= Self.most, "\(what)", sourceLocation: location)
        #expect(busiest(drive.pages) <= Self.mostPages, "\(what)", sourceLocation: location)
        #expect(drive.silentPause == nil, "\(what)", sourceLocation: location)
    }
    /// Ten minutes of the same trouble.
    private func expectBraked(_ drive: Drive, _ what: String, _ location: SourceLocation = #_sourceLocation) {
        expectPaced(drive, what, location)
        let late = drive.others.count { $0 > .seconds(300) }
        #expect((1...130).contains(late), "\(what): \(late) in the second five minutes", sourceLocation: location)
        #expect(drive.machine.problem != nil, "\(what)", sourceLocation: location)
    }

    private static let reasons = ["", "Expired", "Forbidden", "TooManyRequests"]

    @Test("Every status, whatever it comes in answer to, leads to growing pauses and to a message that names it")
    func pacesStatuses() {
        let places: [(String, @Sendable (WatchMachine.Request, APIStatus) -> Answer)] = [
            ("everything", { _, status in .refuse(status) }),
            ("watches", { $0.isList ? .serve(then: .closed) : .refuse($1) }),
            ("lists and the events after", { $0.isList ? .serve(then: .refused($1)) : .serve(then: .refused($1)) }),
            ("the beginning of watches", { $0.isList ? .serve(then: .closed) : .accept(then: .refused($1)) }),
            (
                "further pages",
                { request, status in
                    switch request {
                    case .streamedList: .refuse(APIStatus(code: 422))
                    case .page(nil): .page(token: "more")
                    default: .refuse(status)
                    }
                }
            ),
        ]
        for code in [0, 999] + Array(100...599) {
            for reason in Self.reasons {
                let status = APIStatus(code: code, reason: reason, message: "no")
                for (place, answer) in places {
                    var drive = Drive()
                    drive.run(for: .seconds(600)) { request, _ in answer(request, status) }
                    expectBraked(drive, "\(code) \(reason) in answer to \(place)")
                    let message = drive.machine.problem?.message ?? ""
                    #expect(message.contains("\(code)"), "\(code) \(reason) in answer to \(place): \(message)")
                }
            }
        }
    }

    @Test("The same of any kind that may be missing: that is no trouble, and asked again after minutes")
    func pacesMissingKind() {
        var drive = Drive()
        drive.machine = WatchMachine(resource: .serviceCIDRs)
        drive.run(for: .seconds(6000)) { _, _ in .refuse(APIStatus(code: 404)) }
        #expect(drive.others.count <= 13 && drive.machine.problem?.isHarmless == true)
    }

    @Test(
        "Every way for a watch to end, right after it began, leads to growing pauses and a message",
        arguments: [
            WatchMachine.End.closed, .silent, .failed("ended its watch in the middle of an event"), .wentBack,
            .refused(APIStatus(code: 410)), .refused(APIStatus(code: 504, message: "Too large resource version")),
        ], [true, false])
    func pacesEnds(end: WatchMachine.End, delivers: Bool) {
        for streams in [true, false] {
            var drive = Drive()
            drive.run(for: .seconds(600)) { request, _ in
                if request == .streamedList, !streams { return .refuse(APIStatus(code: 400)) }
                if request.isList { return .serve(then: end) }
                return delivers ? .serve(then: end) : .accept(then: end)
            }
            expectBraked(drive, "\(end), streams \(streams)")
        }
    }

    @Test("Every way for a list not to end")
    func pacesEndlessLists() {
        let tokens: [(String, @Sendable (Int) -> String)] = [
            ("the same", { _ in "a" }), ("two in turn", { $0.isMultiple(of: 2) ? "a" : "b" }),
            ("always another", { "\($0)" }),
        ]
        for (name, token) in tokens {
            var drive = Drive()
            drive.run(for: .seconds(1200)) { request, drive in
                request == .streamedList
                    ? .refuse(APIStatus(code: 422)) : .page(token: token(drive.pages.count + drive.others.count))
            }
            expectPaced(drive, name)
            #expect(drive.machine.problem?.message.contains("never ends") == true, "\(name)")
        }
        var drive = Drive()
        drive.run(for: .seconds(600)) { _, _ in .accept(then: .closed) }
        expectBraked(drive, "lists that are empty answers")
    }

    @Test("Watches that end after one bookmark, and lists whose history is gone at once, are told of until one lives")
    func tellsUntilWatchLives() {
        for end in [WatchMachine.End.closed, .refused(APIStatus(code: 410))] {
            var drive = Drive()
            drive.run(for: .seconds(120)) { _, _ in .serve(then: end) }
            var machine = drive.machine
            while case .wait = machine.next() {}
            machine.accepted(now: drive.now)
            _ = machine.receivedBookmark(resourceVersion: "10", isInitialEventsEnd: true, now: drive.now)
            #expect(machine.problem != nil, "a good beginning is not the end of it")
            let later = drive.now + .seconds(61)
            _ = machine.receivedBookmark(resourceVersion: "10", isInitialEventsEnd: false, now: later)
            #expect(machine.problem == nil)
            machine.ended(.refused(APIStatus(code: 410)), now: later, using: &drive.random)
            if case .wait(let pause) = machine.next() { #expect(pause <= .milliseconds(100)) }
        }
    }

    @Test("In any ten seconds of any script of answers there are at most so many requests", arguments: 0..<200)
    func boundsAnyScript(seed: Int) {
        var drive = Drive()
        drive.random = SeededGenerator(seed: UInt64(seed))
        let instant = Double.random(in: 0...1, using: &drive.random)
        // Each script prefers some answers: all of them mixed evenly would rarely keep up one trouble for long.
        let palette = (0..<Int.random(in: 1...5, using: &drive.random)).map { _ in randomAnswer(&drive) }
        drive.run(for: .seconds(1200)) { _, drive in
            if Double.random(in: 0...1, using: &drive.random) > instant {
                drive.now += .seconds(30) * Double.random(in: 0...1, using: &drive.random)
            }
            let isTypical = Double.random(in: 0...1, using: &drive.random) < 0.9
            return isTypical ? palette.randomElement(using: &drive.random) ?? .doubtfulList : randomAnswer(&drive)
        }
        expectPaced(drive, "seed \(seed): \(palette)")
    }

    private func randomAnswer(_ drive: inout Drive) -> Answer {
        let code = Int.random(in: 100...599, using: &drive.random)
        let reason = Self.reasons.randomElement(using: &drive.random) ?? ""
        let retry = Bool.random(using: &drive.random) ? Duration.seconds(1) : nil
        let statuses = [
            APIStatus(code: code, reason: reason, retryAfter: retry), APIStatus(code: 410), APIStatus(code: 401),
            APIStatus(code: 400), APIStatus(code: 504, message: "Too large resource version"),
        ]
        let status = statuses.randomElement(using: &drive.random) ?? APIStatus(code: 500)
        let ends: [WatchMachine.End] = [.closed, .silent, .failed("fails"), .wentBack, .refused(status)]
        let end = ends.randomElement(using: &drive.random) ?? .closed
        switch Int.random(in: 0..<9, using: &drive.random) {
        case 0, 1: return .refuse(status)
        case 2, 3: return .serve(then: end)
        case 4: return .accept(then: end)
        case 5: return .page(token: "\(Int.random(in: 0...1_000_000, using: &drive.random))")
        case 6: return .page(token: "a")
        case 7: return .bookmark(version: Int.random(in: 1...20, using: &drive.random))
        default: return .doubtfulList
        }
    }
}
