// Keys and certificates in the proxy, with an authority that signs or refuses.
import CertificateAuthority
import Glibc
import HandOver
import Signing
import Synchronization
import TestSupport
import Testing

@testable import Proxy
@testable import ProxyProgram

/// The agent's end: signs what is asked.
private final class FakeAgent: Sendable {
    struct State {
        var asked: [CertificateQuestion] = []
        var adopted: [WorkloadCredentials] = []
        var log: [String] = []
        var now = Glibc.time(nil)
    }
    let state = Mutex(State())
    let authority: Authority

    init() throws {
        let now = Glibc.time(nil)
        authority = try Authority.root(name: "root", notBefore: now, notAfter: now + 30 * 86400)
            .intermediate(name: "below", notBefore: now, notAfter: now + 30 * 86400)
    }

    var roots: [String] { authority.chain.suffix(1) }
    var asked: [CertificateQuestion] { state.withLock(\.asked) }
    var adopted: WorkloadCredentials? { state.withLock(\.adopted.last) }

    var keeper: CertificateKeeper {
        CertificateKeeper(
            .init(
                adopt: { credentials in self.state.withLock { $0.adopted.append(credentials) } },
                log: { _, text in self.state.withLock { $0.log.append(text) } },
                now: { self.state.withLock(\.now) }, hide: {}))
    }
    var ask: CertificateKeeper.Ask {
        { question in
            self.state.withLock { $0.asked.append(question) }
            return true
        }
    }

    /// The next question, once it is there.
    func next(_ number: Int = 1) throws -> CertificateQuestion {
        try eventually("question \(number)") { asked.count >= number }
        return asked[number - 1]
    }

    func answer(
        _ question: CertificateQuestion, life: Int = 86400, by other: Authority? = nil, to name: String? = nil
    ) throws -> CertificateAnswer {
        let identity = try #require(WorkloadIdentity(name ?? question.identity))
        let now = state.withLock(\.now)
        let authority = other ?? self.authority
        let csr = name == nil ? question.request : try SigningKey.generate().request(uris: [])
        let leaf = try authority.issue(
            SigningRequest(pem: csr), to: identity, notBefore: now, notAfter: now + life)
        return CertificateAnswer(id: question.id, chain: [leaf.pem] + authority.chain, roots: roots)
    }
}

private func pemBlock(_ label: String) -> String { "-----BEGIN \(label)-----\nAAAA\n-----END \(label)-----\n" }

private func identity(_ name: String) throws -> WorkloadIdentity {
    try #require(WorkloadIdentity("spiffe://cluster.local/ns/shop/sa/\(name)"))
}

@Suite struct CertificateKeeperTests {
    private let agent: FakeAgent
    private let keeper: CertificateKeeper
    init() throws {
        agent = try FakeAgent()
        keeper = agent.keeper
    }

    private func report() -> String { String(decoding: keeper.report, as: UTF8.self) }

    @Test func whatIsSignedIsAdoptedAndWhoseLastPodLeftIsForgotten() throws {
        let web = try identity("web")
        keeper.want([web])
        keeper.connected(agent.ask)
        let question = try agent.next()
        #expect(question.identity == web.description)
        #expect(report().contains(#""state":"missing""#))
        keeper.take(try agent.answer(question))
        try eventually("it is adopted") { agent.adopted?.byIdentity[web] != nil }
        let credential = try #require(agent.adopted?.byIdentity[web])
        // The leaf and what stands between; the root is believed, not shown.
        #expect(credential.chain.count == 2 && agent.adopted?.roots.count == 1)
        #expect(credential.notAfter > Glibc.time(nil) + 86000 && !credential.key.isEmpty)
        var dumped = ""
        dump(credential, to: &dumped)
        #expect(dumped.contains(web.description) && !dumped.contains("key"))
        #expect(report().contains(#""isConnected":true"#) && report().contains(#""state":"valid""#))
        #expect(keeper.metrics.contains("heddle_proxy_certificates{state=\"valid\"} 1"))
        keeper.want([])
        try eventually("it is forgotten") { agent.adopted?.byIdentity.isEmpty == true }
        #expect(report() == #"{"isConnected":true,"entries":[]}"#)
    }

