// Who gets a certificate, from the bytes of a request to those of the chain, and what a refusal leaves behind.
import AdminAPI
import AdminServer
import CertificateAuthority
import FakeAPIServer
import Glibc
import KubernetesClient
import Signing
import Synchronization
import Telemetry
import TestSupport
import Testing

@testable import Controller

@Suite(.serialized) struct CertificateServiceTests {
    private static let web = "spiffe://cluster.local/ns/shop/sa/web"

    @Test func aPodGetsItsOwn() async throws {
        try await withService { rig in
            let key = SigningKey.generate()
            let chain = try await rig.chain(csr: key.request(uris: [Self.web]), by: "web.token")
            #expect(chain.count == 3)
            let leaf = try #require(certificates(inPEM: chain[0]).first)
            #expect(leaf.uris == [Self.web] && !leaf.isAuthority && leaf.names.isEmpty)
            #expect(verify(chain: chain, roots: rig.root, at: Glibc.time(nil)) == nil)
            #expect(leaf.notAfter - Glibc.time(nil) <= 86_400)
            // Without an identity asked for it is the pod's own.
            let unnamed = try await rig.chain(csr: key.request(uris: []), by: "web.token", validity: 600)
            let short = try #require(certificates(inPEM: unnamed[0]).first)
            #expect(short.uris == [Self.web] && short.notAfter - Glibc.time(nil) <= 600)
            let long = try await rig.chain(csr: key.request(uris: []), by: "web.token", validity: .max)
            #expect(try #require(certificates(inPEM: long[0]).first).notAfter <= Glibc.time(nil) + 86_400)
        }
    }

