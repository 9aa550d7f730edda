/// A certificate takes the other's place, and at no moment is one served whose authority API servers do not know.
import PullJSON
import Testing

@testable import Admission

private let names: Set = ["heddle-controller.heddle-system.svc"]
private let timing = WebhookPlan.Timing()

private func certificate(_ number: Int, from start: Int, names: Set<String> = names) -> WebhookCertificate {
    WebhookCertificate(
        fingerprint: "f\(number)", authority: "ca\(number)\n", names: names, notBefore: start,
        notAfter: start + timing.lifetime)
}

/// Replicas, a configuration and API servers, with whatever comes late or not at all.
private struct World {
    var facts = WebhookFacts(names: names)
    var now = 0
    var made = 0
    /// What each replica serves, and since when it would know better.
    var replicas: [String: WebhookCertificate] = [:]
    /// What API servers believe in, up to `settling` late.
    var beliefs: [(since: Int, bundle: [String])] = []
    var steps: [WebhookPlan.Step] = []

    /// Carries out one plan; whether there was something to do.
    mutating func work() -> Bool {
        let plan = WebhookPlan(facts, now: now, timing: timing)
        guard let step = plan.step else { return false }
        steps.append(step)
        switch step {
        case .makeCurrent:
            made += 1
            facts.certificates = WebhookCertificates()
            (facts.certificates.current, facts.certificates.currentSince) = (certificate(made, from: now), now)
        case .makeNext:
            made += 1
            facts.certificates.next = certificate(made, from: now)
        case .publish(let bundle):
            (facts.bundle, facts.bundleSince) = (bundle, now)
            beliefs.append((now, bundle))
        case .promote:
            facts.certificates.previous = facts.certificates.current
            (facts.certificates.current, facts.certificates.currentSince) = (facts.certificates.next, now)
            facts.certificates.next = nil
        case .retire: facts.certificates.previous = nil
        }
        return true
    }

    /// Every authority that some API server may already, or still, be without: those of the older beliefs decide.
    func isTrusted(_ certificate: WebhookCertificate) -> Bool {
        let current = beliefs.lastIndex { $0.since + timing.settling <= now } ?? 0
        return beliefs[current...].allSatisfy { $0.bundle.contains(certificate.authority) }
    }
}

@Suite struct WebhookCertificateTests {
    @Test func theFirstIsMadeAndPublished() {
        var world = World()
        world.facts.bundle = []
        while world.work() {}
        #expect(world.steps == [.makeCurrent, .publish(["ca1\n"])])
        #expect(WebhookPlan(world.facts, now: 0).lookAgain == timing.rotationAge)
        // Without a configuration there is nothing to publish into.
        world = World()
        while world.work() {}
        #expect(world.steps == [.makeCurrent])
    }

    @Test func whatStrangersPutIntoTheBundleIsPutRight() {
        var facts = WebhookFacts(names: names)
        facts.certificates.current = certificate(1, from: 0)
        for bundle in [[], ["other\n"], ["ca1\n", "other\n"], ["ca1\n", "ca1\n"]] {
            facts.bundle = bundle
            #expect(WebhookPlan(facts, now: 10).step == .publish(["ca1\n"]))
        }
        facts.bundle = ["ca1\n"]
        #expect(WebhookPlan(facts, now: 10).step == nil)
    }

    /// For two years, minute by minute where something goes on; replicas read late, or never say what they serve.
    @Test(arguments: [0, 30, 600], [true, false]) func rotationNeverServesWhatIsNotTrusted(_ lag: Int, _ says: Bool) {
        var world = World()
        world.facts.bundle = []
        while world.work() {}
        world.now = timing.settling
        var changedAt = 0
        var current = world.facts.certificates.current
        world.replicas = Dictionary(uniqueKeysWithValues: ["a", "b"].compactMap { name in current.map { (name, $0) } })
        while world.now < 730 * 86400 {
            while world.work() {}
            if world.facts.certificates.current != current {
                (current, changedAt) = (world.facts.certificates.current, world.now)
            }
            for (place, name) in ["a", "b"].enumerated() where world.now >= changedAt + lag * (1 + place) {
                world.replicas[name] = current
            }
            world.facts.served = world.replicas.mapValues { says ? $0.fingerprint : nil }
            for served in world.replicas.values {
                #expect(world.isTrusted(served) && served.notAfter > world.now, "at \(world.now): \(served)")
            }
            let pause = WebhookPlan(world.facts, now: world.now, timing: timing).lookAgain - world.now
            let isIdle = world.facts.certificates.next == nil && world.facts.certificates.previous == nil
            world.now += isIdle ? max(pause, 1) : min(max(pause, 1), 60)
        }
        // Each 60 days one, of 90.
        #expect(world.made == 13)
        let rotation: [WebhookPlan.Step] = [
            .makeNext, .publish(["ca1\n", "ca2\n"]), .promote, .retire, .publish(["ca2\n"]),
        ]
        #expect(Array(world.steps.dropFirst(2).prefix(5)) == rotation)
    }

