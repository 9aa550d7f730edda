/// The certificate that the authority's door shows, made by the authority itself, so that whoever believes its root
/// believes the door: another one at half of its life, and as soon as another intermediate signs.
import Signing

struct DoorCertificate {
    /// In seconds; a replica that runs makes another long before.
    private static let life = 30 * 86_400

    let names: [String]
    private var intermediate = ""
    private var renewal = 0

    init(names: [String]) { self.names = names }

    /// nil: the one there is stays.
    mutating func next(
        by signer: Signer, now: Int
    ) throws(SigningError) -> (chain: [String], key: SigningKey)? {
        let authority = signer.authority
        guard authority.facts.fingerprint != intermediate || now >= renewal else { return nil }
        let key = SigningKey.generate()
        let leaf = try authority.issueServer(names: names, key: key, notBefore: now, notAfter: now + Self.life)
        let end = try certificates(inPEM: leaf).first?.notAfter ?? now
        (intermediate, renewal) = (authority.facts.fingerprint, now + (end - now) / 2)
        return ([leaf] + signer.chain, key)
    }
}
