/// What the Secret of the webhook keeps. The key of an authority is nowhere: it signs one certificate and is forgotten.
import Admission
import Signing

/// A certificate of the door, and what serves by it.
struct WebhookIdentity: Sendable {
    /// An API server's clock may be behind.
    static let clockAllowance = 3600

    let certificate: WebhookCertificate
    let pem: String
    let key: SigningKey

    /// `key` in PEM.
    init(pem: String, key: [UInt8], authority: String) throws {
        certificate = try WebhookCertificate(pem: pem, authority: authority)
        self.key = try SigningKey(pem: key)
        self.pem = pem
        guard self.key.isKey(of: pem) else { throw Damage("its key is another's") }
    }

    /// With an authority of its own.
    static func make(for names: [String], now: Int, lifetime: Int) throws -> WebhookIdentity {
        let (start, end) = (now - clockAllowance, now + lifetime)
        // Clients look for authorities by name: no two of ours have the same.
        let number = String(UInt32.random(in: .min ... .max), radix: 16)
        let authority = try Authority.root(name: "heddle webhook \(number)", notBefore: start, notAfter: end)
        let key = SigningKey.generate()
        let pem = try authority.issueServer(names: names, key: key, notBefore: start, notAfter: end)
        return try WebhookIdentity(pem: pem, key: key.pem, authority: authority.facts.pem)
    }
}

extension WebhookCertificate {
    fileprivate init(pem: String, authority: String) throws {
        let (found, above) = (try certificates(inPEM: pem), try certificates(inPEM: authority))
        guard let leaf = found.first, found.count == 1 else { throw Damage("it is not one certificate") }
        guard let root = above.first, above.count == 1, root.isAuthority else {
            throw Damage("its authority is not one certificate of an authority")
        }
        guard isIssued(pem, by: authority) else { throw Damage("it is not its authority's") }
        self.init(
            fingerprint: leaf.fingerprint, authority: root.pem, names: Set(leaf.names),
            notBefore: leaf.notBefore + WebhookIdentity.clockAllowance, notAfter: min(leaf.notAfter, root.notAfter))
    }
}

private struct Damage: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

struct WebhookSecret: Sendable {
    typealias Changes = [String: [UInt8]?]
    fileprivate enum Slot: String, CaseIterable {
        case current
        case next
        case previous
        var certificate: String { self == .current ? "tls.crt" : "\(self).crt" }
        /// nil: nobody serves by it who does not have it already.
        var key: String? {
            switch self {
            case .current: "tls.key"
            case .next: "next.key"
            case .previous: nil
            }
        }
        var authority: String { self == .current ? "ca.crt" : "\(self)-ca.crt" }
        var names: [String] { [certificate, key, authority].compactMap(\.self) }
    }
    private static let since = "since"

    private(set) var current: WebhookIdentity?
    private(set) var next: WebhookIdentity?
    private var previous: WebhookCertificate?
    private var currentSince = 0
    private var damaged: [Slot: String] = [:]

    init() {}
    init(_ data: [String: [UInt8]]) {
        for slot in Slot.allCases where slot.names.contains(where: { data[$0] != nil }) {
            let text = { (name: String) in String(decoding: data[name] ?? [], as: UTF8.self) }
            let (pem, authority) = (text(slot.certificate), text(slot.authority))
            do {
                guard let key = slot.key else {
                    previous = try WebhookCertificate(pem: pem, authority: authority)
                    continue
                }
                let identity = try WebhookIdentity(pem: pem, key: data[key] ?? [], authority: authority)
                if slot == .current { current = identity } else { next = identity }
            } catch {
                damaged[slot] = "\(slot.names.joined(separator: ", ")): \(error)"
            }
        }
        currentSince = Int(String(decoding: data[Self.since] ?? [], as: UTF8.self)) ?? 0
    }

    /// As it is planned with: what is damaged is not there.
    var certificates: WebhookCertificates {
        var result = WebhookCertificates()
        (result.current, result.currentSince) = (current?.certificate, currentSince)
        (result.next, result.previous) = (next?.certificate, previous)
        return result
    }
    /// What cannot be read, in a line each.
    var damage: [String] { Slot.allCases.compactMap { damaged[$0] } }

    // MARK: Changes of it

    /// Takes away what is damaged and would not be replaced soon; empty: there is nothing.
    var cleaning: Changes {
        Slot.allCases.filter { $0 != .current && damaged[$0] != nil }.reduce(into: [:]) { $0.clear($1) }
    }
    static func makingCurrent(_ identity: WebhookIdentity, now: Int) -> Changes {
        var changes = Changes()
        for slot in [Slot.next, .previous] { changes.clear(slot) }
        changes.set(.current, identity)
        changes[since] = .some(Array("\(now)".utf8))
        return changes
    }
    static func makingNext(_ identity: WebhookIdentity) -> Changes {
        var changes = Changes()
        changes.set(.next, identity)
        return changes
    }
    func promoting(now: Int) -> Changes? {
        guard let next else { return nil }
        var changes = Self.makingCurrent(next, now: now)
        if let current {
            changes[Slot.previous.certificate] = .some(Array(current.pem.utf8))
            changes[Slot.previous.authority] = .some(Array(current.certificate.authority.utf8))
        }
        return changes
    }
    static var retiring: Changes {
        var changes = Changes()
        changes.clear(.previous)
        return changes
    }
}

extension WebhookSecret.Changes {
    fileprivate mutating func clear(_ slot: WebhookSecret.Slot) {
        for name in slot.names { updateValue(nil, forKey: name) }
    }
    fileprivate mutating func set(_ slot: WebhookSecret.Slot, _ identity: WebhookIdentity) {
        updateValue(Array(identity.pem.utf8), forKey: slot.certificate)
        updateValue(Array(identity.certificate.authority.utf8), forKey: slot.authority)
        if let key = slot.key { updateValue(identity.key.pem, forKey: key) }
    }
}
