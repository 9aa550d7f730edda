// Authorities that others made, above all Istio's `cacerts` as the Makefile of its tools/certs makes them by openssl.
import CertificateAuthority
import Signing
import TestSupport
import Testing

@Suite(.enabled(if: hasOpenSSL, "openssl")) struct CacertsTests {
    let shelf: Shelf

    init() throws { shelf = try Shelf() }

    /// Root and intermediate, with keys of that kind; `ca` is the section of the intermediate's extensions.
    private func make(
        key: String = "rsa:4096",
        ca: String = "keyUsage=critical,digitalSignature,nonRepudiation,keyEncipherment,keyCertSign",
        constraints: String = "basicConstraints=critical,CA:true,pathlen:0"
    ) throws {
        let root = """
            [req]
            prompt=no
            distinguished_name=name
            x509_extensions=root
            [root]
            subjectKeyIdentifier=hash
            basicConstraints=critical,CA:true
            keyUsage=critical,digitalSignature,nonRepudiation,keyEncipherment,keyCertSign
            [name]
            O=Istio
            CN=Root CA
            """
        try shelf.write(root, to: "root.cnf")
        try shelf.openssl(
            "req -x509 -sha256 -days 3650 -newkey \(key) -nodes -keyout root-key.pem. -config root.cnf. "
                + "-out root-cert.pem.")
        let intermediate = """
            [req]
            prompt=no
            distinguished_name=name
            [ca]
            subjectKeyIdentifier=hash
            \(constraints)
            \(ca)
            subjectAltName=DNS:istiod.istio-system.svc
            [name]
            O=Istio
            CN=Intermediate CA
            L=cluster1
            """
        try shelf.write(intermediate, to: "ca.cnf")
        try shelf.openssl("req -new -newkey \(key) -nodes -keyout ca-key.pem. -config ca.cnf. -out ca.csr.")
        try shelf.openssl(
            "x509 -req -sha256 -days 730 -CA root-cert.pem. -CAkey root-key.pem. -CAcreateserial "
                + "-extfile ca.cnf. -extensions ca -in ca.csr. -out ca-cert.pem.")
        try shelf.write(shelf.read("ca-cert.pem") + shelf.read("root-cert.pem"), to: "cert-chain.pem")
    }

    private func authority(at now: Int? = nil, above: [String]? = nil) throws -> Authority {
        try Authority(
            certificate: shelf.read("ca-cert.pem"), key: SigningKey(pem: Array(shelf.read("ca-key.pem").utf8)),
            above: above ?? [shelf.read("cert-chain.pem"), shelf.read("root-cert.pem")], at: now)
    }

    @Test(arguments: [
        "rsa:4096", "rsa:2048", "ec -pkeyopt ec_paramgen_curve:P-256", "ec -pkeyopt ec_paramgen_curve:P-384",
    ])
    func istiosCacertsSign(_ key: String) throws {
        try make(key: key)
        let authority = try authority()
        let begin = authority.facts.notBefore
        #expect(authority.chain.count == 2 && authority.facts.subject.contains("CN=Intermediate CA"))
        _ = try self.authority(at: begin)
        #expect(throws: SigningError.self) { _ = try self.authority(at: begin - 1) }
        #expect(throws: SigningError.self) { _ = try self.authority(at: authority.facts.notAfter + 1) }
        let identity = try #require(WorkloadIdentity(reader))
        let leaf = try authority.issue(
            SigningRequest(pem: shelf.request()), to: identity, notBefore: begin, notAfter: begin + day)
        try shelf.write(leaf.pem, to: "leaf.pem")
        for purpose in ["sslserver", "sslclient"] {
            try shelf.openssl(
                "verify -x509_strict -attime \(begin + 1) -purpose \(purpose) -CAfile root-cert.pem. "
                    + "-untrusted ca-cert.pem. leaf.pem.")
        }
        #expect(verify(chain: [leaf.pem] + authority.chain, roots: shelf.read("root-cert.pem"), at: begin) == nil)
        #expect(throws: SigningError.self, "pathlen:0") {
            _ = try authority.intermediate(name: "below", notBefore: begin, notAfter: begin + day)
        }
    }

    @Test func aRootMaySignItself() throws {
        try make(key: "ec -pkeyopt ec_paramgen_curve:P-256")
        let root = try Authority(
            certificate: shelf.read("root-cert.pem"), key: SigningKey(pem: Array(shelf.read("root-key.pem").utf8)),
            above: [])
        #expect(root.chain.count == 1)
        _ = try root.intermediate(name: "below", notBefore: root.facts.notBefore, notAfter: root.facts.notAfter)
    }

    @Test func whatDoesNotBelongTogetherIsRefused() throws {
        try make(key: "ec -pkeyopt ec_paramgen_curve:P-256")
        let (certificate, root) = (shelf.read("ca-cert.pem"), shelf.read("root-cert.pem"))
        #expect(throws: SigningError.self, "a key of another") {
            _ = try Authority(certificate: certificate, key: .generate(), above: [root])
        }
        #expect(throws: SigningError.self, "no root") { _ = try authority(above: []) }
        #expect(throws: SigningError.self, "itself only") { _ = try authority(above: [certificate]) }
        #expect(throws: SigningError.self, "no certificate") { _ = try authority(above: ["x" + root.dropFirst(9)]) }
        let other = try Authority.root(name: "Root CA", notBefore: now, notAfter: now + day)
        #expect(throws: SigningError.self, "another root") { _ = try authority(above: other.chain) }
        // What else is there does no harm, in whatever order.
        #expect(try authority(above: other.chain + [root, certificate, root]).chain.count == 2)
        // The name is the same, the key is not: the signature tells.
        try shelf.openssl(
            "req -x509 -sha256 -days 3650 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
                + "-keyout fake-key.pem. -config root.cnf. -out fake.pem.")
        #expect(throws: SigningError.self) { _ = try authority(above: [shelf.read("fake.pem")]) }
        #expect(try authority(above: [shelf.read("fake.pem"), root]).chain.last == certificates(inPEM: root)[0].pem)
    }

    @Test func ofARenewedRootTheNewerCounts() throws {
        try make(key: "ec -pkeyopt ec_paramgen_curve:P-256")
        try shelf.openssl("req -x509 -sha256 -days 1 -key root-key.pem. -config root.cnf. -out old.pem.")
        let old = shelf.read("old.pem")
        let afterIt = try #require(certificates(inPEM: old).first).notAfter + 1
        for above in [[old, shelf.read("root-cert.pem")], [shelf.read("root-cert.pem"), old]] {
            #expect(try authority(at: afterIt, above: above).chain.last != old)
        }
        #expect(throws: SigningError.self) { _ = try authority(at: afterIt, above: [old]) }
    }

    @Test(arguments: [
        ("keyUsage=critical,digitalSignature", "basicConstraints=critical,CA:true", "lacks keyCertSign"),
        ("keyUsage=critical,keyCertSign", "basicConstraints=critical,CA:false", "CA:TRUE"),
        ("extendedKeyUsage=serverAuth", "keyUsage=digitalSignature", "CA:TRUE"),
    ])
    func whatMayNotSignDoesNot(_ usage: String, _ constraints: String, _ expected: String) throws {
        try make(key: "ec -pkeyopt ec_paramgen_curve:P-256", ca: usage, constraints: constraints)
        do {
            _ = try authority()
            Issue.record("it was taken")
        } catch { #expect("\(error)".contains(expected), "\(error)") }
    }

    @Test(arguments: ["rsa:1024", "ed25519", "ec -pkeyopt ec_paramgen_curve:P-521", "rsa:5120"])
    func otherKeysAreRefused(_ key: String) throws {
        try shelf.openssl("req -x509 -nodes -newkey \(key) -keyout key.pem. -subj /CN=x -out x.pem.")
        let pem = shelf.read("key.pem")
        #expect(throws: SigningError.self) { _ = try SigningKey(pem: Array(pem.utf8)) }
    }
}
