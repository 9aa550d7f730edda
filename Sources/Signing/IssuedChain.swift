/// What an authority answered to whoever asked for a certificate, once it is found good.
package import CertificateAuthority
import FoundationEssentials
import SwiftASN1
import X509

package struct IssuedChain: Sendable {
    /// In DER, the leaf first; without the root, which the peer has or does not believe.
    package let certificates: [[UInt8]]
    package let facts: CertificateFacts
    /// In PEM, as it came.
    private let chain: [String]

    package init(
        _ chain: [String], for key: SigningKey, identity: WorkloadIdentity, roots: [String], at now: Int
    ) throws(SigningError) {
        var all: [Certificate] = []
        for text in chain { all += try readCertificates(text) }
        guard let leaf = all.first else { throw SigningError("the authority gave no certificate") }
        facts = try CertificateFacts(leaf)
        guard leaf.publicKey == key.key.publicKey else {
            throw SigningError("the certificate is not for the key that was sent")
        }
        guard facts.uris == [identity.description], facts.names.isEmpty else {
            throw SigningError(
                "the certificate is for \(shown(facts.uris.joined(separator: ", "))), not for \(identity)")
        }
        self.chain = chain
        var below: [[UInt8]] = []
        for certificate in all where certificate == leaf || !certificate.isIssued(by: certificate) {
            below.append(try der(certificate))
        }
        certificates = below
        if let fault = fault(roots: roots, at: now) {
            throw SigningError("the certificate leads to no root of those that are believed: \(fault)")
        }
    }

    /// Why a peer that believes these would refuse it; nil: it would not.
    package func fault(roots: [String], at now: Int) -> String? {
        verify(chain: chain, roots: roots.joined(separator: "\n"), at: now)
    }
}

/// The certificates of a text in PEM, at least one: to believe none is nothing that a text can ask for.
package func derCertificates(inPEM text: String) throws(SigningError) -> [[UInt8]] {
    let certificates = try readCertificates(text)
    guard !certificates.isEmpty else { throw SigningError("there is no certificate in it") }
    var result: [[UInt8]] = []
    for certificate in certificates { result.append(try der(certificate)) }
    return result
}

private func der(_ certificate: Certificate) throws(SigningError) -> [UInt8] {
    var serializer = DER.Serializer()
    do { try serializer.serialize(certificate) } catch { throw SigningError("a certificate cannot be written") }
    return serializer.serializedBytes
}
