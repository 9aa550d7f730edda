// Reading certificates out of PEM, and the way up from them.
import CertificateAuthority
import Signing
import Testing

@Suite struct PathTests {
    let root: Authority
    let authority: Authority
    let leaf: String

    init() throws {
        root = try Authority.root(name: "root", notBefore: now, notAfter: now + 10 * day)
        authority = try root.intermediate(name: "intermediate", notBefore: now, notAfter: now + 5 * day)
        let identity = try #require(WorkloadIdentity(reader))
        leaf = try authority.issue(
            SigningRequest(pem: SigningKey.generate().request(uris: [reader])), to: identity, notBefore: now,
            notAfter: now + day
        ).pem
    }

    @Test func textAroundThemIsPassedOver() throws {
        let text = "# the root\nIssuer: x\n" + root.chain[0] + "\n\n" + authority.chain[0].replacing("\n", with: "\r\n")
        #expect(try certificates(inPEM: text).map(\.subject) == ["CN=root", "CN=intermediate"])
        // All in one line, as some vaults hand them out.
        let lines = root.chain[0].split(separator: "\n")
        let one = [lines[0], lines.dropFirst().dropLast().joined()[...], lines[lines.count - 1]].joined(separator: "\n")
        #expect(try certificates(inPEM: one) == certificates(inPEM: root.chain[0]))
        #expect(try certificates(inPEM: "").isEmpty)
    }

    @Test func whatIsNoneIsRefused() throws {
        let pem = root.chain[0]
        let key = String(decoding: SigningKey.generate().pem, as: UTF8.self)
        for bad in [
            key, pem + key, String(pem.dropLast(10)), pem.replacing("M", with: "!"),
            String(repeating: pem, count: 65), String(repeating: "x", count: 300_000),
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----", "-----END CERTIFICATE-----",
        ] {
            do {
                _ = try certificates(inPEM: bad)
                Issue.record("taken: \(bad.prefix(100))")
            } catch { #expect(!error.sentence.contains("MIG")) }
        }
        #expect(try certificates(inPEM: String(repeating: pem, count: 64)).count == 64)
    }

    @Test func aCertificateLeadsToARoot() throws {
        let other = try Authority.root(name: "root", notBefore: now, notAfter: now + day)
        let der = { (text: String) in try derCertificates(inPEM: text) }
        let (leaf, roots) = (try der(leaf)[0], try der(root.chain[0]))
        let between = try der(authority.chain[0])
        #expect(leadsToRoot(leaf, through: between, to: roots))
        #expect(leadsToRoot(leaf, through: between, to: try der(other.chain[0]) + roots))
        // Another root of the same name; nobody in between; a leaf above a leaf; no certificate at all.
        #expect(!leadsToRoot(leaf, through: between, to: try der(other.chain[0])))
        #expect(!leadsToRoot(leaf, through: [], to: roots))
        #expect(!leadsToRoot(leaf, through: roots, to: []))
        #expect(!leadsToRoot([1, 2, 3], through: between, to: roots))
    }

    @Test func aChainIsJudged() throws {
        let chain = [leaf] + authority.chain
        let roots = root.chain[0]
        #expect(verify(chain: chain, roots: roots, at: now) == nil)
        #expect(verify(chain: [leaf, authority.chain[0]], roots: roots, at: now) == nil)
        #expect(verify(chain: [leaf, roots, roots, authority.chain[0]], roots: roots, at: now) == nil)
        #expect(verify(chain: [chain.joined()], roots: roots, at: now) == nil)
        #expect(verify(chain: [], roots: roots, at: now)?.contains("no certificate") == true)
        #expect(verify(chain: [leaf], roots: roots, at: now)?.contains("leads to a root") == true)
        #expect(verify(chain: chain, roots: "", at: now)?.contains("leads to a root") == true)
        #expect(verify(chain: chain, roots: roots, at: now - 121)?.contains("2026-09-23T23:58:00Z") == true)
        #expect(verify(chain: chain, roots: roots, at: now + day) == nil)
        #expect(verify(chain: chain, roots: roots, at: now + day + 1)?.contains("is good from") == true)
        let other = try Authority.root(name: "root", notBefore: now, notAfter: now + 10 * day)
        #expect(verify(chain: chain, roots: other.chain[0], at: now)?.contains("leads to a root") == true)
        // Old and new roots of one name, as in a rotation.
        #expect(verify(chain: chain, roots: other.chain[0] + roots, at: now) == nil)
    }

    @Test func aLeafSignsNothing() throws {
        let key = SigningKey.generate()
        let server = try authority.issueServer(names: ["a"], key: key, notBefore: now, notAfter: now + day)
        #expect(throws: SigningError.self) { _ = try Authority(certificate: server, key: key, above: authority.chain) }
    }
}
