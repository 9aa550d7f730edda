/// Makes answers that take a while, one after the other.
import AdminServer
import Daemon

final class AnswerDesk: Sendable {
    private struct Question {
        let make: @Sendable () -> HTTPResponse
        let reply: @Sendable (HTTPResponse) -> Void
    }
    private let queue = QuestionQueue<Question>()

    func ask(_ reply: @escaping @Sendable (HTTPResponse) -> Void, _ make: @escaping @Sendable () -> HTTPResponse) {
        guard !queue.add(Question(make: make, reply: reply)) else { return }
        reply(failureResponse("others wait for answers, and no more may; ask again", status: 503))
    }

    /// Until the task is cancelled.
    func run() async {
        await queue.run { questions in
            for question in questions { question.reply(question.make()) }
        }
    }
}
