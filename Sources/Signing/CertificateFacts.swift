/// What a certificate says, for reports and decisions; and reading them out of PEM.
import Crypto
import FoundationEssentials
import SwiftASN1
import X509

/// Times are in seconds since 1970.
package struct CertificateFacts: Sendable, Equatable {
    package let pem: String
    package let subject: String
    /// In hexadecimal digits, as `openssl x509 -serial` has it but in small letters.
    package let serial: String
    package let notBefore: Int
    package let notAfter: Int
    package let isAuthority: Bool
    package let uris: [String]
    /// DNS names.
    package let names: [String]
    /// SHA-256 of the whole, in hexadecimal digits.
    package let fingerprint: String

    init(_ certificate: Certificate) throws(SigningError) {
        var serializer = DER.Serializer()
        let names: SubjectAlternativeNames?
        do {
            try serializer.serialize(certificate)
            pem = try Signing.pem(certificate)
            names = try certificate.extensions.subjectAlternativeNames
            isAuthority = try certificate.extensions.basicConstraints?.isAuthority ?? false
        } catch {
            throw SigningError("a certificate has a subjectAltName or basicConstraints that cannot be read")
        }
        subject = certificate.subject.plain
        serial = hexadecimal(certificate.serialNumber.bytes)
        (notBefore, notAfter) = (seconds(certificate.notValidBefore), seconds(certificate.notValidAfter))
        let all = names ?? SubjectAlternativeNames()
        uris = all.compactMap { if case .uniformResourceIdentifier(let uri) = $0 { uri } else { nil } }
        self.names = all.compactMap { if case .dnsName(let name) = $0 { name } else { nil } }
        fingerprint = hexadecimal(SHA256.hash(data: serializer.serializedBytes))
    }
}

/// All of a text, in its order; what is around the blocks is passed over, another kind of block is not.
package func certificates(inPEM text: String) throws(SigningError) -> [CertificateFacts] {
    var facts: [CertificateFacts] = []
    for certificate in try readCertificates(text) { facts.append(try CertificateFacts(certificate)) }
    return facts
}

func readCertificates(_ text: String) throws(SigningError) -> [Certificate] {
    let maximum = 64
    let blocks = try PEMText(text, maximumBytes: 256 * 1024).blocks
    guard blocks.count <= maximum else {
        throw SigningError("there are \(blocks.count) certificates, more than \(maximum)")
    }
    var result: [Certificate] = []
    for (index, block) in blocks.enumerated() {
        guard block.label == "CERTIFICATE" else { throw SigningError("PEM block \(index + 1) is no CERTIFICATE") }
        guard let certificate = try? Certificate(derEncoded: block.der) else {
            throw SigningError("certificate \(index + 1) is damaged, or of a kind that is not known here")
        }
        result.append(certificate)
    }
    return result
}

func readCertificate(_ text: String) throws(SigningError) -> Certificate {
    let all = try readCertificates(text)
    guard let one = all.first, all.count == 1 else {
        throw SigningError("there are \(all.count) certificates where one belongs")
    }
    return one
}

extension DistinguishedName {
    /// For people: one line of a bounded length.
    var plain: String {
        var text = ""
        for scalar in description.unicodeScalars.prefix(256) {
            text.unicodeScalars.append(scalar.properties.generalCategory == .control ? "?" : scalar)
        }
        return text
    }
}

extension BasicConstraints {
    var isAuthority: Bool { if case .isCertificateAuthority = self { true } else { false } }
}

func seconds(_ date: Date) -> Int { Int(date.timeIntervalSince1970) }

private func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
    bytes.reduce(into: "") { $0 += ($1 < 16 ? "0" : "") + String($1, radix: 16) }
}
