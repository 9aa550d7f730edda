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

    @Test(arguments: [APIFailure.trouble("500"), .forbidden("403"), .throttled("429", retryAfter: nil)])
    mutating func troubleHoldsAllUpLongerEachTime(failure: APIFailure) throws {
        schedule.want(["a", "b", "c"])
        var now = Duration.zero
        var pauses: [Duration] = []
        for _ in 0..<12 {
            let turn = schedule.next(now: now)
            let key = try #require(turn)
            end(key, .outcome(.failed(failure)), at: now)
            #expect(schedule.problem == failure.sentence && schedule.next(now: now) == nil)
            let next = try #require(schedule.nextTurn(now: now))
            pauses.append(next - now)
            now = next
        }
        #expect(pauses[0] >= .milliseconds(400) && pauses[0] <= .milliseconds(800))
        #expect(pauses.suffix(3).allSatisfy { $0 >= .seconds(15) && $0 <= .seconds(30) })
        // One finds out whether it is over; then all go on.
        let turn = schedule.next(now: now)
        let first = try #require(turn)
        #expect(schedule.next(now: now) == nil)
        end(first, Self.written, at: now)
        #expect(schedule.problem == nil && schedule.next(now: now) != nil && schedule.next(now: now) != nil)
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
