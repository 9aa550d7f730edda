/// A CSR that may be answered: it proves that its sender has the key, asks for no more than an identity, and can be
/// read in one way only. Only its key and its URIs are ever looked at again.
package import CertificateAuthority
import Crypto
import SwiftASN1
import X509

package struct SigningRequest: Sendable {
    /// The one URI of its subjectAltName; none if there is no such extension.
    package let uris: [String]
    let publicKey: Certificate.PublicKey

    package static let maximumBytes = 16 * 1024

    package init(pem: String) throws(Refusal) {
        let der = try Self.read(pem)
        guard let request = try? CertificateSigningRequest(derEncoded: der), let attributes = try? attributes(of: der)
        else { throw Refusal(.badRequest, "the CSR is damaged, or its key is of a kind that is not known here") }
        guard P256.Signing.PublicKey(request.publicKey) != nil else {
            throw Refusal(.badRequest, "the key of the CSR is not of the curve P-256: make one that is")
        }
        guard request.version == .v1, request.publicKey.isValidSignature(request.signature, for: request) else {
            throw Refusal(.badRequest, "the CSR is not signed with the key that it is for")
        }
        guard request.subject.isEmpty else {
            throw Refusal(
                .badRequest,
                "the CSR has the subject \(shown(request.subject.description)): leave it empty, "
                    + "a workload's name is in the subjectAltName")
        }
        publicKey = request.publicKey
        uris = try uri(in: requestedExtensions(attributes)).map { [$0] } ?? []
    }

    private static func read(_ pem: String) throws(Refusal) -> [UInt8] {
        let text: PEMText
        do { text = try PEMText(pem, maximumBytes: maximumBytes) } catch {
            throw Refusal(.badRequest, "the CSR cannot be read: \(error.sentence)")
        }
        guard let block = text.blocks.first, text.blocks.count == 1, !text.hasTextAround,
            block.label == CertificateSigningRequest.defaultPEMDiscriminator
        else {
            throw Refusal(
                .badRequest, "the CSR is not one PEM block CERTIFICATE REQUEST with nothing before or after it")
        }
        return block.der
    }
}

/// All of them: of several with one name `CertificateSigningRequest` shows the last, others take the first.
private func attributes(of der: [UInt8]) throws -> [CertificateSigningRequest.Attribute] {
    try DER.sequence(DER.parse(der), identifier: .sequence) { parts in
        guard let info = parts.next() else { throw SigningError("no CertificationRequestInfo") }
        while parts.next() != nil {}
        return try DER.sequence(info, identifier: .sequence) { fields in
            // The version, the subject and the key.
            for _ in 0..<3 { _ = fields.next() }
            return try DER.set(
                of: CertificateSigningRequest.Attribute.self,
                identifier: ASN1Identifier(tagWithNumber: 0, tagClass: .contextSpecific), nodes: &fields)
        }
    }
}

private func requestedExtensions(
    _ attributes: [CertificateSigningRequest.Attribute]
) throws(Refusal) -> Certificate.Extensions {
    guard let attribute = attributes.first else { return Certificate.Extensions() }
    guard attributes.count == 1, let request = try? ExtensionRequest(attribute) else {
        throw Refusal(
            .badRequest, "the CSR has other attributes than one extensionRequest that names no extension twice")
    }
    return request.extensions
}

private func uri(in extensions: Certificate.Extensions) throws(Refusal) -> String? {
    for other in extensions where other.oid != .X509ExtensionID.subjectAlternativeName {
        let isAuthority = (try? BasicConstraints(other))?.isAuthority ?? false
        throw Refusal(
            .badRequest,
            isAuthority
                ? "the CSR asks for the certificate of an authority (CA:TRUE)"
                : "the CSR asks for the extension \(shown(other.oid.description)): leave out all but subjectAltName")
    }
    guard let extensions = extensions.first else { return nil }
    guard let names = try? SubjectAlternativeNames(extensions) else {
        throw Refusal(.badRequest, "the subjectAltName of the CSR cannot be read")
    }
    guard names.count == 1, case .uniformResourceIdentifier(let uri)? = names.first else {
        let asked = names.prefix(8).map { shown(String(describing: $0)) }.joined(separator: ", ")
        throw Refusal(
            .badIdentity, "the subjectAltName of the CSR has \(names.count) names, not one URI: \(asked)")
    }
    return uri
}
