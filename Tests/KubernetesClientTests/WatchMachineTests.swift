/// The decisions, without server, network or clock.
import TestSupport
import Testing

@testable import KubernetesClient

@Suite struct WatchMachineTests {
    private var random = SeededGenerator(seed: 7)
    private let resource = WatchedResource.services(proxyName: nil)

    private func pause(of action: WatchMachine.Action) -> Duration? {
        if case .wait(let pause) = action { pause } else { nil }
    }
    private func expectNext(
        _ machine: inout WatchMachine, _ expected: WatchMachine.Action, at location: SourceLocation = #_sourceLocation
    ) {
        let action = machine.next()
        #expect(action == expected, sourceLocation: location)
    }
    private func expectPause(
        _ machine: inout WatchMachine, at location: SourceLocation = #_sourceLocation,
        _ isGood: (Duration) -> Bool = { _ in true }
    ) {
        let action = machine.next()
        #expect(pause(of: action).map(isGood) == true, "\(action)", sourceLocation: location)
    }
    /// A machine that watches from version 10.
    private func watching() -> WatchMachine {
        var machine = WatchMachine(resource: resource)
        expectNext(&machine, .send(.streamedList))
        machine.accepted(now: .zero)
        let meaning = machine.receivedBookmark(resourceVersion: "10", isInitialEventsEnd: true, now: .zero)
        #expect(meaning == .listComplete)
        return machine
    }

    @Test mutating func streamedListGoesOnAsWatch() {
        var machine = watching()
        let meaning = machine.received(resourceVersion: "11", now: .zero)
        #expect(meaning == .progress)
        machine.ended(.closed, now: .seconds(400), using: &random)
        expectNext(&machine, .send(.watch(resourceVersion: "11")))
    }

    @Test("During a list the versions of objects are no place to go on from")
    mutating func ignoresVersionsInList() {
        var machine = WatchMachine(resource: resource)
        _ = machine.next()
        machine.accepted(now: .zero)
        _ = machine.received(resourceVersion: "99", now: .zero)
        machine.ended(.failed("x"), now: .zero, using: &random)
        expectPause(&machine)
        expectNext(&machine, .send(.streamedList))
        #expect(machine.resourceVersion == nil)
    }

    @Test(arguments: [400, 405, 422]) mutating func refusedStreamedListBecomesPages(code: Int) {
        var machine = WatchMachine(resource: resource)
        _ = machine.next()
        machine.ended(.refused(APIStatus(code: code)), now: .zero, using: &random)
        expectNext(&machine, .send(.page(continueToken: nil)))
        machine.accepted(now: .zero)
        let first = machine.receivedPage(resourceVersion: "5", continueToken: "more")
        #expect(first == .more)
        machine.ended(.closed, now: .zero, using: &random)
        expectNext(&machine, .send(.page(continueToken: "more")))
        machine.ended(.refused(APIStatus(code: 410)), now: .zero, using: &random)
        _ = machine.next()
        expectNext(&machine, .send(.page(continueToken: nil)))
        let last = machine.receivedPage(resourceVersion: "6", continueToken: "")
        #expect(last == .last)
        machine.ended(.closed, now: .zero, using: &random)
        expectNext(&machine, .send(.watch(resourceVersion: "6")))
        // And for good: a later list comes in pages, too.
        machine.ended(.refused(APIStatus(code: 410)), now: .zero, using: &random)
        _ = machine.next()
        expectNext(&machine, .send(.page(continueToken: nil)))
    }

    @Test(
        "410 is never answered with the same version",
        arguments: [
            APIStatus(code: 410), APIStatus(code: 410, reason: "Expired"), APIStatus(code: 500, reason: "Expired"),
            APIStatus(code: 504, message: "Timeout: Too large resource version: 90, current: 12"),
        ])
    mutating func lostHistoryNeedsList(status: APIStatus) {
        var machine = watching()
        machine.ended(.refused(status), now: .seconds(5), using: &random)
        expectPause(&machine) { $0 < .seconds(1) }
        expectNext(&machine, .send(.streamedList))
    }

    @Test("Failures wait longer and longer, up to 30 s; a minute of health forgets them")
    mutating func backsOff() throws {
        var machine = watching()
        var longest = Duration.zero
        for round in 0..<40 {
            machine.ended(.failed("x"), now: .seconds(round), using: &random)
            let action = machine.next()
            let length = try #require(pause(of: action))
            #expect(length <= Backoff().longest)
            longest = max(longest, length)
            _ = machine.next()
        }
        #expect(longest > .seconds(10))
        machine.accepted(now: .seconds(100))
        _ = machine.receivedBookmark(resourceVersion: "12", isInitialEventsEnd: true, now: .seconds(100))
        machine.ended(.failed("x"), now: .seconds(161), using: &random)
        expectPause(&machine) { $0 <= Backoff().first }
    }

