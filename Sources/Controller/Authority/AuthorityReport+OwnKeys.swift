/// Certificates as `agentctl ca` shows them.
import AdminAPI
import CertificateAuthority
import Signing

extension AuthorityReport.Keys {
    mutating func describe(_ own: OwnKeys) throws(SigningError) {
        func certificate(_ authority: Rotation.Authority?) throws(SigningError) -> AuthorityReport.Certificate? {
            guard let pair = authority.flatMap({ own.pairs[$0.id] }) else { return nil }
            return try AuthorityReport.Certificate(pem: pair.certificate)
        }
        root = try certificate(own.state.root)
        nextRoot = try certificate(own.state.nextRoot)
        intermediate = try certificate(own.state.intermediate)
        for authority in own.state.retired.map(\.authority) {
            if let certificate = try certificate(authority) { retired.append(certificate) }
        }
    }
}

extension AuthorityReport.Certificate {
    init?(pem: String) throws(SigningError) {
        guard let facts = try certificates(inPEM: pem).first else { return nil }
        self.init(facts)
    }

    init(_ facts: CertificateFacts) {
        self.init(
            subject: facts.subject, serial: facts.serial, fingerprint: facts.fingerprint, notBefore: facts.notBefore,
            notAfter: facts.notAfter)
    }
}
