// Who waits for a verdict, and what is told of refusals: neither grows without a bound.
import AdminServer
import Admission
import Cluster
import Synchronization
import TestSupport
import Testing

@testable import Controller

@Suite struct AdmissionDeskTests {
    private let desk = AdmissionDesk(proxyName: nil, ControllerMetrics())
    private final class Answers: Sendable {
        private let responses = Mutex<[HTTPResponse]>([])
        var all: [Int] { responses.withLock { $0.map(\.status) } }
        var texts: [String] { responses.withLock { $0.map { String(decoding: $0.body, as: UTF8.self) } } }
        func add(_ response: HTTPResponse) { responses.withLock { $0.append(response) } }
    }
    private final class View: Sendable {
        private let view = Mutex(ClusterView())
        var now: ClusterView { view.withLock { $0 } }
        func complete() { view.withLock { _ = $0.take(.synced) } }
    }
    private func question(_ body: [UInt8], of peer: Int = 1, timeout: String = "30s") -> HTTPRequest {
        HTTPRequest(method: "POST", target: "/validate?timeout=\(timeout)", body: body, peer: "10.0.0.\(peer)")
    }

    @Test func noMoreWaitThanThereIsRoomFor() async throws {
        let answers = Answers()
        for number in 0..<70 { desk.answer(question(Array("{}".utf8), of: number / 7), answers.add) }
        #expect(answers.all == Array(repeating: 503, count: 6))
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await desk.run({ ClusterView() }, tell: { _ in }) }
            try await until("the others have their answers") { answers.all.count == 70 }
            group.cancelAll()
        }
    }
    /// Whoever asks much keeps nobody else waiting.
    @Test func everybodyHasATurn() async throws {
        let (answers, order) = (Answers(), Order())
        for number in 0..<10 {
            desk.answer(question([], of: 1)) { response in
                answers.add(response)
                order.add("a\(number)")
            }
        }
        #expect(answers.all == [503, 503])
        desk.answer(question([], of: 2)) { _ in order.add("b") }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await desk.run({ ClusterView() }, tell: { _ in }) }
            try await until("all are answered") { order.all.count == 11 }
            group.cancelAll()
        }
        #expect(order.all.prefix(4) == ["a8", "a9", "a0", "b"])
    }
    private final class Order: Sendable {
        private let names = Mutex<[String]>([])
        var all: [String] { names.withLock { $0 } }
        func add(_ name: String) { names.withLock { $0.append(name) } }
    }

    @Test func whatNobodyWaitsForIsNotJudged() async throws {
        let answers = Answers()
        desk.answer(question(Array(review(route()).utf8), timeout: "0s"), answers.add)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await desk.run({ ClusterView() }, tell: { _ in }) }
            try await until("it is answered") { !answers.all.isEmpty }
            group.cancelAll()
        }
        #expect(answers.all == [503])
    }

    @Test func largeOnesTakeMoreRoom() {
        let answers = Answers()
        let large = [UInt8](repeating: 0x20, count: AdmissionRequest.maximumBytes)
        for _ in 0..<3 { desk.answer(question(large), answers.add) }
        #expect(answers.all == [503])
    }

    /// As long as anything may be missing, nothing is said to be; what can never work is refused all the same.
    @Test func beforeAllIsKnownTheObjectAloneIsJudged() async throws {
        let (view, answers) = (View(), Answers())
        let ask = { (rule: String) in
            desk.answer(question(Array(review(route("r", rule)).utf8)), answers.add)
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await desk.run({ view.now }, tell: { _ in }) }
            ask(lateRule)
            ask(badRule)
            try await until("both are judged") { answers.all.count == 2 }
            view.complete()
            ask(lateRule)
            try await until("it is judged again") { answers.all.count == 3 }
            group.cancelAll()
        }
        let texts = answers.texts
        #expect(texts[0].contains(#""allowed":true"#) && !texts[0].contains("warnings"))
        #expect(texts[1].contains(#""allowed":false"#) && texts[1].contains("(invalid-regex)"))
        #expect(texts[2].contains(#""allowed":true"#) && texts[2].contains("Service default/"))
    }

    @Test func refusalsAreLoggedAsFarAsTheyCanBeRead() {
        var log = RefusalLog()
        let start = ContinuousClock.now
        let lines = (0..<100).flatMap { log.lines("HTTPRoute shop/r\($0): no", now: start) }
        #expect(lines.count == 30 && lines.first == "refused HTTPRoute shop/r0: no")
        let later = log.lines("HTTPRoute shop/x: no", now: start + .seconds(61))
        #expect(later == ["refused 70 more objects before", "refused HTTPRoute shop/x: no"])
        #expect(log.lines("HTTPRoute shop/y: no", now: start + .seconds(130)) == ["refused HTTPRoute shop/y: no"])
    }
}
