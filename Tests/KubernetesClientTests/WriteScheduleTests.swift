// Whose turn it is to be written, and what failures change about that.
import TestSupport
import Testing

@testable import KubernetesClient

@Suite struct WriteScheduleTests {
    private var schedule = WriteSchedule<String>(concurrency: 2, backoff: Backoff())
    private var random = SeededGenerator(seed: 1)

    private mutating func end(_ key: String, _ result: WriteSchedule<String>.Result, at now: Duration = .zero) {
        schedule.ended(key, result, now: now, using: &random)
    }
    private static let written = WriteSchedule<String>.Result.outcome(.written(resourceVersion: "2"))

    @Test mutating func eachHasOneTurnAndFewAreUnderWay() {
        schedule.want(["a", "b", "a", "c"])
        #expect(schedule.count == 3)
        #expect(schedule.next(now: .zero) == "a" && schedule.next(now: .zero) == "b")
        #expect(schedule.next(now: .zero) == nil && schedule.nextTurn(now: .zero) == nil)
        end("a", Self.written)
        #expect(schedule.next(now: .zero) == "c" && schedule.next(now: .zero) == nil)
        end("b", .nothing)
        end("c", Self.written)
        #expect(schedule.count == 0 && schedule.next(now: .zero) == nil && schedule.nextTurn(now: .zero) == nil)
    }

    /// What is wanted while it is being written is written once more, and never at the same time.
    @Test mutating func aWishDuringItsOwnWriteHasATurnAfterIt() {
        schedule.want(["a"])
        #expect(schedule.next(now: .zero) == "a")
        schedule.want(["a"])
        #expect(schedule.next(now: .zero) == nil)
        end("a", Self.written)
        #expect(schedule.next(now: .zero) == "a")
    }

    /// One that the server does not take, for ever, among others: it is tried in pauses that grow, holds nobody up, and
    /// is told of once.
    @Test(arguments: [APIFailure.trouble("500"), .forbidden("403")])
    mutating func aKeyThatFailsHoldsUpNobodyElse(failure: APIFailure) {
        var (now, tries, told) = (Duration.zero, [Duration](), [String]())
        schedule.want(["bad"])
        for number in 0..<3000 {
            schedule.want(["\(number)"])
            while let key = schedule.next(now: now) {
                if key == "bad" { tries.append(now) }
                let result = key == "bad" ? WriteSchedule<String>.Result.outcome(.failed(failure)) : Self.written
                if let news = schedule.ended(key, result, now: now, using: &random) { told.append(news) }
            }
            #expect(schedule.count == 1, "only the bad one waits")
            #expect(schedule.problem == failure.sentence)
            now += .milliseconds(200)
        }
        #expect((20...50).contains(tries.count), "\(tries)")
        #expect(told == [failure.sentence])
    }

    /// Several that never failed before fail in a row: one at a time finds out whether that is over.
    @Test(arguments: [APIFailure.trouble("500"), .forbidden("403"), .throttled("429", retryAfter: nil)])
    mutating func troubleOfTheServerHoldsAllUpLongerEachTime(failure: APIFailure) throws {
        let keys = (0..<20).map { "\($0)" }
        schedule.want(keys)
        var (now, told) = (Duration.zero, 0)
        let isThrottled = if case .throttled = failure { true } else { false }
        for _ in 0..<(isThrottled ? 0 : 2) {
            let turn = schedule.next(now: now)
            let key = try #require(turn)
            if schedule.ended(key, .outcome(.failed(failure)), now: now, using: &random) != nil { told += 1 }
        }
        var pauses: [Duration] = []
        for _ in 0..<12 {
            let turn = schedule.next(now: now)
            let key = try #require(turn)
            if schedule.ended(key, .outcome(.failed(failure)), now: now, using: &random) != nil { told += 1 }
            #expect(schedule.problem == failure.sentence && schedule.next(now: now) == nil)
            let next = try #require(schedule.nextTurn(now: now))
            pauses.append(next - now)
            now = next
        }
        #expect(told == 1)
        #expect(pauses[0] >= .milliseconds(400) && pauses[0] <= .milliseconds(800))
        #expect(pauses.suffix(3).allSatisfy { $0 >= .seconds(15) && $0 <= .seconds(30) })
        let turn = schedule.next(now: now)
        let first = try #require(turn)
        #expect(schedule.next(now: now) == nil)
        end(first, Self.written, at: now)
        var done: Set = [first]
        while let key = schedule.next(now: now) {
            done.insert(key)
            end(key, Self.written, at: now)
        }
        #expect(done == Set(keys) && schedule.problem == nil && schedule.count == 0)
    }

    /// What fails for ever is no news of the server: nobody waits for it, however many of them there are.
    @Test mutating func thoseThatFailedBeforeAreNoTroubleOfTheServer() {
        let bad = (0..<5).map { "bad-\($0)" }
        var (now, longest) = (Duration.zero, Duration.zero)
        schedule.want(bad)
        for number in 0..<600 {
            let wanted = now
            schedule.want(["\(number)"])
            var isDone = false
            while !isDone, now < .seconds(100_000) {
                while let key = schedule.next(now: now) {
                    isDone = isDone || !key.hasPrefix("bad")
                    end(key, key.hasPrefix("bad") ? .outcome(.failed(.trouble("500"))) : Self.written, at: now)
                }
                if !isDone { now = schedule.nextTurn(now: now) ?? .seconds(100_000) }
            }
            // The first time it may be.
            if number > 0 { longest = max(longest, now - wanted) }
            now += .seconds(1)
        }
        #expect(longest == .zero)
    }

