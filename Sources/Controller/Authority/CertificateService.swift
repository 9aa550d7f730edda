/// Issues certificates to those who may have them: one request in, a chain or a refusal out. Whoever asks costs little
/// before it is known who that is: a bound for each address, one for TokenReviews under way, then one for each pod.
import AdminAPI
import CertificateAuthority
import Glibc
import Signing
import Synchronization
import Telemetry

final class CertificateService: Sendable {
    private struct State {
        /// By address, before anybody looks at the token: a node's proxy asks from one for all pods of the node.
        var peers = RequestLimits(
            each: .init(burst: 500, interval: 200), all: .init(burst: 4000, interval: 2))
        /// By pod, once the token says which.
        var requesters = RequestLimits()
        /// TokenReviews under way, by address.
        var reviews: [String: Int] = [:]
        /// Why the last TokenReview was not done.
        var reviewProblem: String?
        var ledger = IssueLedger()
    }
    /// TokenReviews under way: work of the API server, which has others to serve.
    private static let mostReviews = 32
    private static let mostReviewsOfOne = 4

    private let state = Mutex(State())
    private let who: WhoMayAsk
    private let pods: PodWatch
    private let reviewer: TokenReviewer
    private let signer: @Sendable () -> Signer?
    private let metrics: AuthorityMetrics
    /// The audit.
    private let log: @Sendable (String) -> Void
    private let start = ContinuousClock.now

    init(
        _ who: WhoMayAsk, pods: PodWatch, reviewer: TokenReviewer, metrics: AuthorityMetrics,
        signer: @escaping @Sendable () -> Signer?, log: @escaping @Sendable (String) -> Void
    ) {
        (self.who, self.pods, self.reviewer, self.metrics) = (who, pods, reviewer, metrics)
        (self.signer, self.log) = (signer, log)
    }

    /// The message `IstioCertificateRequest` in, `IstioCertificateResponse` out.
    func certificate(
        for message: [UInt8], authorization: String?, peer: String
    ) async -> Result<[UInt8], Refusal> {
        do throws(Refusal) {
            return .success(try await issued(message, authorization, peer))
        } catch {
            let entry = IssueLedger.Refused(peer: peer, refusal: error, at: Glibc.time(nil))
            metrics.count(error)
            if let line = state.withLock({ $0.ledger.note(entry) }) { log(line) }
            return .failure(error)
        }
    }

    private func issued(
        _ message: [UInt8], _ authorization: String?, _ peer: String
    ) async throws(Refusal) -> [UInt8] {
        let arrival = milliseconds
        try state.withLock { state throws(Refusal) in try state.peers.take(peer, now: arrival) }
        guard let signer = signer() else {
            throw Refusal(.notReady, "the authority has no key yet; agentctl ca in the controller's pod says why")
        }
        let token = try bearerToken(authorization)
        let request = try CertificateRequest(message.span)
        let facts = try await review(token, peer)
        try who.checkToken(facts)
        let signing = try SigningRequest(pem: request.csr)
        let grant = try pods.decide(who, facts, asked: [request.impersonated].compactMap(\.self) + signing.uris)
        try state.withLock { state throws(Refusal) in
            try state.requesters.take("\(grant.requester) \(grant.podUID)", now: arrival)
        }
        return try sign(signing, grant, request.validity, by: signer)
    }

    private func sign(
        _ request: SigningRequest, _ grant: Grant, _ validity: Int, by signer: Signer
    ) throws(Refusal) -> [UInt8] {
        let now = Glibc.time(nil)
        guard let latest = signer.leafEnd(now: now) else {
            throw Refusal(.notReady, "the authority's own certificate has ended")
        }
        let end = validity > 0 ? now + min(validity, latest - now) : latest
        let (leaf, serial): (String, String)
        do throws(SigningError) {
            (leaf, serial) = try signer.authority.issue(request, to: grant.identity, notBefore: now, notAfter: end)
        } catch {
            throw Refusal(.notReady, "the certificate was not signed: \(error.sentence)")
        }
        let entry = IssueLedger.Issued(serial: serial, grant: grant, at: now, notAfter: end)
        metrics.issued.add()
        log(state.withLock { $0.ledger.note(entry) })
        return certificateResponse(chain: [leaf] + signer.chain)
    }

    private func review(_ token: String, _ peer: String) async throws(Refusal) -> TokenFacts {
        try state.withLock { state throws(Refusal) in
            let (own, all) = (state.reviews[peer] ?? 0, state.reviews.values.reduce(0, +))
            guard own < Self.mostReviewsOfOne, all < Self.mostReviews else {
                throw Refusal(.tooMany, "\(all) tokens are being reviewed, \(own) of this address; ask again")
            }
            state.reviews[peer] = own + 1
        }
        defer { state.withLock { $0.reviews[peer] = $0.reviews[peer].flatMap { $0 > 1 ? $0 - 1 : nil } } }
        let begin = ContinuousClock.now
        defer { metrics.reviews.observe((ContinuousClock.now - begin) / .seconds(1)) }
        do throws(Refusal) {
            let facts = try await reviewer.review(token)
            state.withLock { $0.reviewProblem = nil }
            return facts
        } catch {
            if error.reason == .notReady { state.withLock { $0.reviewProblem = error.sentence } }
            throw error
        }
    }

    private func bearerToken(_ authorization: String?) throws(Refusal) -> String {
        let words = authorization?.split(separator: " ") ?? []
        guard words.count == 2, words[0].lowercased() == "bearer" else {
            throw Refusal(
                .notAuthenticated, "the request has no token: send `authorization: Bearer TOKEN` in its metadata")
        }
        return String(words[1])
    }

    private var milliseconds: Int { Int((ContinuousClock.now - start) / .milliseconds(1)) }

    /// What it did so far, newest first.
    func fill(_ report: inout AuthorityReport) {
        let (ledger, problem) = state.withLock { ($0.ledger, $0.reviewProblem) }
        report.issuedCount = ledger.issuedCount
        report.refusedCounts = Dictionary(
            uniqueKeysWithValues: ledger.refusedCounts.map { ($0.key.rawValue, $0.value) })
        report.issued = ledger.issued.suffix(AuthorityReport.shown).reversed().map(AuthorityReport.Issued.init)
        report.refused = ledger.refused.suffix(AuthorityReport.shown).reversed().map(AuthorityReport.Refused.init)
        if let problem { report.problems.append(problem) }
    }
}

extension AuthorityReport.Issued {
    fileprivate init(_ entry: IssueLedger.Issued) {
        self.init(
            serial: entry.serial, identity: "\(entry.grant.identity)", requester: "\(entry.grant.requester)",
            node: entry.grant.node, at: entry.at, notAfter: entry.notAfter)
    }
}

extension AuthorityReport.Refused {
    fileprivate init(_ entry: IssueLedger.Refused) {
        self.init(
            peer: entry.peer, reason: entry.refusal.reason.rawValue, sentence: entry.refusal.sentence, at: entry.at)
    }
}
