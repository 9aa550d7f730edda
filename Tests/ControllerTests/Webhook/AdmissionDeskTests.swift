// Who waits for a verdict, and what is told of refusals: neither grows without a bound.
import AdminServer
import Admission
import Synchronization
import TestSupport
import Testing

@testable import Controller

@Suite struct AdmissionDeskTests {
    private let desk = AdmissionDesk(proxyName: nil, ControllerMetrics())
    private final class Answers: Sendable {
        private let statuses = Mutex<[Int]>([])
        var all: [Int] { statuses.withLock { $0 } }
        func add(_ response: HTTPResponse) { statuses.withLock { $0.append(response.status) } }
    }
    private func question(_ body: [UInt8]) -> HTTPRequest {
        HTTPRequest(method: "POST", target: "/validate?timeout=3s", body: body)
    }

    @Test func noMoreWaitThanThereIsRoomFor() async throws {
        let answers = Answers()
        for _ in 0..<70 { desk.answer(question(Array("{}".utf8)), answers.add) }
        #expect(answers.all == Array(repeating: 503, count: 6))
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await desk.run({ ClusterView() }, tell: { _ in }) }
            // They are no reviews.
            try await until("the others have their answers") { answers.all.count { $0 == 400 } == 64 }
            group.cancelAll()
        }
    }
    @Test func largeOnesTakeMoreRoom() {
        let answers = Answers()
        let large = [UInt8](repeating: 0x20, count: AdmissionRequest.maximumBytes)
        for _ in 0..<3 { desk.answer(question(large), answers.add) }
        #expect(answers.all == [503])
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