    /// Those under way when trouble began do not make it look longer.
    @Test mutating func failuresTogetherMakeOnePause() throws {
        schedule = WriteSchedule(concurrency: 8, backoff: Backoff())
        let keys = (0..<8).map { "\($0)" }
        schedule.want(keys + ["late"])
        for key in keys { #expect(schedule.next(now: .zero) == key) }
        for key in keys { end(key, .outcome(.failed(.trouble("500")))) }
        #expect(try #require(schedule.nextTurn(now: .zero)) <= .milliseconds(800))
        #expect(schedule.next(now: .milliseconds(800)) == "late")
    }

    @Test mutating func theServerSaysHowLong() throws {
        schedule.want(["a"])
        #expect(schedule.next(now: .zero) == "a")
        end("a", .outcome(.failed(.throttled("429", retryAfter: .seconds(40)))))
        #expect(schedule.nextTurn(now: .zero) == .seconds(40))
        #expect(schedule.next(now: .seconds(39)) == nil && schedule.next(now: .seconds(40)) == "a")
    }

    /// The others go on, and a wish that comes with the newer object is heard at once.
    @Test mutating func aConflictHoldsUpNobodyElse() throws {
        schedule.want(["a", "b"])
        #expect(schedule.next(now: .zero) == "a")
        end("a", .outcome(.failed(.conflict("409"))))
        #expect(schedule.next(now: .zero) == "b")
        end("b", Self.written)
        let later = try #require(schedule.nextTurn(now: .zero))
        #expect(later >= .milliseconds(400) && schedule.next(now: .zero) == nil && schedule.next(now: later) == "a")
        end("a", .outcome(.failed(.conflict("409"))), at: later)
        schedule.want(["a"])
        #expect(schedule.next(now: later) == "a")
        end("a", Self.written, at: later)
        #expect(schedule.count == 0 && schedule.nextTurn(now: later) == nil)
    }

    /// The object stays another one than we know, as when it cannot be read: what it is like now brings the wish anew.
    /// Others may fail meanwhile: that was told of them.
    @Test mutating func aWriteThatIsDoneIsNoNews() {
        for number in 0..<10 {
            schedule.want(["a\(number)", "b\(number)", "c\(number)"])
            for key in ["a\(number)", "b\(number)"] {
                #expect(schedule.next(now: .zero) == key)
                let told = schedule.ended(
                    key, .outcome(.failed(.forbidden("no \(key)"))), now: .zero, using: &random)
                #expect(told == "no \(key)")
            }
            let key = schedule.next(now: .zero)
            #expect(
                key == "c\(number)" && schedule.ended("c\(number)", Self.written, now: .zero, using: &random) == nil)
        }
    }

    @Test mutating func endlessConflictsEnd() throws {
        schedule.want(["a"])
        var (now, tries) = (Duration.zero, 0)
        while let key = schedule.next(now: now), tries < 100 {
            tries += 1
            end(key, .outcome(.failed(.conflict("409"))), at: now)
            now = schedule.nextTurn(now: now) ?? now
        }
        #expect(tries == 4 && schedule.count == 0 && schedule.nextTurn(now: now) == nil)
        schedule.want(["a"])
        #expect(schedule.next(now: now) == "a")
        end("a", Self.written, at: now)
        #expect(schedule.problem == nil)
    }

    /// The same would be refused again.
    @Test(arguments: [APIFailure.refused("422"), .tooLarge("413"), .gone])
    mutating func whatIsRefusedIsNotAskedAgain(failure: APIFailure) {
        schedule.want(["a"])
        #expect(schedule.next(now: .zero) == "a")
        end("a", .outcome(.failed(failure)))
        #expect(schedule.count == 0 && schedule.nextTurn(now: .zero) == nil)
        schedule.want(["a"])
        #expect(schedule.next(now: .zero) == "a")
    }

    /// Nobody else would write it: the replica may go on leading without being told anew.
    @Test mutating func whatHadTooLittleTimeHasAnotherTurn() throws {
        schedule.want(["a", "b"])
        #expect(schedule.next(now: .zero) == "a")
        end("a", .outcome(.failed(.fenced)))
        #expect(schedule.count == 2 && schedule.problem == nil)
        #expect(schedule.next(now: .zero) == "b" && schedule.next(now: .zero) == nil)
        end("b", .outcome(.failed(.fenced)))
        // Not at once: a fence costs nothing to ask, and would be asked without end.
        let later = try #require(schedule.nextTurn(now: .zero))
        #expect(later >= .milliseconds(400) && later <= .milliseconds(800))
        #expect(schedule.next(now: .milliseconds(800)) != nil && schedule.next(now: .milliseconds(800)) != nil)
    }

    @Test mutating func whatIsForgottenHasNoTurn() {
        schedule.want(["a", "b", "c"])
        #expect(schedule.next(now: .zero) == "a")
        schedule.want(["a"])
        schedule.forgetAll()
        end("a", Self.written)
        #expect(schedule.count == 0 && schedule.next(now: .zero) == nil && schedule.nextTurn(now: .zero) == nil)
    }

    /// The line does not grow with what was written long ago.
    @Test mutating func manyAreWrittenInTheOrderTheyWereWanted() {
        for round in 0..<50 {
            schedule.want((0..<20).map { "\(round)-\($0)" })
            for number in 0..<20 {
                #expect(schedule.next(now: .zero) == "\(round)-\(number)")
                end("\(round)-\(number)", Self.written)
            }
        }
        #expect(schedule.count == 0)
    }
}