    @Test func theNodesProxyGetsThoseOfItsNode() async throws {
        try await withService { rig in
            let csr = try SigningKey.generate().request(uris: [Self.web])
            let chain = try await rig.chain(csr: csr, by: "agent.token", impersonating: Self.web)
            #expect(try #require(certificates(inPEM: chain[0]).first).uris == [Self.web])
            #expect(rig.audit.count == 1)
            #expect(
                rig.audit.first?.hasPrefix("issued serial=") == true
                    && rig.audit.first?.contains("identity=\(Self.web) to=kube-system/heddle pod=") == true)
            let report = rig.report
            #expect(report.issuedCount == 1 && report.issued.first?.node == "node-1" && report.refused.isEmpty)
            #expect(rig.metrics.contains("\nheddle_ca_issued_total 1\n"))
            #expect(rig.metrics.contains("\nheddle_ca_refused_total{reason=\"not-on-node\"} 0\n"))
            #expect(rig.metrics.contains("\nheddle_ca_token_review_seconds_count 1\n"))
        }
    }

    struct Case: Sendable, CustomTestStringConvertible {
        let reason: Refusal.Reason
        var token: String? = "web.token"
        var uris = [web]
        var impersonating: String?
        var testDescription: String { "\(reason.rawValue) \(token ?? "-")" }
    }
    @Test(arguments: [
        Case(reason: .notAuthenticated, token: nil), Case(reason: .notAuthenticated, token: "bogus.token"),
        Case(reason: .notAuthenticated, token: "expired.token"), Case(reason: .wrongAudience, token: "api.token"),
        Case(reason: .notBoundToAPod, token: "unbound.token"), Case(reason: .notAServiceAccount, token: "person"),
        Case(reason: .podUnknown, token: "gone.token"),
        Case(reason: .mayNotImpersonate, uris: ["spiffe://cluster.local/ns/shop/sa/other"]),
        Case(reason: .mayNotImpersonate, uris: [], impersonating: "spiffe://cluster.local/ns/shop/sa/other"),
        Case(
            reason: .notOnNode, token: "agent.token", uris: ["spiffe://cluster.local/ns/shop/sa/far"],
            impersonating: "spiffe://cluster.local/ns/shop/sa/far"),
        Case(reason: .badIdentity, uris: ["spiffe://other.domain/ns/shop/sa/web"]),
        Case(reason: .badIdentity, impersonating: "spiffe://cluster.local/ns/shop/sa/other"),
        Case(reason: .badIdentity, uris: [web, "spiffe://cluster.local/ns/shop/sa/other"]),
    ])
    func whoeverMayNotIsRefusedToldAndCounted(_ which: Case) async throws {
        try await withService { rig in
            let csr = try SigningKey.generate().request(uris: which.uris)
            let answer = await rig.ask(csr: csr, by: which.token, impersonating: which.impersonating)
            guard case .failure(let refusal) = answer else { return #expect(Bool(false), "it was issued") }
            #expect(refusal.reason == which.reason, "\(refusal.sentence)")
            #expect(rig.audit.count == 1 && rig.audit[0].hasPrefix("refused reason=\(which.reason.rawValue) peer="))
            #expect(rig.metrics.contains("\nheddle_ca_refused_total{reason=\"\(which.reason.rawValue)\"} 1\n"))
            #expect(rig.metrics.contains("\nheddle_ca_issued_total 0\n"))
            #expect(rig.report.refused.map(\.reason) == [which.reason.rawValue])
            // No part of the token is told to anybody.
            let told = rig.audit.joined() + refusal.sentence
            #expect(which.token.map { !told.contains($0) } ?? true)
        }
    }

    /// What is asked in a way that could be read in two is not answered.
    @Test(arguments: [
        ("subjectAltName=URI:\(web),URI:\(web)", ""), ("subjectAltName=URI:\(web)", "basicConstraints=CA:TRUE"),
        ("subjectAltName=URI:\(web),DNS:kubernetes.default.svc", ""), ("subjectAltName=DNS:shop.example", ""),
    ])
    func tricksOfTheRequestAreRefused(names: String, more: String) async throws {
        try await withService { rig in
            let csr = try opensslRequest([names, more].filter { !$0.isEmpty })
            guard case .failure(let refusal) = await rig.ask(csr: csr, by: "web.token") else {
                return #expect(Bool(false), "it was issued")
            }
            #expect([.badRequest, .badIdentity].contains(refusal.reason), "\(refusal.sentence)")
        }
    }

    @Test func aRequestOfOpensslIsAnswered() async throws {
        try await withService { rig in
            let chain = try await rig.chain(
                csr: opensslRequest(["subjectAltName=critical,URI:\(Self.web)"]), by: "web.token")
            let folder = try TemporaryDirectory()
            try writeText(chain[0], to: folder.path + "/leaf.pem")
            try writeText(chain[1], to: folder.path + "/intermediate.pem")
            try writeText(rig.root, to: folder.path + "/root.pem")
            let said = try run([
                "openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", folder.path + "/root.pem",
                "-untrusted", folder.path + "/intermediate.pem", folder.path + "/leaf.pem",
            ])
            #expect(said.hasSuffix("leaf.pem: OK\n"))
        }
    }

    /// Before anything else is known of them: a crowd costs the API server little.
    @Test func whoAsksTooOftenIsNotReviewed() async throws {
        try await withService { rig in
            for _ in 0..<500 { _ = await rig.ask(csr: "", by: "bogus.token", peer: "10.0.0.66") }
            let before = rig.server.writes.count
            guard case .failure(let refusal) = await rig.ask(csr: "", by: "bogus.token", peer: "10.0.0.66") else {
                return #expect(Bool(false), "it was issued")
            }
            #expect(refusal.reason == .tooMany && rig.server.writes.count == before)
            #expect(GRPCFailure(refusal).code == .resourceExhausted)
            let csr = try SigningKey.generate().request(uris: [])
            #expect(try await rig.chain(csr: csr, by: "web.token").count == 3)
        }
    }

    /// The kubelet of a node that is taken over makes pods as it likes, and they have no account, not even `default`.
    @Test func aPodThatNamesNoAccountStandsForNone() async throws {
        try await withService { rig in
            var mirror = FakeObject(
                "shop", "mirror-0", body: #""spec":{"nodeName":"node-1"},"status":{"phase":"Running"}"#)
            mirror.nodeName = "node-1"
            rig.server.put(.pods, mirror)
            try await soon("it is known") { rig.pods.count == 5 }
            let name = "spiffe://cluster.local/ns/shop/sa/default"
            let csr = try SigningKey.generate().request(uris: [name])
            guard case .failure(let refusal) = await rig.ask(csr: csr, by: "agent.token", impersonating: name) else {
                return #expect(Bool(false), "it was issued")
            }
            #expect(refusal.reason == .notOnNode, "\(refusal.sentence)")
        }
    }

    /// With the watch gone nobody knows who has left the node: a pod's own is all that is given.
    @Test func nobodySpeaksForOthersWhileThePodsAreNotWatched() async throws {
        try await withService { rig in
            let csr = try SigningKey.generate().request(uris: [Self.web])
            #expect(try await rig.chain(csr: csr, by: "agent.token", impersonating: Self.web).count == 3)
            for _ in 0..<200 { rig.server.fail(.pods, .status(503)) }
            rig.server.endWatches(.pods)
            try await soon("the watch waits") { rig.pods.status.first?.state == .waiting }
            guard case .failure(let refusal) = await rig.ask(csr: csr, by: "agent.token", impersonating: Self.web)
            else { return #expect(Bool(false), "it was issued") }
            #expect(refusal.reason == .notReady, "\(refusal.sentence)")
            #expect(try await rig.chain(csr: csr, by: "web.token").count == 3)
        }
    }

    /// Who is not known has nothing parsed but the size of his request.
    @Test func theTokenIsJudgedBeforeTheCSR() async throws {
        try await withService { rig in
            for (token, reason) in [("bogus.token", Refusal.Reason.notAuthenticated), ("api.token", .wrongAudience)] {
                guard case .failure(let refusal) = await rig.ask(csr: "no CSR", by: token) else {
                    return #expect(Bool(false), "it was issued")
                }
                #expect(refusal.reason == reason)
            }
        }
    }

    /// One address does not take all of what the API server has for everybody.
    @Test func oneAddressHasFourReviewsAtATime() async throws {
        try await withService { rig in
            let csr = try SigningKey.generate().request(uris: [])
            rig.server.hold { $0.path.contains("tokenreviews") }
            let results = await withTaskGroup(of: Refusal.Reason?.self) { group in
                for _ in 0..<6 {
                    group.addTask {
                        if case .failure(let refusal) = await rig.ask(csr: csr, by: "web.token") {
                            refusal.reason
                        } else {
                            nil
                        }
                    }
                }
                try? await soon("they wait") { rig.server.held == 4 && rig.report.refusedCounts["too-many"] == 2 }
                rig.server.release()
                return await group.reduce(into: []) { $0.append($1) }
            }
            #expect(results.count { $0 == nil } == 4 && results.count { $0 == .tooMany } == 2)
        }
    }

    @Test func withoutKeysOrPodsOneIsToldToComeAgain() async throws {
        try await withService { rig in
            rig.forgetKeys()
            guard case .failure(let refusal) = await rig.ask(csr: "", by: "web.token") else {
                return #expect(Bool(false), "it was issued")
            }
            #expect(refusal.reason == .notReady && rig.server.writes.isEmpty)
            #expect(GRPCFailure(refusal).code == .unavailable)
        }
    }

    private func withService(_ body: (ServiceRig) async throws -> Void) async throws {
        let rig = try await ServiceRig()
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await rig.pods.run() }
            do {
                try await soon("the pods are listed") { rig.pods.isComplete }
                try await body(rig)
            } catch { Issue.record(error) }
            group.cancelAll()
        }
        await rig.end()
    }
}
