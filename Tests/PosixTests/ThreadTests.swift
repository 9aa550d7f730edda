// Threads that are waited for, threads made for one call, and what comes back from them.
import Glibc
import Posix
import Synchronization
import TestSupport
import Testing

@Suite struct ThreadTests {
    private struct Refused: Error, Equatable { let code: Int32 }

    @Test func aThreadHasItsNameAndIsWaitedFor() throws {
        let gate = Semaphore()
        let seen = Mutex<String?>(nil)
        let thread = try JoinableThread("a-name-longer-than-fifteen") {
            gate.wait()
            let name = readText("/proc/thread-self/comm")
            seen.withLock { $0 = name }
        }
        #expect(seen.withLock { $0 } == nil && !thread.isCurrent)
        gate.signal()
        thread.join()
        #expect(seen.withLock { $0 } == "a-name-longer-t\n")
    }

    /// What the body holds is let go of before `join` returns.
    @Test func whatAThreadHoldsGoesWithIt() throws {
        final class Held: Sendable {}
        weak let held: Held?
        do {
            let value = Held()
            held = value
            let thread = try JoinableThread { withExtendedLifetime(value) {} }
            thread.join()
        }
        #expect(held == nil)
    }

    @Test func aCallOnAFreshThreadGivesItsResultOrItsError() throws {
        let here = pthread_self()
        var calls = 0
        let there = try onFreshThread(refusal: { Refused(code: $0.code) }) { () throws(Refused) in
            calls += 1
            return pthread_self()
        }
        #expect(calls == 1 && pthread_equal(here, there) == 0)
        #expect(throws: Refused(code: 7)) {
            try onFreshThread(refusal: { Refused(code: $0.code) }) { () throws(Refused) in throw Refused(code: 7) }
        }
    }
}
