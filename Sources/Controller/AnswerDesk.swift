/// Makes answers that take a while, one after the other, away from the loop of the servers: probes and doors are
/// answered meanwhile.
import AdminServer
import Daemon
import Synchronization

final class AnswerDesk: Sendable {
    private struct Question {
        let make: @Sendable () -> HTTPResponse
        let reply: @Sendable (HTTPResponse) -> Void
    }
    private static let maximumWaiting = 16
    private let waiting = Mutex<[Question]>([])
    private let wakes: AsyncStream<Void>
    private let wake: AsyncStream<Void>.Continuation

    init() { (wakes, wake) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1)) }

    func ask(_ reply: @escaping @Sendable (HTTPResponse) -> Void, _ make: @escaping @Sendable () -> HTTPResponse) {
        let isTaken = waiting.withLock { waiting in
            guard waiting.count < Self.maximumWaiting else { return false }
            waiting.append(Question(make: make, reply: reply))
            return true
        }
        guard isTaken else {
            return reply(failureResponse("\(Self.maximumWaiting) others wait for an answer; ask again", status: 503))
        }
        wake.yield()
    }

    /// Until the task is cancelled.
    func run() async {
        for await _ in wakes {
            while let question = waiting.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) {
                question.reply(question.make())
            }
        }
    }
}
