/// A private key, which shows itself to nobody: not in logs, not in dumps of what holds it.
import Crypto
import SwiftASN1
import X509

package struct SigningKey: Sendable {
    let key: Certificate.PrivateKey
    /// For the Secret that keeps it.
    package let pem: [UInt8]

    package static func generate() -> SigningKey {
        let key = P256.Signing.PrivateKey()
        return SigningKey(key: Certificate.PrivateKey(key), text: key.pemRepresentation)
    }

    private init(key: Certificate.PrivateKey, text: String) {
        (self.key, self.pem) = (key, Array((text + "\n").utf8))
    }

    /// PKCS#8, for a TLS library.
    package var der: [UInt8] { (try? key.serializeAsPEM().derBytes) ?? [] }

    /// P-256, P-384, or RSA of 2048 to 4096 bits, as PKCS#8, SEC 1 or PKCS#1. What is wrong is said without what was
    /// read.
    package init(pem: [UInt8]) throws(SigningError) {
        let text: PEMText
        do { text = try PEMText(String(decoding: pem, as: UTF8.self), maximumBytes: 32 * 1024) } catch {
            throw SigningError("the private key cannot be read: \(error.sentence)")
        }
        // `openssl ecparam -genkey` writes them before the key, which names its curve itself.
        let blocks = text.blocks.filter { $0.label != "EC PARAMETERS" }
        guard let block = blocks.first, blocks.count == 1, block.label.hasSuffix("PRIVATE KEY") else {
            throw SigningError("the private key is not one PEM block PRIVATE KEY, EC PRIVATE KEY or RSA PRIVATE KEY")
        }
        let document = PEMDocument(type: block.label, derBytes: block.der)
        guard let key = try? Certificate.PrivateKey(pemDocument: document), isKnown(key.publicKey),
            let text = try? key.serializeAsPEM().pemString
        else {
            throw SigningError(
                "the private key is encrypted, damaged, or none of P-256, P-384 and RSA of 2048 to 4096 bits")
        }
        self.init(key: key, text: text)
    }

    /// A CSR (PKCS#10) in PEM, as a workload or the proxy of a node sends it: no subject, URIs in the
    /// subjectAltName, which is left out if there are none.
    package func request(uris: [String]) throws(SigningError) -> String {
        do {
            var attributes: [CertificateSigningRequest.Attribute] = []
            if !uris.isEmpty {
                let names = SubjectAlternativeNames(uris.map { .uniformResourceIdentifier($0) })
                let extensions = try Certificate.Extensions { Critical(names) }
                attributes.append(try .init(ExtensionRequest(extensions: extensions)))
            }
            return try Signing.pem(
                CertificateSigningRequest(
                    version: .v1, subject: DistinguishedName(), privateKey: key, attributes: .init(attributes)))
        } catch {
            throw SigningError("the CSR for \(uris.joined(separator: ", ")) cannot be made: a URI is not plain ASCII")
        }
    }

    /// False for what is no certificate.
    package func isKey(of certificate: String) -> Bool {
        (try? readCertificate(certificate).publicKey) == key.publicKey
    }
}

extension SigningKey: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    package var description: String { "a private key" }
    package var debugDescription: String { description }
    package var customMirror: Mirror { Mirror(self, children: []) }
}

private func isKnown(_ key: Certificate.PublicKey) -> Bool {
    if P256.Signing.PublicKey(key) != nil || P384.Signing.PublicKey(key) != nil { return true }
    // RSAPublicKey ::= SEQUENCE { modulus INTEGER, publicExponent INTEGER }; other keys are no SEQUENCE.
    let modulus = try? DER.sequence(DER.parse(key.subjectPublicKeyInfoBytes), identifier: .sequence) { numbers in
        let modulus = try ArraySlice<UInt8>(derEncoded: &numbers)
        _ = try ArraySlice<UInt8>(derEncoded: &numbers)
        return modulus.drop { $0 == 0 }
    }
    guard let modulus, let first = modulus.first else { return false }
    return (2048...4096).contains(modulus.count * 8 - first.leadingZeroBitCount)
}
