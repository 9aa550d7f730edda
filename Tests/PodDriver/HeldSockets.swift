/// Sockets that stay open: one by hand, or many with steady traffic on them, to prove that established connections
/// survive what happens around them.
import Glibc
import Synchronization

final class OpenSocket {
    private let target: Target
    private var attempt: Attempt
    /// What the first exchange gave: `hit NAME 1` or `errno CODE 1`.
    let opening: [String]

    init(_ target: Target) {
        self.target = target
        (attempt, opening) = withUnsafeTemporaryAllocation(byteCount: Target.answerSize, alignment: 8) { buffer in
            let attempt = target.attempt(buffer)
            return (attempt, describe(attempt, buffer))
        }
    }
    deinit { attempt.end() }

    /// Sends and reads nothing.
    func tell() -> [String] {
        let error = target.ask(attempt.descriptor)
        return error == 0 ? [] : ["errno \(error) 1"]
    }

    private var flight: DescriptorInFlight?
    private var borrower: DescriptorBorrower?

    /// Keeps it where no process has it open, until `land`.
    func launch() throws {
        flight = try DescriptorInFlight(attempt.descriptor)
        close(attempt.descriptor)
    }
    func land() throws {
        guard let flight else { throw Failure("the socket is not in flight") }
        attempt.descriptor = try flight.land()
        self.flight = nil
    }
    /// Another process has it open, too, until it is closed here.
    func lend(behind others: Int32) throws {
        borrower = try DescriptorBorrower(attempt.descriptor, others: others)
    }

    /// One more exchange on the same socket.
    func ask() -> [String] {
        withUnsafeTemporaryAllocation(byteCount: Target.answerSize, alignment: 8) { buffer in
            attempt.error = target.ask(attempt.descriptor)
            if attempt.error == 0 { target.receive(&attempt, buffer) }
            return describe(attempt, buffer)
        }
    }
}

private func describe(_ attempt: Attempt, _ buffer: UnsafeMutableRawBufferPointer) -> [String] {
    guard attempt.error == 0 else { return ["errno \(attempt.error) 1"] }
    let greeting = Greeting(attempt, buffer)
    let names = [attempt.peer, attempt.sender].compactMap { $0.map { "peer \($0) 1" } }
    let own = attempt.own.map { ["own \($0) 1"] } ?? []
    return ["hit \(greeting.name) 1", "client \(greeting.client) 1"] + names + own
}

final class HeldConnections {
    private final class State: Sendable {
        struct Tally {
            var alive = 0
            var exchanges = 0
            var hits: [String: Int] = [:]
            var errors: [Int32: Int] = [:]
        }
        let isStopped = Atomic(false)
        let tally = Mutex(Tally())
    }
    private let state = State()
    private let thread: pthread_t

    /// Opens all connections before it returns; one that cannot be opened fails the whole.
    init(_ target: Target, count: Int, intervalMs: Int) throws {
        var attempts: [Attempt] = []
        var hits: [String: Int] = [:]
        try withUnsafeTemporaryAllocation(byteCount: Target.answerSize, alignment: 8) { buffer in
            for index in 0..<count {
                let attempt = target.attempt(buffer)
                attempts.append(attempt)
                guard attempt.error == 0 else {
                    for open in attempts { open.end() }
                    throw Failure("connection \(index): \(String(cString: strerror(attempt.error)))")
                }
                hits[Greeting(attempt, buffer).name, default: 0] += 1
            }
        }
        state.tally.withLock { [hits] in ($0.alive, $0.hits) = (count, hits) }
        thread = startThread { [state, attempts] in Self.exchange(state, target, attempts, intervalMs) }
    }

    private static func exchange(_ state: State, _ target: Target, _ attempts: [Attempt], _ intervalMs: Int) {
        var open = attempts
        withUnsafeTemporaryAllocation(byteCount: Target.answerSize, alignment: 8) { buffer in
            while !state.isStopped.load(ordering: .relaxed) {
                for (index, attempt) in open.enumerated() {
                    open[index].error = target.ask(attempt.descriptor)
                    if open[index].error == 0 { target.receive(&open[index], buffer) }
                }
                let broken = open.filter { $0.error != 0 }
                for attempt in broken { attempt.end() }
                open.removeAll { $0.error != 0 }
                state.tally.withLock { [open] tally in
                    tally.alive = open.count
                    tally.exchanges += open.count
                    for attempt in broken { tally.errors[attempt.error, default: 0] += 1 }
                }
                usleep(UInt32(intervalMs * 1000))
            }
        }
        for attempt in open { attempt.end() }
    }

    func report() -> [String] {
        state.tally.withLock { tally in
            ["alive \(tally.alive)", "exchanges \(tally.exchanges)"]
                + tally.hits.map { "hit \($0.key) \($0.value)" }.sorted()
                + tally.errors.map { "errno \($0.key) \($0.value)" }.sorted()
        }
    }

    func stop() -> [String] {
        state.isStopped.store(true, ordering: .relaxed)
        pthread_join(thread, nil)
        return report()
    }
}
