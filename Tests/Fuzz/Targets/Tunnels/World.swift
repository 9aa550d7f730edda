/// Who is there: an authority with an intermediate and what is wrong with others of that name, a stranger's, our side
/// of tunnels, and a peer with a key.
import CertificateAuthority
import NIOSSL
import RouteIR
import SwiftASN1
import X509

@testable import Proxy
@testable import Signing

let world: World = {
    do { return try World() } catch { preconditionFailure("there is no world: \(error)") }
}()

struct World {
    let now = wallClock()
    let identity: WorkloadIdentity
    let mesh = ProxyMesh(trustDomain: "cluster.local", aliases: ["old.local"])
    /// DER, as all here.
    let root: [UInt8]
    let intermediate: [UInt8]
    let good: [UInt8]
    let signers: [Signer]
    let key = SigningKey.generate()
    let keyOfTLS: NIOSSLPrivateKey
    let ours: TunnelCredentials.Context

    struct Signer {
        let name: DistinguishedName
        let key: SigningKey
        /// nil: the root.
        let certificate: [UInt8]?
        let isOfOurs: Bool
        let isInTime: Bool
    }

    fileprivate init() throws {
        let now = now
        let (begin, end) = (now - 86_400, now + 86_400)
        let authority = try Authority.root(name: "root", notBefore: begin, notAfter: end)
        let stranger = try Authority.root(name: "root", notBefore: begin, notAfter: end)
        let (above, name) = try (DistinguishedName { CommonName("root") }, DistinguishedName { CommonName("between") })

        func signer(
            by authority: Authority, _ constraints: BasicConstraints, until: Int, isOfOurs: Bool
        ) throws -> Signer {
            let key = SigningKey.generate()
            let draft = Draft(subject: name, publicKey: key.key.publicKey, constraints: constraints)
            let made = try draft.signed(
                by: authority.key, named: above, notBefore: begin, notAfter: until,
                issuedBy: readCertificate(authority.facts.pem))
            return Signer(
                name: name, key: key, certificate: try der(CertificateFacts(made).pem), isOfOurs: isOfOurs,
                isInTime: now < until)
        }
        func root(_ authority: Authority, isOfOurs: Bool) -> Signer {
            Signer(name: above, key: authority.key, certificate: nil, isOfOurs: isOfOurs, isInTime: true)
        }
        let leaves = BasicConstraints.isCertificateAuthority(maxPathLength: 0)
        let between = try signer(by: authority, leaves, until: end, isOfOurs: true)
        signers = [
            between, root(authority, isOfOurs: true),
            try signer(by: authority, .notCertificateAuthority, until: end, isOfOurs: false),
            try signer(by: authority, leaves, until: now - 600, isOfOurs: true),
            try signer(by: stranger, leaves, until: end, isOfOurs: false), root(stranger, isOfOurs: false),
        ]
        self.root = try der(authority.chain[0])
        intermediate = between.certificate ?? []
        identity = try Self.identity("peer")
        let draft = Draft(
            publicKey: key.key.publicKey, names: [.uniformResourceIdentifier(identity.description)],
            usages: [.serverAuth, .clientAuth])
        let leaf = try draft.signed(
            by: between.key, named: name, notBefore: now - 60, notAfter: end,
            issuedBy: readCertificate(pem(intermediate)))
        good = try der(CertificateFacts(leaf).pem)
        keyOfTLS = try NIOSSLPrivateKey(bytes: key.der, format: .der)

        let (own, ownKey) = (try Self.identity("own"), SigningKey.generate())
        let request = try SigningRequest(pem: ownKey.request(uris: [own.description]))
        let issued = try authority.issue(request, to: own, notBefore: now - 60, notAfter: end)
        let credential = WorkloadCredential(
            identity: own, chain: [try der(issued.pem)], key: ownKey.der, notAfter: end)
        let credentials = WorkloadCredentials(byIdentity: [own: credential], roots: [self.root])
        guard let ours = try TunnelCredentials(credentials).context(for: own) else {
            throw SigningError("no certificate of ours")
        }
        self.ours = ours
    }

    static func identity(_ account: String) throws -> WorkloadIdentity {
        guard let identity = WorkloadIdentity("spiffe://cluster.local/ns/shop/sa/\(account)") else {
            throw SigningError("no identity of \(account)")
        }
        return identity
    }
}

private func der(_ pem: String) throws -> [UInt8] {
    guard let first = try derCertificates(inPEM: pem).first else { throw SigningError("no certificate") }
    return first
}
func pem(_ der: [UInt8]) -> String { PEMDocument(type: "CERTIFICATE", derBytes: der).pemString }

func factsOfTLS(_ der: [UInt8]) -> PeerCheck.Facts? {
    (try? NIOSSLCertificate(bytes: der, format: .der)).map { PeerCheck.Facts($0) }
}

/// As a client, whoever it is.
func accepted(_ facts: PeerCheck.Facts, at now: Int) -> WorkloadIdentity? {
    do throws(TunnelRefusal) {
        let identity = try PeerCheck.client(facts, world.mesh, at: now)
        precondition(facts.uris == [identity.description] && now <= facts.notAfter, "a name that was not there")
        precondition([world.mesh.trustDomain, "old.local"].contains(identity.trustDomain), "another trust domain")
        return identity
    } catch {
        judge(error)
        return nil
    }
}
