/// Answers the API server, which asks before it takes an object: one question after the other, away from the loop of
/// the door, against what is known at that moment. Whoever reaches the door may ask: what waits is bounded, everybody
/// who asks has a turn after the other, and an API server whose question is not taken takes the object.
import Admission
import AdminServer
import Compile
import Options
import Synchronization
import Telemetry

final class AdmissionDesk: Sendable {
    static let path = "/validate"
    /// How long an API server waits that does not say so, and the longest that one may wait.
    private static let patience = (usual: Duration.seconds(3), longest: Duration.seconds(30))
    private static let maximumWaiting = 64
    private static let maximumWaitingOfOne = 8
    private static let maximumWaitingBytes = 2 * AdmissionRequest.maximumBytes

    private struct Question {
        let body: [UInt8]
        let cameAt = ContinuousClock.now
        /// Nobody waits any more then.
        let end: ContinuousClock.Instant
        let reply: @Sendable (HTTPResponse) -> Void

        init(_ request: HTTPRequest, _ reply: @escaping @Sendable (HTTPResponse) -> Void) {
            let asked = request.query["timeout"].flatMap(parseDuration) ?? patience.usual
            (body, end, self.reply) = (request.body, .now + min(asked, patience.longest), reply)
        }
    }
    private struct State {
        /// By the address that asks, and whose turn it is.
        private var waiting: [String: [Question]] = [:]
        private var turns: [String] = []
        private var count = 0
        private var bytes = 0
        var told = RefusalLog()

        mutating func add(_ question: Question, of peer: String) -> Bool {
            guard count < maximumWaiting, bytes + question.body.count <= maximumWaitingBytes,
                waiting[peer, default: []].count < maximumWaitingOfOne
            else { return false }
            if waiting[peer] == nil { turns.append(peer) }
            waiting[peer, default: []].append(question)
            (count, bytes) = (count + 1, bytes + question.body.count)
            return true
        }
        mutating func next() -> Question? {
            guard !turns.isEmpty else { return nil }
            let peer = turns.removeFirst()
            guard var own = waiting.removeValue(forKey: peer), !own.isEmpty else { return nil }
            let question = own.removeFirst()
            if !own.isEmpty {
                waiting[peer] = own
                turns.append(peer)
            }
            (count, bytes) = (count - 1, bytes - question.body.count)
            return question
        }
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
        let question = Question(request, reply)
        guard state.withLock({ $0.add(question, of: request.peer) }) else { return shed(question) }
        wake.yield()
    }

    private func shed(_ question: Question) {
        metrics.admissions.add(1, "shed")
        question.reply(.text("too many others wait for a verdict; ask again\n", status: 503))
    }

    /// Until the task is cancelled. `tell` hears of what was refused.
    func run(_ view: @Sendable () -> ClusterView, tell: @Sendable (String) -> Void) async {
        for await _ in wakes {
            while let question = state.withLock({ $0.next() }) {
                guard ContinuousClock.now < question.end else {
                    shed(question)
                    continue
                }
                judge(question, view(), tell)
                // A verdict may take long, and this thread is others', too.
                await Task.yield()
            }
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
