/// Who is at the other end. TLS has checked that the chain leads to a root of ours; here it is decided whether the name
/// at its end is one that may be there, and said why not.
import CertificateAuthority
import Glibc
import NIOSSL
import RouteIR

enum PeerCheck {
    /// What a certificate says.
    struct Facts: Equatable {
        /// All URIs that it names.
        let uris: [String]
        /// nil: it does not name one workload and nobody else (SPIFFE: exactly one URI).
        let identity: WorkloadIdentity?
        var notBefore: Int
        var notAfter: Int

        init(uris: [String], notBefore: Int, notAfter: Int) {
            (self.uris, self.notBefore, self.notAfter) = (uris, notBefore, notAfter)
            identity = uris.count == 1 ? uris.first.flatMap { WorkloadIdentity($0) } : nil
        }
    }

    /// A client's: somebody of this trust domain, whoever it is.
    static func client(_ facts: Facts, _ mesh: ProxyMesh, at now: Int) throws(TunnelRefusal) -> WorkloadIdentity {
        let identity = try identity(facts, at: now)
        guard mesh.accepts(identity.trustDomain) else {
            throw TunnelRefusal(
                .wrongIdentity,
                "\(identity) is of another trust domain than \(mesh.trustDomain); see --trust-domain-aliases")
        }
        return identity
    }

    /// A server's: the workload that was meant, and nobody else.
    static func server(
        _ facts: Facts, _ expected: WorkloadIdentity, _ mesh: ProxyMesh, at now: Int
    ) throws(TunnelRefusal) -> WorkloadIdentity {
        let identity = try identity(facts, at: now)
        guard identity.account == expected.account,
            identity.trustDomain == expected.trustDomain || mesh.accepts(identity.trustDomain)
        else { throw TunnelRefusal(.wrongIdentity, "\(identity) answers where \(expected) was expected") }
        return identity
    }

    private static func identity(_ facts: Facts, at now: Int) throws(TunnelRefusal) -> WorkloadIdentity {
        if let late = lateness(facts, at: now) { throw late }
        guard let identity = facts.identity else {
            throw TunnelRefusal(
                .wrongIdentity,
                "the peer's certificate names no workload: it has \(facts.uris.count) URIs, and one like "
                    + "spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT is wanted")
        }
        return identity
    }

    /// nil: it is good at this time.
    static func lateness(_ facts: Facts, at now: Int) -> TunnelRefusal? {
        if now > facts.notAfter {
            return TunnelRefusal(
                .expired,
                "the peer's certificate ended \(now - facts.notAfter) s ago: it was not renewed, or a clock "
                    + "is wrong")
        }
        guard now < facts.notBefore else { return nil }
        return TunnelRefusal(
            .expired,
            "the peer's certificate begins in \(facts.notBefore - now) s: the clock of this node or of its "
                + "authority is wrong")
    }
}

extension ProxyMesh {
    fileprivate func accepts(_ domain: String) -> Bool { domain == trustDomain || aliases.contains(domain) }
}

extension PeerCheck.Facts {
    private static let most = 16

    init(_ certificate: NIOSSLCertificate) {
        var uris: [String] = []
        // A peer writes them; more than one is wrong already.
        for name in certificate._subjectAlternativeNames() where name.nameType == .uri && uris.count < Self.most {
            uris.append(String(decoding: name.contents, as: UTF8.self))
        }
        self.init(
            uris: uris, notBefore: Int(certificate.notValidBefore), notAfter: Int(certificate.notValidAfter))
    }
}

/// Seconds since 1970.
func wallClock() -> Int { time(nil) }
