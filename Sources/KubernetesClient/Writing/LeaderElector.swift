/// Keeps a Lease: does what its `LeaderElection` says.
import Glibc
import Synchronization

package struct ElectionStatus: Equatable, Sendable {
    package var isLeading = false
    package var holder = ""
    package var transitions: Int64 = 0
    package var problem: String?
}

package final class LeaderElector: Sendable {
    package let leadership = Leadership()
    /// For one consumer.
    package let changes: AsyncStream<LeaderElection.Change>
    private let continuation: AsyncStream<LeaderElection.Change>.Continuation
    private let writer: ObjectWriter
    private let lease: ObjectAddress
    private let initial: LeaderElection
    private let timing: LeaderElection.Timing
    private struct State {
        var isStopping = false
        /// Ends the pause that is running.
        var pause: StopSignal?
        var status = ElectionStatus()
    }
    private let state = Mutex(State())

    /// `identity` must be another one for each process, also for the next one of the same pod.
    package init(
        _ writer: ObjectWriter, lease: ObjectAddress, identity: String, timing: LeaderElection.Timing = .init()
    ) {
        self.writer = writer
        self.lease = lease
        self.timing = timing
        initial = LeaderElection(identity: identity, timing: timing)
        (changes, continuation) = AsyncStream.makeStream()
    }

    package var status: ElectionStatus {
        var status = state.withLock { $0.status }
        status.isLeading = leadership.isLeading
        return status
    }

    /// Lets running writes end, hands the lease back and ends `run`.
    package func stop() {
        state.withLock { state in
            state.isStopping = true
            return state.pause
        }?.send()
    }

    /// Until `stop` or until the task is cancelled.
    package func run() async {
        var election = initial
        var events: [LeaderElection.Event] = [.tick]
        var didStop = false
        while !Task.isCancelled {
            if !didStop, state.withLock({ $0.isStopping }) {
                didStop = true
                events.append(.stop)
            }
            if events.isEmpty {
                await pause(election.nextTick - leadership.now, hasStopped: didStop)
                events = [.tick]
                continue
            }
            let actions = election.take(events.removeFirst(), now: leadership.now)
            publish(election)
            for action in actions {
                switch action {
                case .tell(let change): continuation.yield(change)
                case .drain:
                    await leadership.drain()
                    events.append(.drained)
                case .finish: return continuation.finish()
                case .read(let id): events.append(.answer(await read(), to: id))
                case .create(let record, let id):
                    events.append(.answer(await write(.create, record), to: id))
                case .replace(let record, let id):
                    events.append(.answer(await write(.replace, record), to: id))
                }
            }
        }
        leadership.set(nil)
        continuation.finish()
    }

    private func publish(_ election: LeaderElection) {
        leadership.set(election.writeWindow)
        state.withLock { state in
            state.status.holder = election.seen?.holder ?? ""
            state.status.transitions = election.seen?.transitions ?? 0
            state.status.problem = election.problem
        }
    }

    /// Ends early when `stop` is called, which was not taken in yet unless it `hasStopped`.
    private func pause(_ time: Duration, hasStopped: Bool) async {
        guard time > .zero else { return }
        let signal = StopSignal()
        let isStopping = state.withLock { state in
            state.pause = signal
            return state.isStopping
        }
        guard hasStopped || !isStopping else { return }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { try? await Task.sleep(for: time) }
            group.addTask { await signal.wait() }
            await group.next()
            group.cancelAll()
        }
    }

    private func read() async -> LeaderElection.Answer {
        answer(await writer.read(lease, within: timing.renewal))
    }
    private func write(_ verb: ObjectWrite.Verb, _ record: LeaseRecord) async -> LeaderElection.Answer {
        let version = record.resourceVersion
        let write = ObjectWrite(
            verb, lease, resourceVersion: version.isEmpty ? nil : version, fields: record.fields(wallTime: time(nil)))
        return answer(await writer.answer(to: write, within: timing.renewal))
    }
    private func answer(_ result: Result<APIAnswer, APIFailure>) -> LeaderElection.Answer {
        switch result {
        case .failure(.gone): return .absent
        case .failure(.conflict): return .conflict
        case .failure(let failure): return .failed(failure.sentence)
        case .success(let answer):
            guard let record = try? LeaseRecord(answer.body) else { return .failed("the API server sent no Lease") }
            return .lease(record)
        }
    }
}