    /// What is not for our key, of another name, of a root that is not believed: none is used, each is told once.
    @Test func whatIsNoGoodIsNotUsed() throws {
        let web = try identity("web")
        keeper.want([web])
        keeper.connected(agent.ask)
        let now = Glibc.time(nil)
        let stranger = try Authority.root(name: "stranger", notBefore: now, notAfter: now + 86400)
        let answers: [(CertificateQuestion) throws -> CertificateAnswer] = [
            { CertificateAnswer(id: $0.id, problem: "not you") },
            { try agent.answer($0, by: stranger) },
            { try agent.answer($0, to: "spiffe://cluster.local/ns/shop/sa/web") },
            { CertificateAnswer(id: $0.id, chain: ["nonsense"]) },
            { CertificateAnswer(id: $0.id) },
        ]
        for (index, sentence) in ["not you", "no root", "not for the key", "no certificate", "no certificate"]
            .enumerated()
        {
            keeper.take(try answers[index](try agent.next(index + 1)))
            #expect(report().contains(sentence), "\(report())")
            // As if the pause were over.
            agent.state.withLock { $0.now += 120 }
            keeper.turn()
        }
        #expect(agent.adopted?.byIdentity.isEmpty ?? true)
        #expect(agent.state.withLock(\.log).count == 4)
        keeper.take(try agent.answer(try agent.next(6)))
        try eventually("it is adopted") { agent.adopted?.byIdentity[web] != nil }
    }

    @Test func aCertificateIsUsedUntilItsEndAndNoLonger() throws {
        let web = try identity("web")
        keeper.want([web])
        keeper.connected(agent.ask)
        keeper.take(try agent.answer(try agent.next(), life: 100))
        try eventually("it is adopted") { agent.adopted?.byIdentity[web] != nil }
        agent.state.withLock { $0.now += 60 }
        keeper.turn()
        // Another key each time.
        #expect(try agent.next(2).request != agent.next().request)
        keeper.connected(nil)
        #expect(agent.adopted?.byIdentity[web] != nil)
        agent.state.withLock { $0.now += 40 }
        keeper.turn()
        #expect(agent.adopted?.byIdentity.isEmpty == true && report().contains(#""state":"expired""#))
        // Whoever comes back is asked.
        keeper.connected(agent.ask)
        keeper.take(try agent.answer(try agent.next(3)))
        try eventually("it is adopted") { agent.adopted?.byIdentity[web] != nil }
    }

    /// The old root goes on being believed with the new one; once it is taken out, what it signed is renewed at once.
    @Test func rootsChangeWithOverlap() throws {
        let web = try identity("web")
        keeper.want([web])
        keeper.connected(agent.ask)
        keeper.take(try agent.answer(try agent.next()))
        try eventually("it is adopted") { agent.adopted?.byIdentity[web] != nil }
        let now = Glibc.time(nil)
        let next = try Authority.root(name: "next", notBefore: now, notAfter: now + 86400)
        keeper.take(CertificateAnswer(id: 0, roots: agent.roots + [next.facts.pem]))
        try eventually("both are believed") { agent.adopted?.roots.count == 2 }
        #expect(agent.asked.count == 1)
        keeper.take(CertificateAnswer(id: 0, roots: [next.facts.pem]))
        #expect(try agent.next(2).identity == web.description)
        try eventually("one is believed") { agent.adopted?.roots.count == 1 }
        // It is shown until there is another.
        #expect(agent.adopted?.byIdentity[web] != nil)
        // What holds no certificate changes nothing, and is told.
        for nonsense in ["nonsense", "", pemBlock("PUBLIC KEY")] {
            keeper.take(CertificateAnswer(id: 0, roots: [nonsense]))
            keeper.turn()
            #expect(agent.adopted?.roots.count == 1)
        }
        #expect(agent.state.withLock(\.log).count { $0.contains("are passed over") } == 3)
    }
}
