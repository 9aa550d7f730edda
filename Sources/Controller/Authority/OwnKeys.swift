/// What Secret heddle-ca holds: how far rotation is, and of each authority that it names the certificate and, as long
/// as something may be signed with it, the key. Names in the Secret: `rotation.json`, `7.crt`, `7.key`;
/// and `cacerts.json` for roots that others made.
import CertificateAuthority
import Daemon
import Signing

struct OwnKeys: Sendable {
    struct Pair: Sendable {
        /// In PEM.
        let certificate: String
        let key: SigningKey?
    }
    var state = Rotation.State()
    var pairs: [Int: Pair] = [:]
    var foreign = ForeignRoots()

    init() {}

    /// Nothing of ours in it: nothing was made yet. What is damaged is never taken for that.
    init(_ data: [String: [UInt8]]) throws(SigningError) {
        if let text = data["cacerts.json"] {
            guard let foreign = fromJSON(ForeignRoots.self, text), foreign.certificates.allSatisfy(isOneAuthority)
            else { throw SigningError("cacerts.json cannot be read") }
            self.foreign = foreign
        }
        guard let text = data["rotation.json"] else {
            if let name = data.keys.sorted().first(where: { isOurs($0) && $0 != "cacerts.json" }) {
                throw SigningError("it has \(name) and no rotation.json")
            }
            return
        }
        guard let state = fromJSON(Rotation.State.self, text) else {
            throw SigningError("rotation.json cannot be read")
        }
        self.state = state
        for (id, needsKey) in needed {
            pairs[id] = try Self.pair(id, needsKey, in: data)
        }
        // What does not belong together is found before it is published.
        _ = try signer(life: 0)
    }

    private static func pair(_ id: Int, _ needsKey: Bool, in data: [String: [UInt8]]) throws(SigningError) -> Pair {
        guard let text = data["\(id).crt"] else { throw SigningError("it has no \(id).crt") }
        let certificate = String(decoding: text, as: UTF8.self)
        guard isOneAuthority(certificate) else {
            throw SigningError("\(id).crt is not one certificate of an authority")
        }
        guard needsKey else { return Pair(certificate: certificate, key: nil) }
        guard let text = data["\(id).key"] else { throw SigningError("it has no \(id).key") }
        let key = try SigningKey(pem: text)
        guard key.isKey(of: certificate) else { throw SigningError("\(id).key is not the key of \(id).crt") }
        return Pair(certificate: certificate, key: key)
    }

    /// Each authority that is not forgotten, and whether anything is signed with it.
    private var needed: [Int: Bool] {
        var needed: [Int: Bool] = [:]
        for authority in [state.root, state.nextRoot, state.intermediate].compactMap(\.self) {
            needed[authority.id] = true
        }
        for retired in state.retired { needed[retired.authority.id] = false }
        return needed
    }

    /// As it should be in the Secret.
    var data: [String: [UInt8]] {
        var data: [String: [UInt8]] = [:]
        if state != Rotation.State() { data["rotation.json"] = toJSON(state) }
        if foreign != ForeignRoots() { data["cacerts.json"] = toJSON(foreign) }
        for (id, needsKey) in needed {
            guard let pair = pairs[id] else { continue }
            data["\(id).crt"] = Array(pair.certificate.utf8)
            if needsKey, let key = pair.key { data["\(id).key"] = key.pem }
        }
        return data
    }

    /// What must change in a Secret that holds this; nil: goes.
    func changes(from old: [String: [UInt8]]) -> [String: [UInt8]?] {
        let new = data
        var changes: [String: [UInt8]?] = [:]
        for (name, bytes) in new where old[name] != bytes { changes[name] = .some(bytes) }
        for name in old.keys where isOurs(name) && new[name] == nil { changes.updateValue(nil, forKey: name) }
        return changes
    }

    mutating func keep(_ authority: Authority, as id: Int) {
        pairs[id] = Pair(certificate: authority.facts.pem, key: authority.key)
    }

    func authority(_ id: Int, under root: Int? = nil) throws(SigningError) -> Authority {
        guard let pair = pairs[id], let key = pair.key else { throw SigningError("authority \(id) has no key") }
        return try Authority(
            certificate: pair.certificate, key: key, above: [root.flatMap { pairs[$0]?.certificate }].compactMap(\.self)
        )
    }

    /// nil: nothing was made yet.
    func signer(life: Int) throws(SigningError) -> Signer? {
        guard let root = state.root, let intermediate = state.intermediate else { return nil }
        return Signer(try authority(intermediate.id, under: root.id), life: life)
    }

    /// In PEM: what everybody should believe.
    var roots: [String] {
        foreign.certificates + Rotation(state: state).trusted.compactMap { pairs[$0]?.certificate }
    }
}

extension OwnKeys {
    /// Whether everybody has had the time to read of the root.
    func isKnown(_ root: String?, now: Int, _ timing: Rotation.Timing) -> Bool {
        // Nobody is there who knows of others only.
        if roots.isEmpty { return true }
        if let root, foreign.isKnown(root, now: now, settling: timing.settling) { return true }
        guard let made = state.root, pairs[made.id]?.certificate == root else { return false }
        // `Rotation` lets its first root sign at once: where there was a cacerts, that is too early.
        return foreign.certificates.isEmpty || now >= made.notBefore + timing.settling
    }
}

private func isOneAuthority(_ pem: String) -> Bool {
    (try? certificates(inPEM: pem).map(\.isAuthority)) == [true]
}

/// Others may keep something there, too.
private func isOurs(_ name: String) -> Bool {
    let parts = name.split(separator: ".")
    return name == "rotation.json" || name == "cacerts.json"
        || parts.count == 2 && Int(parts[0]) != nil && (parts[1] == "crt" || parts[1] == "key")
}
