/// The way up from a certificate: who issued whom, and whether each may.
import FoundationEssentials
import SwiftASN1
import X509

/// Whether the name and the signature of the first are those of the second. False for what is no certificate.
package func isIssued(_ certificate: String, by authority: String) -> Bool {
    guard let certificate = try? readCertificate(certificate), let authority = try? readCertificate(authority) else {
        return false
    }
    return certificate.isIssued(by: authority)
}

/// Whether the first of the chain is good for a TLS peer at that time: nil, or why not. The others of the chain come in
/// any order; those of `roots`, a PEM text, are believed.
package func verify(chain: [String], roots: String, at now: Int) -> String? {
    do {
        var certificates: [Certificate] = []
        for text in chain { certificates += try readCertificates(text) }
        guard let leaf = certificates.first else { return "there is no certificate" }
        let path = try CertificatePath(
            from: leaf, through: Array(certificates.dropFirst()), to: readCertificates(roots))
        try path.check(at: now)
        return path.unknownExtension.map { "a certificate has the critical extension \($0), which is not known here" }
    } catch {
        return error.sentence
    }
}

/// Whether a chain leads up from a certificate to one of the roots, whatever the time is. All are DER.
package func leadsToRoot(_ certificate: [UInt8], through others: [[UInt8]], to roots: [[UInt8]]) -> Bool {
    do {
        let path = try CertificatePath(
            from: Certificate(derEncoded: certificate), through: others.map { try Certificate(derEncoded: $0) },
            to: roots.map { try Certificate(derEncoded: $0) })
        try path.check(at: nil)
        return path.unknownExtension == nil
    } catch {
        return false
    }
}

struct CertificatePath {
    /// The last is an anchor.
    let certificates: [Certificate]

    private static let longest = 8

    /// `anchors` come first, so that what others have signed beside them leads nowhere else; of those of one key,
    /// such as a renewed root, the one that is good the longest.
    init(from leaf: Certificate, through others: [Certificate], to anchors: [Certificate]) throws(SigningError) {
        let others = others.sorted { $0.notValidAfter > $1.notValidAfter }
        let anchors = anchors.sorted { $0.notValidAfter > $1.notValidAfter }
        var path = [leaf]
        while let last = path.last {
            if anchors.contains(last) { break }
            if let anchor = anchors.first(where: { last.isIssued(by: $0) }) {
                path.append(anchor)
                break
            }
            guard path.count < Self.longest,
                let next = others.first(where: { !path.contains($0) && last.isIssued(by: $0) })
            else {
                throw SigningError(
                    "the certificate of \(shownName(last)) was issued by \(last.issuer.plain), "
                        + "of which there is no certificate that leads to a root")
            }
            path.append(next)
        }
        certificates = path
    }

    /// Whether all that is above the leaf may be there, and all have their time.
    func check(at now: Int?) throws(SigningError) {
        for (index, certificate) in certificates.enumerated() {
            if index > 0 { try certificate.checkMaySign(authoritiesBelow: index - 1) }
            let (begin, end) = (certificate.notValidBefore, certificate.notValidAfter)
            guard begin < end, now.map({ seconds(begin) <= $0 && $0 <= seconds(end) }) ?? true else {
                throw SigningError(
                    "the certificate of \(shownName(certificate)) is good from \(begin.formatted(.iso8601)) "
                        + "to \(end.formatted(.iso8601)) only")
            }
        }
    }

    /// What must be understood and is not.
    var unknownExtension: String? {
        let known: [ASN1ObjectIdentifier] = [
            .X509ExtensionID.basicConstraints, .X509ExtensionID.keyUsage, .X509ExtensionID.extendedKeyUsage,
            .X509ExtensionID.subjectAlternativeName,
        ]
        return certificates.lazy.flatMap(\.extensions).first { $0.critical && !known.contains($0.oid) }?.oid.description
    }
}

extension Certificate {
    func isIssued(by authority: Certificate) -> Bool {
        issuer == authority.subject && authority.publicKey.isValidSignature(signature, for: self)
    }

    /// `authoritiesBelow`: how many stand between it and a leaf.
    func checkMaySign(authoritiesBelow: Int) throws(SigningError) {
        let (constraints, usage): (BasicConstraints?, KeyUsage?)
        do { (constraints, usage) = (try extensions.basicConstraints, try extensions.keyUsage) } catch {
            throw SigningError("the certificate of \(shownName(self)) has extensions that cannot be read")
        }
        guard case .isCertificateAuthority(let maximum)? = constraints else {
            throw SigningError("the certificate of \(shownName(self)) is no authority's: it does not say CA:TRUE")
        }
        guard maximum.map({ $0 >= authoritiesBelow }) ?? true else {
            throw SigningError("the certificate of \(shownName(self)) has a pathlen too small for those below it")
        }
        guard usage?.keyCertSign ?? true else {
            throw SigningError(
                "the certificate of \(shownName(self)) is not for signing: its keyUsage lacks keyCertSign")
        }
    }
}

/// A leaf has no subject.
private func shownName(_ certificate: Certificate) -> String {
    certificate.subject.isEmpty ? "a workload or server" : certificate.subject.plain
}