    /// The controller was away too long: what is expired is not waited for.
    @Test func anExpiredOneIsReplacedAtOnce() {
        var facts = WebhookFacts(names: names)
        facts.certificates.current = certificate(1, from: 0)
        facts.bundle = ["ca1\n"]
        #expect(WebhookPlan(facts, now: timing.lifetime).step == .makeCurrent)
        facts.certificates.next = certificate(2, from: timing.rotationAge)
        #expect(WebhookPlan(facts, now: timing.lifetime).step == .promote)
        facts.certificates.next = certificate(2, from: 0)
        #expect(WebhookPlan(facts, now: timing.lifetime).step == .makeCurrent)
    }
    /// The Service has another name or namespace.
    @Test func anotherNameIsAnotherCertificate() {
        var facts = WebhookFacts(names: ["other.svc"])
        facts.certificates.current = certificate(1, from: 0)
        facts.bundle = ["ca1\n"]
        #expect(WebhookPlan(facts, now: 10).step == .makeCurrent)
        facts.certificates.current = certificate(1, from: 0, names: names.union(["other.svc"]))
        #expect(WebhookPlan(facts, now: 10).step == nil)
        facts.certificates.next = certificate(2, from: 5)
        facts.bundle = ["ca1\n", "ca2\n"]
        #expect(WebhookPlan(facts, now: 10).step == .makeNext)
    }

    @Test func whatAClockThatWasAheadMadeIsReplaced() {
        var facts = WebhookFacts(names: names)
        facts.certificates.current = certificate(1, from: 1000)
        facts.bundle = ["ca1\n"]
        #expect(WebhookPlan(facts, now: 999).step == .makeNext)
        #expect(WebhookPlan(facts, now: 1000).step == nil)
        facts.bundle = ["ca1\n", "ca2\n"]
        facts.certificates.next = certificate(2, from: 1000)
        #expect(WebhookPlan(facts, now: 999).step == .makeNext)
        #expect(WebhookPlan(facts, now: 1000).step == .promote)
    }

    /// One that still serves the old certificate, or does not say, keeps its authority in the bundle for a day.
    @Test func theOldAuthorityStaysUntilNobodyServesByIt() {
        var facts = WebhookFacts(names: names)
        (facts.certificates.current, facts.certificates.currentSince) = (certificate(2, from: 1000), 4000)
        facts.certificates.previous = certificate(1, from: 0)
        facts.bundle = ["ca2\n", "ca1\n"]
        let end = 4000 + timing.overlap
        for served in [[:], ["a": "f2", "b": "f1"], ["a": "f2", "b": nil]] as [[String: String?]] {
            facts.served = served
            let plan = WebhookPlan(facts, now: 5000)
            #expect(plan.step == nil && plan.lookAgain == end)
            #expect(WebhookPlan(facts, now: end).step == .retire)
        }
        facts.served = ["a": "f2", "b": "f2"]
        #expect(WebhookPlan(facts, now: 5000).step == .retire)
    }

    @Test func thePatchTouchesTheBundleAlone() throws {
        let patch = String(
            decoding: webhookPatch(["a.heddle.io", "b.heddle.io"], bundle: ["x\n", "yz"]), as: UTF8.self)
        #expect(
            patch == #""webhooks":[{"name":"a.heddle.io","clientConfig":{"caBundle":"eAp5eg=="}},"#
                + #"{"name":"b.heddle.io","clientConfig":{"caBundle":"eAp5eg=="}}]"#)
        for (text, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            // RFC 4648, 10.
            let patch = String(decoding: webhookPatch(["w"], bundle: [text]), as: UTF8.self)
            #expect(patch == #""webhooks":[{"name":"w","clientConfig":{"caBundle":"\#(encoded)"}}]"#)
        }
    }
}
