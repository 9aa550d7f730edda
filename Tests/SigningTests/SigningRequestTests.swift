// CSRs that openssl makes: good ones, and every trick that is known.
import CertificateAuthority
import Crypto
import Signing
import SwiftASN1
import TestSupport
import Testing
import X509

@Suite(.enabled(if: hasOpenSSL, "openssl")) struct SigningRequestTests {
    let shelf: Shelf

    init() throws { shelf = try Shelf() }

    /// What is wrong with it; empty: nothing.
    func fault(_ pem: String) -> (reason: Refusal.Reason?, sentence: String) {
        do {
            _ = try SigningRequest(pem: pem)
            return (nil, "")
        } catch {
            return (error.reason, error.sentence)
        }
    }

    @Test(arguments: ["critical,", ""]) func aWorkloadAsksForItsIdentity(_ criticality: String) throws {
        let pem = try shelf.request("subjectAltName=\(criticality)URI:\(reader)")
        #expect(try SigningRequest(pem: pem).uris == [reader])
        #expect(try SigningRequest(pem: pem.replacing("\n", with: "\r\n")).uris == [reader])
    }

    @Test func oneWithoutNamesAsksForItsOwn() throws {
        #expect(try SigningRequest(pem: shelf.request("")).uris.isEmpty)
    }

    @Test func oursAreReadByOpenSSL() throws {
        let key = SigningKey.generate()
        for uris in [[], [reader]] {
            let pem = try key.request(uris: uris)
            #expect(try SigningRequest(pem: pem).uris == uris)
            let text = try shelf.openssl("req -verify -noout -text", input: pem)
            #expect(text.contains("verify OK") && text.contains("Version: 1 (0x0)"))
            #expect(text.contains("URI:\(reader)") == !uris.isEmpty)
        }
        #expect(throws: SigningError.self) { _ = try key.request(uris: ["ä"]) }
    }

    @Test(arguments: [
        ("subjectAltName=URI:\(reader),URI:spiffe://cluster.local/ns/kube-system/sa/admin", "has 2 names"),
        ("subjectAltName=URI:\(reader),URI:\(reader)", "has 2 names"),
        ("subjectAltName=URI:\(reader),DNS:kubernetes.default.svc", "has 2 names"),
        ("subjectAltName=DNS:kubernetes.default.svc", "not one URI"),
        ("subjectAltName=IP:10.96.0.1", "not one URI"), ("subjectAltName=email:a@b.c", "not one URI"),
        ("subjectAltName=otherName:1.2.3.4;UTF8:\(reader)", "not one URI"),
        ("subjectAltName=DER:30:00", "has 0 names"),
    ])
    func anotherNameThanOneURIIsRefused(_ extensions: String, _ expected: String) throws {
        let (reason, sentence) = fault(try shelf.request(extensions))
        #expect(reason == .badIdentity && sentence.contains(expected), "\(sentence)")
    }

    @Test(arguments: [
        ("basicConstraints=critical,CA:TRUE", "CA:TRUE"), ("basicConstraints=CA:FALSE", "2.5.29.19"),
        ("keyUsage=keyCertSign", "2.5.29.15"), ("extendedKeyUsage=codeSigning", "2.5.29.37"),
        ("1.2.3.4=critical,DER:05:00", "1.2.3.4"), ("subjectAltName=DER:04:01:00", "cannot be read"),
    ])
    func moreThanANameIsRefused(_ extensions: String, _ expected: String) throws {
        let names = extensions.hasPrefix("subjectAltName") ? "" : "subjectAltName=critical,URI:\(reader)\n"
        let (reason, sentence) = fault(try shelf.request(names + extensions))
        #expect(reason == .badRequest && sentence.contains(expected), "\(sentence)")
    }

    @Test(arguments: ["/CN=admin", "/O=system:masters"]) func aSubjectIsRefused(_ subject: String) throws {
        let (reason, sentence) = fault(try shelf.request(subject: subject))
        #expect(reason == .badRequest && sentence.contains("has the subject \""), "\(sentence)")
    }

    @Test(arguments: [
        "ec -pkeyopt ec_paramgen_curve:P-384", "ec -pkeyopt ec_paramgen_curve:P-521", "rsa:2048", "ed25519",
        "ec -pkeyopt ec_paramgen_curve:secp256k1",
    ])
    func anotherKeyThanP256IsRefused(_ key: String) throws {
        let (reason, sentence) = fault(try shelf.request(key: key))
        #expect(reason == .badRequest && sentence.contains("key"), "\(sentence)")
    }

    @Test func aKeyThatIsNotOnesOwnIsRefused() throws {
        // The signature of one request under the contents of another: the key of another asked for by who lacks it.
        let (mine, theirs) = (try der(shelf.request()), try der(shelf.request()))
        let parts = try [mine, theirs].map { der in
            try DER.sequence(DER.parse(der), identifier: .sequence) { nodes in
                var parts: [[UInt8]] = []
                while let node = nodes.next() { parts.append(Array(node.encodedBytes)) }
                return parts
            }
        }
        let (reason, sentence) = fault(pem(joined([parts[1][0], parts[0][1], parts[0][2]])))
        #expect(reason == .badRequest && sentence.contains("not signed with the key"), "\(sentence)")
        #expect(fault(pem(joined(parts[1]))).reason == nil)
    }

    private func joined(_ parts: [[UInt8]]) -> [UInt8] {
        var serializer = DER.Serializer()
        serializer.appendConstructedNode(identifier: .sequence) { coder in
            for part in parts { coder.serializeRawBytes(part) }
        }
        return serializer.serializedBytes
    }

    /// Attributes that the library does not write: two of one name, one with two values, another one.
    @Test(arguments: ["twice", "two values", "another"]) func otherAttributesAreRefused(_ kind: String) throws {
        let key = P256.Signing.PrivateKey()
        let asked = try CertificateSigningRequest.Attribute(
            ExtensionRequest(
                extensions: Certificate.Extensions {
                    SubjectAlternativeNames([.uniformResourceIdentifier(reader)])
                }))
        let attributes: [CertificateSigningRequest.Attribute] =
            switch kind {
            case "twice": [asked, asked]
            case "two values": [.init(oid: asked.oid, values: asked.values + asked.values)]
            default: [.init(oid: [1, 2, 840, 113549, 1, 9, 7], values: asked.values), asked]
            }
        let (reason, sentence) = fault(pem(try signed(attributes, key)))
        #expect(reason == .badRequest && sentence.contains("other attributes"), "\(sentence)")
        #expect(fault(pem(try signed([asked], key))).reason == nil)
    }

    private func signed(
        _ attributes: [CertificateSigningRequest.Attribute], _ key: P256.Signing.PrivateKey
    ) throws -> [UInt8] {
        var info = DER.Serializer()
        try info.appendConstructedNode(identifier: .sequence) { coder in
            try coder.serialize(0)
            try coder.serialize(DistinguishedName())
            try coder.serialize(Certificate.PublicKey(key.publicKey))
            try coder.appendConstructedNode(
                identifier: ASN1Identifier(tagWithNumber: 0, tagClass: .contextSpecific)
            ) { coder in
                for attribute in attributes { try coder.serialize(attribute) }
            }
        }
        var algorithm = DER.Serializer()
        try algorithm.appendConstructedNode(identifier: .sequence) { coder in
            try coder.serialize([1, 2, 840, 10045, 4, 3, 2] as ASN1ObjectIdentifier)
        }
        var signature = DER.Serializer()
        let bytes = Array(try key.signature(for: info.serializedBytes).derRepresentation)
        try signature.serialize(ASN1BitString(bytes: bytes[...]))
        return joined([info.serializedBytes, algorithm.serializedBytes, signature.serializedBytes])
    }

    @Test func whatIsNotOneRequestIsRefused() throws {
        let good = try shelf.request()
        let bytes = try der(good)
        for bad in [
            "", "nonsense", good + good, good + "trailing", "leading\n" + good, String(good.dropLast(40)),
            good.replacing("CERTIFICATE REQUEST", with: "CERTIFICATE"), good.replacing("REQUEST", with: "REQUESTS"),
            pem(bytes + [0]), pem(bytes.dropLast()), pem([0x30, 0x80, 0, 0]),
            pem([0x30, 0x84, 0xff, 0xff, 0xff, 0xff]),
            pem(Array(repeating: 0x30, count: 4000)), pem(Array(repeating: 0xff, count: 4000)),
            good.replacing("A", with: "!"),
            String(repeating: "-----BEGIN CERTIFICATE REQUEST-----\n", count: 400),
            good + String(repeating: "\n", count: SigningRequest.maximumBytes),
        ] {
            let (reason, sentence) = fault(bad)
            #expect(reason == .badRequest && sentence.utf8.count < 1000, "\(bad.prefix(200))")
            #expect(sentence.utf8.allSatisfy { (0x20..<0x7f).contains($0) }, "\(sentence)")
        }
    }

    /// The peer's text goes into a log.
    @Test func whatWasAskedIsShownPlainly() throws {
        let (_, sentence) = fault(try shelf.request(subject: "/CN=a\u{1b}[2J"))
        #expect(sentence.utf8.allSatisfy { (0x20..<0x7f).contains($0) }, "\(sentence)")
        let long = fault(
            try shelf.request("subjectAltName=URI:\(String(repeating: "x", count: 3000)),URI:y")
        ).sentence
        #expect(long.utf8.count < 1000)
    }

    private func der(_ pem: String) throws -> [UInt8] { try PEMDocument(pemString: pem).derBytes }

    private func pem(_ der: [UInt8]) -> String {
        PEMDocument(type: "CERTIFICATE REQUEST", derBytes: der).pemString + "\n"
    }
}
