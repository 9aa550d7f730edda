/// Answers the API server, which asks before it takes an object: one question after the other, away from the loop of
/// the door, against what is known at that moment. Whoever reaches the door may ask: what waits is bounded, and an API
/// server whose question is not taken takes the object.
import Admission
import AdminServer
import Compile
import Synchronization
import Telemetry

final class AdmissionDesk: Sendable {
    static let path = "/validate"
    /// As the longest that an API server waits.
    private static let patience = Duration.seconds(30)
    private static let maximumWaiting = 64
    private static let maximumWaitingBytes = 2 * AdmissionRequest.maximumBytes

    private struct Question {
        let body: [UInt8]
        let cameAt: ContinuousClock.Instant
        let reply: @Sendable (HTTPResponse) -> Void
    }
    private struct State {
        var waiting: [Question] = []
        /// Of those that wait.
        var bytes = 0
        var told = RefusalLog()
    }
    private let state = Mutex(State())
    private let (wakes, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    private let options: CompilerOptions
    private let metrics: ControllerMetrics

    /// `proxyName`: as the agents have it, which decides whose Services are ours.
    init(proxyName: String?, _ metrics: ControllerMetrics) {
        (options, self.metrics) = (CompilerOptions(proxyName: proxyName), metrics)
    }

    static var limits: ConnectionLimits {
        var limits = ConnectionLimits()
        limits.requestBytes += AdmissionRequest.maximumBytes
        return limits
    }

    @Sendable func answer(_ request: HTTPRequest, _ reply: @escaping @Sendable (HTTPResponse) -> Void) {
        guard request.path == Self.path else { return reply(.notFound) }
        guard request.method == "POST" else {
            return reply(.text("an AdmissionReview is sent by POST, not \(request.method)\n", status: 405))
        }
        let question = Question(body: request.body, cameAt: .now, reply: reply)
        let isTaken = state.withLock { state in
            guard state.waiting.count < Self.maximumWaiting,
                state.bytes + question.body.count <= Self.maximumWaitingBytes
            else { return false }
            state.waiting.append(question)
            state.bytes += question.body.count
            return true
        }
        guard isTaken else { return shed(question) }
        wake.yield()
    }

    private func shed(_ question: Question) {
        metrics.admissions.add(1, "shed")
        question.reply(.text("too many others wait for a verdict; ask again\n", status: 503))
    }

    /// Until the task is cancelled. `tell` hears of what was refused.
    func run(_ view: @Sendable () -> ClusterView, tell: @Sendable (String) -> Void) async {
        for await _ in wakes {
            while let question = next() {
                guard ContinuousClock.now - question.cameAt < Self.patience else {
                    shed(question)
                    continue
                }
                judge(question, view(), tell)
                // A verdict may take long, and this thread is others', too.
                await Task.yield()
            }
        }
    }

    private func next() -> Question? {
        state.withLock { state in
            guard !state.waiting.isEmpty else { return nil }
            let question = state.waiting.removeFirst()
            state.bytes -= question.body.count
            return question
        }
    }

    private func judge(_ question: Question, _ view: ClusterView, _ tell: (String) -> Void) {
        let answer = AdmissionAnswer(to: question.body, against: view.known, options: options)
        question.reply(HTTPResponse(status: answer.status, contentType: answer.contentType, body: answer.body))
        metrics.count(answer.outcome, after: ContinuousClock.now - question.cameAt)
        guard case .refused(let message) = answer.outcome else { return }
        for line in state.withLock({ $0.told.lines(message, now: .now) }) { tell(line) }
    }
}

/// Refusals are logged so that who operates the cluster can help who was refused; not more of them than can be read.
struct RefusalLog {
    private static let mostPerMinute = 30
    private var minute: ContinuousClock.Instant?
    private var count = 0

    mutating func lines(_ message: String, now: ContinuousClock.Instant) -> [String] {
        var lines: [String] = []
        if minute.map({ now - $0 >= .seconds(60) }) ?? true {
            let unsaid = count - Self.mostPerMinute
            if unsaid > 0 { lines.append("refused \(unsaid) more objects before") }
            (minute, count) = (now, 0)
        }
        count += 1
        if count <= Self.mostPerMinute { lines.append("refused \(message)") }
        return lines
    }
}
