/// The roots of Istio's Secret cacerts, which others change when they like. Everybody should know a root before
/// anything is signed under it, and believe it until the last leaf under it has ended. Kept in Secret heddle-ca. Times
/// are in seconds since 1970.

struct ForeignRoots: Codable, Equatable, Sendable {
    struct Root: Codable, Equatable, Sendable {
        /// In PEM.
        let certificate: String
        /// Everybody can read of it since then; nil: not yet.
        var since: Int?
        /// It is in cacerts no more, and nothing under it lives then; nil: it is in there.
        var until: Int?
    }
    /// Whoever changes cacerts all the time makes us keep no more than these.
    static let mostRetired = 16

    private(set) var roots: [Root] = []

    /// In PEM: what everybody should believe, those in force first.
    var certificates: [String] {
        (roots.filter { $0.until == nil } + roots.filter { $0.until != nil }).map(\.certificate)
    }

    var areInForce: Bool { roots.contains { $0.until == nil } }

    /// These are in cacerts now; none: there is no cacerts. If they are the first, nobody is there who knows of others
    /// only. `overlap`: how long a leaf under another root may still live.
    mutating func take(_ current: [String], areFirst: Bool, now: Int, overlap: Int) {
        for index in roots.indices {
            let isCurrent = current.contains(roots[index].certificate)
            roots[index].until = isCurrent ? nil : roots[index].until ?? now + overlap
        }
        for certificate in current where !roots.contains(where: { $0.certificate == certificate }) {
            roots.append(Root(certificate: certificate, since: areFirst ? 0 : nil))
        }
        roots.removeAll { $0.until.map { $0 <= now } ?? false }
        // They are in the order in which they came.
        while roots.count(where: { $0.until != nil }) > Self.mostRetired,
            let oldest = roots.firstIndex(where: { $0.until != nil })
        {
            roots.remove(at: oldest)
        }
    }

    /// All of them are in the place that everybody reads.
    mutating func published(now: Int) {
        for index in roots.indices where roots[index].since == nil { roots[index].since = now }
    }

    func isKnown(_ certificate: String, now: Int, settling: Int) -> Bool {
        roots.contains { $0.certificate == certificate && $0.since.map { now >= $0 + settling } ?? false }
    }
}
