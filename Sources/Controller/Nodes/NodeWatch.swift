/// Asks agents how far their nodes are, as `InForceBook` says whom and when.
import AdminAPI
import Addressing
import AdminServer
import Cluster
import Daemon
import InForce
import Synchronization

final class NodeWatch: Sendable {
    /// Questions at the same time, and of those to nodes that did not answer last, which hold on to their place; how
    /// long each may take, and how long an answer may be.
    private static let atOnce = 64
    private static let doubtfulAtOnce = 16
    private static let patience = Duration.seconds(3)
    private static let longest = 16_384

    private struct State {
        var book = InForceBook()
        var asking = 0
        var askingDoubtful = 0
        var mayAskDoubtful: Bool { askingDoubtful < doubtfulAtOnce }
        var random = SystemRandomNumberGenerator()
        /// A turn that somebody waits for.
        var alarm: Duration?

        /// nil: none is needed, or there is an earlier one.
        mutating func newAlarm() -> Duration? {
            guard asking < atOnce, let at = book.deadline(doubtful: mayAskDoubtful), alarm.map({ $0 > at }) ?? true
            else { return nil }
            alarm = at
            return at
        }
    }
    private let state = Mutex(State())
    private let loop: ServerLoop
    private let port: UInt16
    private let metrics: ControllerMetrics
    private let start = ContinuousClock.now
    private let (turns, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
    private var now: Duration { ContinuousClock.now - start }

    /// `port`: of the agents' health servers.
    init(_ loop: ServerLoop, port: UInt16, metrics: ControllerMetrics) {
        (self.loop, self.port, self.metrics) = (loop, port, metrics)
    }

    func take(_ event: SourceEvent) {
        let isDue = state.withLock { state in
            let before = state.book.deadline
            state.book.take(event, now: now)
            return state.book.deadline != before
        }
        if isDue { wake.yield() }
    }

    /// Until the task is cancelled; `tell` hears who lags.
    func run(_ tell: @escaping @Sendable (String) -> Void) async {
        await withDiscardingTaskGroup { group in
            for await _ in turns {
                while let question = nextQuestion() { group.addTask { await self.ask(question) } }
                if let news = state.withLock({ $0.book.takeNews() }) { tell(news) }
                guard let at = state.withLock({ $0.newAlarm() }) else { continue }
                group.addTask {
                    try? await Task.sleep(until: self.start + at, clock: .continuous)
                    self.state.withLock { $0.alarm = nil }
                    self.wake.yield()
                }
            }
        }
    }

    private func nextQuestion() -> InForceBook.Question? {
        state.withLock { state in
            guard state.asking < Self.atOnce,
                let question = state.book.next(now: now, doubtful: state.mayAskDoubtful)
            else { return nil }
            state.asking += 1
            state.askingDoubtful += question.isDoubtful ? 1 : 0
            return question
        }
    }

    private func ask(_ question: InForceBook.Question) async {
        let answer = await report(of: question)
        metrics.count(answer)
        state.withLock { state in
            state.asking -= 1
            state.askingDoubtful -= question.isDoubtful ? 1 : 0
            state.book.answered(
                question, answer, now: now, spread: Double.random(in: 0..<1, using: &state.random))
        }
        wake.yield()
    }

    private func report(of question: InForceBook.Question) async -> Result<ProgrammedReport, NodeFailure> {
        let answer = await loop.fetch(
            ProgrammedReport.path, host: question.address.description, port: port, within: Self.patience,
            limit: Self.longest)
        switch answer {
        case .failure(let failure): return .failure(NodeFailure("\(failure)"))
        // As long as kube-proxy runs beside the agent it has that port.
        case .success((404, _)):
            return .failure(NodeFailure("port \(port) is another program's, such as kube-proxy, or an earlier agent's"))
        case .success((let status, let body)):
            guard status == 200, let report = fromJSON(ProgrammedReport.self, body) else {
                return .failure(NodeFailure("port \(port) answers \(status), which is no agent's answer"))
            }
            return .success(report)
        }
    }

    // MARK: What is known

    var standing: Standing { state.withLock(\.book).standing }

    /// What each node that lags says, however short a time.
    var causes: [String] { state.withLock(\.book).laggards(now: now + .seconds(3600)).map(\.cause) }

    func fill(_ status: inout ControllerStatus) {
        let (book, now) = (state.withLock(\.book), now)
        let laggards = book.laggards(now: now)
        status.nodes = .init(count: book.nodeCount, answering: book.answeringCount, lagging: laggards.count)
        status.nodes.laggards = laggards.prefix(ControllerStatus.Nodes.shown).map {
            .init(node: $0.node, cause: $0.cause, seconds: (now - $0.since) / .seconds(1))
        }
    }
}
