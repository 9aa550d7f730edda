/// What a certificate will say, before somebody signs it.
import CertificateAuthority
import FoundationEssentials
import SwiftASN1
import X509

struct Draft {
    var subject = DistinguishedName()
    let publicKey: Certificate.PublicKey
    /// Without a subject they are the name, and critical.
    var names: [GeneralName] = []
    var usages: [ExtendedKeyUsage.Usage] = []
    var constraints = BasicConstraints.notCertificateAuthority

    static func authority(_ name: String, _ key: SigningKey, maximumPathLength: Int?) throws(SigningError) -> Draft {
        guard (1...64).contains(name.unicodeScalars.count) else {
            throw SigningError("an authority's name has 1 to 64 characters; this has \(name.unicodeScalars.count)")
        }
        do {
            return Draft(
                subject: try DistinguishedName { CommonName(name) }, publicKey: key.key.publicKey,
                constraints: .isCertificateAuthority(maxPathLength: maximumPathLength))
        } catch {
            throw SigningError("\(shown(name)) cannot be an authority's name")
        }
    }

    /// `earliest` is when those above begin; `issuedBy` is the issuer's own certificate, nil if this is to be it.
    func signed(
        by key: SigningKey, named issuer: DistinguishedName, notBefore: Int, notAfter: Int, earliest: Int = 0,
        issuedBy: Certificate? = nil
    ) throws(SigningError) -> Certificate {
        // The years that a certificate can name.
        guard notBefore >= 0, notBefore < notAfter, notAfter < 253_402_300_800,
            case let begin = max(notBefore - Authority.clockSkew, earliest), begin < notAfter
        else {
            throw SigningError("a certificate cannot be good from \(notBefore) to \(notAfter) (seconds since 1970)")
        }
        do {
            return try Certificate(
                version: .v3, serialNumber: Self.serial(), publicKey: publicKey,
                notValidBefore: Date(timeIntervalSince1970: Double(begin)),
                notValidAfter: Date(timeIntervalSince1970: Double(notAfter)), issuer: issuer, subject: subject,
                extensions: extensions(issuedBy: issuedBy), issuerPrivateKey: key.key)
        } catch {
            let name = subject.isEmpty ? names.map { shown($0.description) }.joined(separator: ", ") : subject.plain
            throw SigningError(
                "the certificate for \(name) cannot be made: a name in it is not plain ASCII, or the certificate or "
                    + "key of \(issuer.plain) is damaged")
        }
    }

    private func extensions(issuedBy: Certificate?) throws -> Certificate.Extensions {
        let own = SubjectKeyIdentifier(hash: publicKey)
        // What is written in the issuer, where others look for it, however it was computed.
        let above = try issuedBy.map {
            try $0.extensions.subjectKeyIdentifier ?? SubjectKeyIdentifier(hash: $0.publicKey)
        }
        return try Certificate.Extensions {
            Critical(constraints)
            Critical(
                constraints.isAuthority ? KeyUsage(keyCertSign: true, cRLSign: true) : KeyUsage(digitalSignature: true))
            if !usages.isEmpty { try ExtendedKeyUsage(usages) }
            if !names.isEmpty { Critical(SubjectAlternativeNames(names)) }
            own
            AuthorityKeyIdentifier(keyIdentifier: (above ?? own).keyIdentifier)
        }
    }

    /// Random, so that nobody can foretell what will be signed; always of one length.
    private static func serial() -> Certificate.SerialNumber {
        var bytes = (0..<16).map { _ in UInt8.random(in: 0...255) }
        bytes[0] = bytes[0] & 0x3f | 0x40
        return Certificate.SerialNumber(bytes: bytes)
    }
}
