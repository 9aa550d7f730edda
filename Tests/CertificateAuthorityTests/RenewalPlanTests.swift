// When certificates are asked for: half lives, refusals, an agent that is away.
import Addressing
import RouteIR
import TestSupport
import Testing

@testable import CertificateAuthority

@Suite struct RenewalPlanTests {
    private let now = 1_000_000

    private func identity(_ name: String) throws -> WorkloadIdentity {
        try #require(ProxyMesh().identity(namespace: "shop", serviceAccount: name))
    }

    @Test func aNewIdentityIsAskedForAtOnceAndRenewedAtHalfItsLife() throws {
        let web = try identity("web")
        var plan = RenewalPlan()
        #expect(plan.next(after: now) == nil)
        #expect(plan.want([web], now: now).isEmpty)
        #expect(plan.due(now: now) == [web] && plan.due(now: now).isEmpty)
        #expect(plan.entries[web]?.state(at: now) == .missing)
        for (jitter, half) in [(0.0, 450), (0.5, 500), (1.0, 550)] {
            plan.issued(web, until: now + 1000, now: now, jitter: jitter)
            #expect(plan.next(after: now) == now + half)
            #expect(plan.due(now: now + half - 1).isEmpty)
        }
        #expect(plan.entries[web]?.state(at: now) == .valid)
        #expect(plan.due(now: now + 550) == [web])
    }

    @Test func whoIsRefusedAsksLessAndLessOften() throws {
        let web = try identity("web")
        var plan = RenewalPlan()
        _ = plan.want([web], now: now)
        var time = now
        var pauses: [Int] = []
        for _ in 0..<8 {
            #expect(plan.due(now: time) == [web])
            plan.fail(web, "no", now: time, jitter: 0.5)
            let next = try #require(plan.next(after: time))
            pauses.append(next - time)
            time = next
        }
        #expect(pauses == [1, 2, 4, 8, 16, 32, 60, 60])
        #expect(plan.entries[web]?.problem == "no")
        plan.issued(web, until: time + 100, now: time, jitter: 0)
        #expect(plan.entries[web]?.problem == nil)
    }

    @Test func theLastCertificateIsUsedUntilItsEnd() throws {
        let web = try identity("web")
        var plan = RenewalPlan()
        _ = plan.want([web], now: now)
        _ = plan.due(now: now)
        plan.issued(web, until: now + 100, now: now, jitter: 0.5)
        _ = plan.due(now: now + 50)
        plan.fail(web, "away", now: now + 50, jitter: 0.5)
        #expect(plan.entries[web]?.state(at: now + 99) == .overdue)
        #expect(plan.entries[web]?.state(at: now + 100) == .expired)
        // Somebody looks when it ends, however long the pause is.
        plan.fail(web, "away", now: now + 99, jitter: 1)
        #expect(plan.next(after: now + 99) == now + 100)
    }

    @Test func noMoreThanAFewAreAskedForAtOneTimeTheMostUrgentFirst() throws {
        var plan = RenewalPlan()
        let all = try (0..<40).map { try identity("a\($0)") }
        _ = plan.want(Set(all), now: now)
        for identity in all.prefix(20) {
            plan.issued(identity, until: now + 1000, now: now - 1000, jitter: 0)
        }
        let first = plan.due(now: now)
        #expect(first.count == 16 && Set(first).isDisjoint(with: all.prefix(20)))
        #expect(plan.due(now: now).isEmpty)
        for identity in first { plan.issued(identity, until: now + 1000, now: now, jitter: 0) }
        #expect(Set(plan.due(now: now)).isSuperset(of: Set(all.dropFirst(20)).subtracting(first)))
    }

    @Test func whatNobodyWillAnswerIsAskedAnew() throws {
        let web = try identity("web")
        var plan = RenewalPlan()
        _ = plan.want([web], now: now)
        _ = plan.due(now: now)
        #expect(plan.due(now: now + 1).isEmpty)
        plan.forgetAsked(now: now + 1)
        #expect(plan.due(now: now + 1) == [web])
        // An answer that never comes counts as a refusal.
        #expect(plan.due(now: now + 31).isEmpty)
        #expect(plan.entries[web]?.problem?.contains("30 s") == true)
        #expect(plan.due(now: now + 32) == [web])
    }

    @Test func anIdentityWhoseLastPodLeftIsForgotten() throws {
        let (web, api) = (try identity("web"), try identity("api"))
        var plan = RenewalPlan()
        _ = plan.want([web, api], now: now)
        #expect(plan.want([api], now: now) == [web])
        plan.issued(web, until: now + 10, now: now, jitter: 0)
        #expect(plan.entries[web] == nil)
    }

    @Test func thePodsOfANodeHaveTheIdentitiesOfTheirAccounts() throws {
        var snapshot = ProxySnapshot(generation: 1, node: ProxyNode(name: "n"))
        for (index, account) in ["web", "web", "api", ""].enumerated() {
            snapshot.meshPods[IPAddress(v4: UInt32(index))] = MeshPod(
                namespace: "shop", name: "p\(index)", uid: "\(index)", serviceAccount: account)
        }
        #expect(snapshot.identities.isEmpty)
        snapshot.mesh = ProxyMesh(trustDomain: "td")
        // A pod without an account is nobody.
        #expect(
            Set(snapshot.identities.map(\.description))
                == ["spiffe://td/ns/shop/sa/web", "spiffe://td/ns/shop/sa/api"])
    }
}
