/// Who signs: a certificate with its key and those above it. Every certificate is built here from what was decided; of
/// a request only the key goes into it.
package import CertificateAuthority
import FoundationEssentials
import SwiftASN1
import X509

/// Times are in seconds since 1970. What is made begins a little before the time given (clocks of peers are behind),
/// yet never before what is above it, and ends no later than that.
package struct Authority: Sendable {
    /// Its own certificate first, the root last.
    package let chain: [String]
    package let facts: CertificateFacts
    package let key: SigningKey
    private let certificate: Certificate
    /// When all of the chain are good.
    private let begin: Int
    private let end: Int

    package static let clockSkew = 120

    private init(path: [Certificate], key: SigningKey) throws(SigningError) {
        guard let certificate = path.first else { throw SigningError("there is no certificate") }
        var chain: [String] = []
        for certificate in path { chain.append(try CertificateFacts(certificate).pem) }
        (self.certificate, self.chain, self.key) = (certificate, chain, key)
        facts = try CertificateFacts(certificate)
        begin = path.map { seconds($0.notValidBefore) }.max() ?? facts.notBefore
        end = path.map { seconds($0.notValidAfter) }.min() ?? facts.notAfter
    }

    /// One that others made, such as Istio's `cacerts`: the certificate, its key, and those above it up to a root, in
    /// any order. With a time, all of them have to be good then.
    package init(
        certificate text: String, key: SigningKey, above: [String], at now: Int? = nil
    ) throws(SigningError) {
        let certificate = try readCertificate(text)
        guard certificate.publicKey == key.key.publicKey else {
            throw SigningError("the private key is not that of the certificate of \(certificate.subject.plain)")
        }
        var others: [Certificate] = []
        for text in above { others += try readCertificates(text) }
        let roots = (others + [certificate]).filter { $0.isIssued(by: $0) }
        let path = try CertificatePath(from: certificate, through: others, to: roots)
        try certificate.checkMaySign(authoritiesBelow: 0)
        try path.check(at: now)
        // An issuer without a name would make leaves that nobody can trace to it.
        guard !certificate.subject.isEmpty else {
            throw SigningError("the certificate of the authority has no subject")
        }
        try self.init(path: path.certificates, key: key)
    }

    package static func root(name: String, notBefore: Int, notAfter: Int) throws(SigningError) -> Authority {
        let key = SigningKey.generate()
        let draft = try Draft.authority(name, key, maximumPathLength: nil)
        let root = try draft.signed(
            by: key, named: draft.subject, notBefore: notBefore, notAfter: notAfter)
        return try Authority(path: [root], key: key)
    }

    /// Under this one, for leaves only.
    package func intermediate(name: String, notBefore: Int, notAfter: Int) throws(SigningError) -> Authority {
        try certificate.checkMaySign(authoritiesBelow: 1)
        let key = SigningKey.generate()
        let draft = try Draft.authority(name, key, maximumPathLength: 0)
        let made = try sign(draft, notBefore: notBefore, notAfter: notAfter)
        return try Authority(certificate: CertificateFacts(made).pem, key: key, above: chain)
    }

    /// A workload's, for both sides of mutual TLS.
    package func issue(
        _ request: SigningRequest, to identity: WorkloadIdentity, notBefore: Int, notAfter: Int
    ) throws(SigningError) -> (pem: String, serial: String) {
        let name = identity.description
        guard request.uris.allSatisfy({ $0 == name }) else {
            throw SigningError("the CSR asks for another identity than \(name)")
        }
        let draft = Draft(
            publicKey: request.publicKey, names: [.uniformResourceIdentifier(name)],
            usages: [.serverAuth, .clientAuth])
        let facts = try CertificateFacts(sign(draft, notBefore: notBefore, notAfter: notAfter))
        return (facts.pem, facts.serial)
    }

    /// That of a server of ours, for its DNS names.
    package func issueServer(
        names: [String], key: SigningKey, notBefore: Int, notAfter: Int
    ) throws(SigningError) -> String {
        guard !names.isEmpty else { throw SigningError("a server's certificate needs a name") }
        let draft = Draft(
            publicKey: key.key.publicKey, names: names.map { .dnsName($0) }, usages: [.serverAuth])
        return try CertificateFacts(sign(draft, notBefore: notBefore, notAfter: notAfter)).pem
    }

    private func sign(_ draft: Draft, notBefore: Int, notAfter: Int) throws(SigningError) -> Certificate {
        try draft.signed(
            by: key, named: certificate.subject, notBefore: notBefore, notAfter: min(notAfter, end), earliest: begin,
            issuedBy: certificate)
    }
}