    @Test("Watches that end in good order after minutes go on for ever, each at once")
    mutating func reconnectsAtOnce() {
        var machine = watching()
        for round in 1...50 {
            machine.ended(.closed, now: .seconds(300 * round), using: &random)
            expectNext(&machine, .send(.watch(resourceVersion: "10")))
            machine.accepted(now: .seconds(300 * round))
            #expect(machine.problem == nil)
        }
    }

    @Test("Events that cannot be read three times are stepped over with a new list")
    mutating func stepsOverPoison() {
        var machine = watching()
        for _ in 0..<2 {
            machine.ended(.failed("x"), now: .zero, using: &random)
            _ = machine.next()
            expectNext(&machine, .send(.watch(resourceVersion: "10")))
        }
        machine.ended(.failed("x"), now: .zero, using: &random)
        _ = machine.next()
        expectNext(&machine, .send(.streamedList))
    }

    @Test("Retry-After is obeyed, and more than obeyed")
    mutating func obeysRetryAfter() {
        var machine = watching()
        machine.ended(.refused(APIStatus(code: 429, retryAfter: .seconds(7))), now: .zero, using: &random)
        expectPause(&machine) { $0 >= .seconds(7) }
        expectNext(&machine, .send(.watch(resourceVersion: "10")))
    }

    @Test("After 401 the next request, with new credentials, goes out at once; after another one it waits")
    mutating func renewsCredentialsOnce() {
        var machine = watching()
        machine.ended(.refused(APIStatus(code: 401)), now: .zero, using: &random)
        expectNext(&machine, .send(.watch(resourceVersion: "10")))
        machine.ended(.refused(APIStatus(code: 401)), now: .zero, using: &random)
        expectPause(&machine)
        expectNext(&machine, .send(.watch(resourceVersion: "10")))
        machine.accepted(now: .zero)
        machine.ended(.refused(APIStatus(code: 401)), now: .zero, using: &random)
        expectNext(&machine, .send(.watch(resourceVersion: "10")))
    }

    @Test("A watch that ends at once, again and again, is not asked for without a pause")
    mutating func brakesEmptyWatches() {
        var machine = watching()
        machine.ended(.closed, now: .seconds(300), using: &random)
        expectNext(&machine, .send(.watch(resourceVersion: "10")))
        machine.accepted(now: .seconds(300))
        machine.ended(.closed, now: .seconds(300) + .milliseconds(3), using: &random)
        expectPause(&machine)
        #expect(machine.problem != nil)
    }

    @Test("A kind we can do without is off when it is missing, and is asked for again later")
    mutating func missingKindIsOff() {
        var machine = WatchMachine(resource: .serviceCIDRs)
        _ = machine.next()
        machine.ended(.refused(APIStatus(code: 404)), now: .zero, using: &random)
        #expect(machine.isAbsent && machine.problem?.isHarmless == true)
        expectPause(&machine) { $0 > .seconds(300) }
        expectNext(&machine, .send(.streamedList))
    }

    @Test("A connection that falls silent is replaced at once; a server that never answers is a failure")
    mutating func replacesSilentConnection() {
        var machine = watching()
        for round in 1...3 {
            machine.ended(.silent, now: .seconds(150 * round), using: &random)
            #expect(machine.problem == nil)
            expectNext(&machine, .send(.watch(resourceVersion: "10")))
            if round < 3 { machine.accepted(now: .seconds(150 * round)) }
        }
        machine.ended(.silent, now: .seconds(600), using: &random)
        #expect(machine.problem != nil)
        expectPause(&machine)
    }

    @Test("A server restored from a backup tells versions that are older: everything is listed again, and that is said")
    mutating func listsAgainWhenHistoryGoesBack() {
        var machine = watching()
        let older = machine.receivedBookmark(resourceVersion: "7", isInitialEventsEnd: false, now: .seconds(1))
        #expect(older == .wentBack)
        machine.ended(.wentBack, now: .seconds(1), using: &random)
        expectPause(&machine) { $0 <= .milliseconds(100) }
        expectNext(&machine, .send(.streamedList))
        machine.accepted(now: .seconds(2))
        _ = machine.receivedBookmark(resourceVersion: "7", isInitialEventsEnd: true, now: .seconds(2))
        #expect(machine.problem?.message.contains("went back from version 10 to 7") == true)
        #expect(machine.resourceVersion == "7")
        // What follows is followed, and after a minute nothing is left of it.
        let next = machine.received(resourceVersion: "8", now: .seconds(3))
        #expect(next == .progress && machine.problem != nil)
        _ = machine.received(resourceVersion: "9", now: .seconds(63))
        #expect(machine.problem == nil)
    }

    @Test("Versions that are no numbers, that stay, and those of what was deleted long ago never go back")
    mutating func comparesOnlyWhatCanBeCompared() {
        var machine = watching()
        for (version, isDeletion) in [("10", false), ("a", false), ("2", true), ("11", false), ("3", true)] {
            let meaning = machine.received(resourceVersion: version, isDeletion: isDeletion, now: .seconds(1))
            #expect(meaning == .progress, "\(version)")
        }
        #expect(machine.resourceVersion == "11")
    }
}
