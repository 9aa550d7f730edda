/// Questions that wait for one who answers them, away from the loop of the servers, on which probes are answered: a
/// bounded number.
import Synchronization

final class QuestionQueue<Question: Sendable>: Sendable {
    static var longest: Int { 16 }
    private let waiting = Mutex<[Question]>([])
    private let (wakes, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))

    /// False: too many wait already.
    func add(_ question: Question) -> Bool {
        let isTaken = waiting.withLock { waiting in
            guard waiting.count < Self.longest else { return false }
            waiting.append(question)
            return true
        }
        if isTaken { wake.yield() }
        return isTaken
    }

    /// Until the task is cancelled. `answer` gets all that wait, never none.
    func run(_ answer: ([Question]) -> Void) async {
        for await _ in wakes {
            let questions = waiting.withLock { waiting in
                defer { waiting.removeAll() }
                return waiting
            }
            if !questions.isEmpty { answer(questions) }
        }
    }
}
