/// Fuzzes what the certificate authority reads of strangers: CSRs, certificates and the request around a CSR. The
/// first byte says which; what is accepted must be harmless, what is refused must be said plainly.
import CertificateAuthority
import Crypto
import FuzzSupport
import Signing
import SwiftASN1
import X509

@main enum FuzzCertificates: Fuzzer {
    static func fuzz(_ bytes: [UInt8]) {
        let rest = bytes.dropFirst()
        let text = String(decoding: rest, as: UTF8.self)
        switch (bytes.first ?? 0) % 6 {
        case 0: request(text)
        case 1: request(pem("CERTIFICATE REQUEST", rest))
        // Signed as it should be: what a stranger can have us read beyond the proof.
        case 2: request(pem("CERTIFICATE REQUEST", signed(attributes: rest)[...]))
        case 3: certificate(text)
        case 4: certificate(pem("CERTIFICATE", rest))
        default: message(Array(rest))
        }
    }

    private static func request(_ pem: String) {
        do {
            let request = try SigningRequest(pem: pem)
            precondition(request.uris.count <= 1, "more than one name")
            let isOwn = request.uris.allSatisfy { $0 == identity.description }
            guard let leaf = try? authority.issue(request, to: identity, notBefore: 0, notAfter: 86400) else {
                precondition(!isOwn, "nothing in the way, and no certificate")
                return
            }
            precondition(isOwn, "a certificate for another than was asked")
            let facts = try? certificates(inPEM: leaf.pem).first
            precondition(facts?.uris == [identity.description] && facts?.names == [], "what was not decided")
            precondition(facts?.isAuthority == false && facts?.subject == "", "what was not decided")
        } catch {
            judge(error.sentence)
            precondition([.badRequest, .badIdentity].contains(error.reason), "another's reason")
        }
    }

    private static func certificate(_ pem: String) {
        do {
            for facts in try certificates(inPEM: pem) {
                let again = try? certificates(inPEM: facts.pem)
                precondition(again == [facts], "another certificate than was read")
                precondition(!isIssued(facts.pem, by: authority.facts.pem), "a signature that was not made")
                for other in [facts.pem, authority.facts.pem] { _ = isIssued(other, by: facts.pem) }
                _ = try? Authority(certificate: facts.pem, key: authority.key, above: [pem])
            }
            precondition(verify(chain: [pem], roots: authority.facts.pem, at: 1) != nil, "a forged chain")
            _ = verify(chain: [authority.facts.pem], roots: pem, at: 1)
            let issued = try? IssuedChain(
                [pem], for: authority.key, identity: identity, roots: [authority.facts.pem], at: 1)
            precondition(issued == nil, "a forged certificate for a key that is another's")
            _ = try derCertificates(inPEM: pem)
        } catch { judge(error.sentence) }
    }

    private static func message(_ bytes: [UInt8]) {
        if let chain = certificateChain(inResponse: bytes.span) {
            let written = certificateResponse(chain: chain)
            precondition(certificateChain(inResponse: written.span) == chain, "another answer than was read")
        }
        do {
            let message = try CertificateRequest(bytes.span)
            precondition(!message.csr.isEmpty && message.validity >= 0, "a request that asks for nothing")
            request(message.csr)
        } catch { judge(error.sentence) }
    }

    private static func judge(_ sentence: String) {
        precondition(sentence.utf8.count < 2048, "a sentence without a bound")
        precondition(!sentence.unicodeScalars.contains { $0.value < 0x20 }, "a sentence of more than a line")
    }
}

private let key = P256.Signing.PrivateKey()
private let identity: WorkloadIdentity = {
    guard let identity = WorkloadIdentity("spiffe://cluster.local/ns/shop/sa/reader") else {
        preconditionFailure("no identity")
    }
    return identity
}()
private let authority: Authority = {
    guard let root = try? Authority.root(name: "root", notBefore: 0, notAfter: 86400) else {
        preconditionFailure("no authority")
    }
    return root
}()

private func pem(_ label: String, _ der: ArraySlice<UInt8>) -> String {
    PEMDocument(type: label, derBytes: Array(der)).pemString
}

private func signed(attributes: ArraySlice<UInt8>) -> [UInt8] {
    do {
        var info = DER.Serializer()
        try info.appendConstructedNode(identifier: .sequence) { coder in
            try coder.serialize(0)
            try coder.serialize(DistinguishedName())
            try coder.serialize(Certificate.PublicKey(key.publicKey))
            coder.appendConstructedNode(identifier: ASN1Identifier(tagWithNumber: 0, tagClass: .contextSpecific)) {
                $0.serializeRawBytes(attributes)
            }
        }
        let signature = try key.signature(for: info.serializedBytes).derRepresentation
        var whole = DER.Serializer()
        try whole.appendConstructedNode(identifier: .sequence) { coder in
            coder.serializeRawBytes(info.serializedBytes)
            try coder.appendConstructedNode(identifier: .sequence) {
                try $0.serialize([1, 2, 840, 10045, 4, 3, 2] as ASN1ObjectIdentifier)
            }
            try coder.serialize(ASN1BitString(bytes: ArraySlice(signature)))
        }
        return whole.serializedBytes
    } catch {
        preconditionFailure("a CSR cannot be written: \(error)")
    }
}
