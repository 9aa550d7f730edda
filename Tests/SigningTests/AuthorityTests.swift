// What an authority makes, as openssl and swift-certificates' own verifier read it.
import CertificateAuthority
import Crypto
import FoundationEssentials
import Signing
import SwiftASN1
import TestSupport
import Testing
@_spi(FixedExpiryValidationTime) import X509

@Suite(.enabled(if: hasOpenSSL, "openssl")) struct AuthorityTests {
    let shelf: Shelf
    let root: Authority
    let authority: Authority
    let identity: WorkloadIdentity

    init() throws {
        shelf = try Shelf()
        root = try Authority.root(name: "heddle root 1", notBefore: now, notAfter: now + 3650 * day)
        authority = try root.intermediate(name: "heddle 2", notBefore: now, notAfter: now + 90 * day)
        identity = try #require(WorkloadIdentity(reader))
    }

    func leaf() throws -> (pem: String, serial: String) {
        let request = try SigningRequest(pem: shelf.request())
        return try authority.issue(request, to: identity, notBefore: now, notAfter: now + day)
    }

    @Test func aLeafLeadsToTheRoot() async throws {
        let leaf = try leaf().pem
        #expect(authority.chain.count == 2 && authority.chain.last == root.chain.first)
        for purpose in ["sslserver", "sslclient"] {
            #expect(try shelf.verify(leaf, above: authority.chain, roots: root.chain, purpose: purpose) == nil)
        }
        #expect(try shelf.verify(leaf, above: [], roots: root.chain) != nil)
        #expect(try shelf.verify(leaf, above: authority.chain, roots: other().chain) != nil)
        #expect(verify(chain: [leaf] + authority.chain, roots: root.chain[0], at: now + day / 2) == nil)
        #expect(try await isGood(leaf, above: authority.chain, roots: root.chain))
        #expect(try await !isGood(leaf, above: authority.chain, roots: other().chain))
    }

    private func other() throws -> Authority {
        try Authority.root(name: "heddle root 1", notBefore: now, notAfter: now + day)
    }

    @Test func aLeafSaysWhatWasDecided() throws {
        let request = try shelf.request()
        let (leaf, serial) = try authority.issue(
            SigningRequest(pem: request), to: identity, notBefore: now, notAfter: now + day)
        let text = try shelf.text(leaf)
        for part in [
            "Version: 3", "Signature Algorithm: ecdsa-with-SHA256 Issuer: CN=heddle 2", " Subject: Subject Public Key",
            "Not Before: Sep 23 23:58:00 2026 GMT", "Not After : Sep 25 00:00:00 2026 GMT",
            "X509v3 Basic Constraints: critical CA:FALSE", "X509v3 Key Usage: critical Digital Signature X509v3",
            "X509v3 Extended Key Usage: TLS Web Server Authentication, TLS Web Client Authentication X509v3",
            "X509v3 Subject Alternative Name: critical URI:spiffe://cluster.local/ns/shop/sa/reader X509v3",
        ] { #expect(text.contains(part), "\(part) in \(text)") }
        #expect(text.split(separator: "X509v3").count == 8, "no more extensions: \(text)")
        // The key of the request, and the number that the audit names.
        let key = try shelf.openssl("req -noout -pubkey", input: request)
        #expect(try shelf.openssl("x509 -noout -pubkey", input: leaf) == key)
        #expect(try shelf.openssl("x509 -noout -serial", input: leaf).lowercased() == "serial=\(serial)\n")
        #expect(serial.count == 32 && serial < "8")
        let facts = try #require(certificates(inPEM: leaf).first)
        #expect(facts.pem == leaf && facts.serial == serial && facts.uris == [reader] && facts.subject.isEmpty)
        #expect(facts.notBefore == now - 120 && facts.notAfter == now + day && !facts.isAuthority)
        let print = try shelf.openssl("x509 -noout -fingerprint -sha256", input: leaf).lowercased()
        #expect(print.replacing(":", with: "").hasSuffix("=\(facts.fingerprint)\n"))
    }

    @Test func thoseAboveSayWhatTheyMayDo() throws {
        let rootText = try shelf.text(root.chain[0])
        #expect(rootText.contains("critical CA:TRUE X509v3 Key Usage: critical Certificate Sign, CRL Sign X509v3"))
        let text = try shelf.text(authority.chain[0])
        #expect(text.contains("CA:TRUE, pathlen:0 X509v3 Key Usage: critical Certificate Sign, CRL Sign X509v3"))
        #expect(text.contains("Issuer: CN=heddle root 1") && text.contains("Subject: CN=heddle 2"))
        #expect(authority.facts.isAuthority && authority.facts.subject == "CN=heddle 2")
        #expect(isIssued(authority.chain[0], by: root.chain[0]))
        #expect(!isIssued(root.chain[0], by: authority.chain[0]) && !isIssued("", by: ""))
        #expect(throws: SigningError("the certificate of CN=heddle 2 has a pathlen too small for those below it")) {
            _ = try authority.intermediate(name: "heddle 3", notBefore: now, notAfter: now + day)
        }
    }

    @Test func noSerialComesTwice() throws {
        let request = try SigningRequest(pem: shelf.request())
        let serials = try (0..<100).map { _ in
            try authority.issue(request, to: identity, notBefore: now, notAfter: now + day).serial
        }
        #expect(Set(serials).count == 100)
    }

    @Test func aServerIsCalledByItsNames() throws {
        let names = ["heddle-controller", "heddle-controller.heddle-system.svc"]
        let key = SigningKey.generate()
        let leaf = try authority.issueServer(names: names, key: key, notBefore: now, notAfter: now + day)
        #expect(try shelf.verify(leaf, above: authority.chain, roots: root.chain) == nil)
        #expect(try shelf.verify(leaf, above: authority.chain, roots: root.chain, purpose: "sslclient") != nil)
        #expect(try certificates(inPEM: leaf).first?.names == names)
        try shelf.write(String(decoding: key.pem, as: UTF8.self), to: "server.key")
        let own = try shelf.openssl("pkey -pubout -in server.key.")
        #expect(try shelf.openssl("x509 -noout -pubkey", input: leaf) == own)
        #expect(throws: SigningError.self) {
            _ = try authority.issueServer(names: ["ä"], key: key, notBefore: now, notAfter: now + day)
        }
        #expect(throws: SigningError.self) {
            _ = try authority.issueServer(names: [], key: key, notBefore: now, notAfter: now + day)
        }
    }

    @Test func nothingOutlivesWhatIsAboveIt() throws {
        let short = try root.intermediate(name: "short", notBefore: now + 1000, notAfter: now + 5000 * day)
        #expect(short.facts.notAfter == root.facts.notAfter)
        let request = try SigningRequest(pem: shelf.request())
        // Two minutes earlier, for clocks that are behind; not before the intermediate.
        let later = try authority.issue(request, to: identity, notBefore: now + 600, notAfter: now + 500 * day)
        #expect(try certificates(inPEM: later.pem).first?.notBefore == now + 480)
        #expect(try certificates(inPEM: later.pem).first?.notAfter == authority.facts.notAfter)
        let early = try short.issue(request, to: identity, notBefore: now, notAfter: now + day)
        #expect(try certificates(inPEM: early.pem).first?.notBefore == short.facts.notBefore)
        for times in [(now + 91 * day, now + 92 * day), (now, now), (now, now - day), (now, -1)] {
            #expect(throws: SigningError.self) {
                _ = try authority.issue(request, to: identity, notBefore: times.0, notAfter: times.1)
            }
        }
        for (begin, end) in [
            (now, Int.max), (now, Int.min), (Int.min, now), (Int.max, Int.max), (now, 253_402_300_800),
        ] {
            #expect(throws: SigningError.self) { _ = try Authority.root(name: "r", notBefore: begin, notAfter: end) }
        }
    }

    @Test func anIdentityThatWasNotAskedForIsNotIssued() throws {
        let request = try SigningRequest(pem: shelf.request("subjectAltName=URI:spiffe://cluster.local/ns/a/sa/b"))
        #expect(throws: SigningError.self) {
            _ = try authority.issue(request, to: identity, notBefore: now, notAfter: now + day)
        }
        let none = try SigningRequest(pem: shelf.request(""))
        let leaf = try authority.issue(none, to: identity, notBefore: now, notAfter: now + day)
        #expect(try certificates(inPEM: leaf.pem).first?.uris == [reader])
    }

    @Test(arguments: ["", String(repeating: "x", count: 65)]) func anAuthorityHasAName(_ name: String) {
        #expect(throws: SigningError.self) {
            _ = try Authority.root(name: name, notBefore: now, notAfter: now + day)
        }
    }

    /// What swift-certificates says.
    private func isGood(_ leaf: String, above: [String], roots: [String]) async throws -> Bool {
        let leaf = try Certificate(pemEncoded: leaf)
        var verifier = Verifier(
            rootCertificates: CertificateStore(try roots.map { try Certificate(pemEncoded: $0) })
        ) {
            RFC5280Policy(fixedExpiryValidationTime: Date(timeIntervalSince1970: Double(now + day / 2)))
            KnowsNames()
        }
        let above = CertificateStore(try above.map { try Certificate(pemEncoded: $0) })
        if case .validCertificate = await verifier.validate(leaf: leaf, intermediates: above) { return true }
        return false
    }
}

/// A leaf's names are critical: somebody has to say that it looks at them.
private struct KnowsNames: VerifierPolicy {
    let verifyingCriticalExtensions: [ASN1ObjectIdentifier] = [.X509ExtensionID.subjectAlternativeName]

    func chainMeetsPolicyRequirements(chain: UnverifiedCertificateChain) async -> PolicyEvaluationResult {
        .meetsPolicy
    }
}
