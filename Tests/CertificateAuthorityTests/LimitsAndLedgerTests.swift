/// Nobody asks without end, and nothing that is kept of who asked grows without end.
import Testing
import TestSupport

@testable import CertificateAuthority

private func isTaken(_ limits: inout RequestLimits, _ requester: String, at now: Int) -> Bool {
    do throws(Refusal) {
        try limits.take(requester, now: now)
        return true
    } catch {
        #expect(error.reason == .tooMany)
        return false
    }
}

@Suite struct RequestLimitsTests {
    @Test func aBurstAndThenOneEachInterval() {
        var limits = RequestLimits(each: .init(burst: 3, interval: 100), all: .init(burst: 100, interval: 1))
        #expect((0..<5).map { _ in isTaken(&limits, "a", at: 0) } == [true, true, true, false, false])
        #expect(isTaken(&limits, "b", at: 0), "one's eagerness is not another's harm")
        #expect(!isTaken(&limits, "a", at: 99))
        #expect(isTaken(&limits, "a", at: 100))
        #expect(!isTaken(&limits, "a", at: 100))
        #expect((0..<4).map { _ in isTaken(&limits, "a", at: 10_000) } == [true, true, true, false])
    }

    @Test func whoIsRefusedTakesNothingFromTheOthers() {
        var limits = RequestLimits(each: .init(burst: 1, interval: 1000), all: .init(burst: 3, interval: 1000))
        #expect(isTaken(&limits, "greedy", at: 0))
        for _ in 0..<100 { #expect(!isTaken(&limits, "greedy", at: 0)) }
        #expect(isTaken(&limits, "b", at: 0))
        #expect(isTaken(&limits, "c", at: 0))
        #expect(!isTaken(&limits, "d", at: 0))
        #expect(isTaken(&limits, "d", at: 1000))
    }

    @Test func tracesOfRequestersAreBounded() {
        var random = SeededGenerator()
        var limits = RequestLimits(each: .init(burst: 4, interval: 50), all: .init(burst: 10, interval: 5))
        var now = 0
        for number in 0..<50_000 {
            now += Int.random(in: 0...3, using: &random)
            _ = isTaken(&limits, "r\(number)", at: now)
            #expect(limits.traces <= 2 * limits.maximumTraces + 1)
        }
    }

    /// In any window no more than the burst and what the window brings.
    @Test func noWindowHoldsMoreThanItsAllowance() {
        var random = SeededGenerator()
        let each = RequestLimits.Rate(burst: 5, interval: 20)
        var limits = RequestLimits(each: each, all: .init(burst: 1000, interval: 1))
        var now = 0
        var times: [Int] = []
        for _ in 0..<2000 {
            now += Int.random(in: 0...12, using: &random)
            if isTaken(&limits, "a", at: now) { times.append(now) }
        }
        for (index, start) in times.enumerated() {
            for window in [0, 50, 200, 1000] {
                let count = times[index...].prefix { $0 <= start + window }.count
                #expect(count <= each.burst + window / each.interval)
            }
        }
    }
}

@Suite struct IssueLedgerTests {
    /// Whoever comes too often must not fill the log; who else is refused is always told.
    @Test func aCrowdIsToldOfOnceASecond() {
        var ledger = IssueLedger()
        func told(_ reason: Refusal.Reason, at now: Int) -> Bool {
            ledger.note(IssueLedger.Refused(peer: "10.0.0.1", refusal: Refusal(reason, "no"), at: now)) != nil
        }
        #expect(told(.tooMany, at: 1) && !told(.tooMany, at: 1) && told(.notReady, at: 1))
        #expect(told(.badRequest, at: 1) && told(.badRequest, at: 1))
        #expect(told(.tooMany, at: 2))
        #expect(ledger.refusedCounts[.tooMany] == 3 && ledger.refused.count == 5)
    }

    @Test func theNewestAreKeptAndAllAreCounted() throws {
        var ledger = IssueLedger(capacity: 3)
        let account = try #require(ServiceAccount(namespace: "shop", name: "web"))
        let grant = Grant(
            identity: WorkloadIdentity(trustDomain: "cluster.local", account: account), requester: account,
            podUID: "u1", node: "n1")
        for number in 0..<10 {
            let line = ledger.note(IssueLedger.Issued(serial: "\(number)", grant: grant, at: number, notAfter: 90))
            #expect(
                line == "issued serial=\(number) identity=spiffe://cluster.local/ns/shop/sa/web to=shop/web pod=\"u1\" "
                    + "node=\"n1\" notAfter=90")
            _ = ledger.note(
                IssueLedger.Refused(peer: "10.0.0.1:4", refusal: Refusal(.notOnNode, "not here"), at: number))
        }
        #expect(ledger.issued.map(\.serial) == ["7", "8", "9"] && ledger.issuedCount == 10)
        #expect(ledger.refused.map(\.at) == [7, 8, 9] && ledger.refusedCounts == [.notOnNode: 10])
        #expect(ledger.refused.first?.auditLine == "refused reason=not-on-node peer=\"10.0.0.1:4\": not here")
    }
}
