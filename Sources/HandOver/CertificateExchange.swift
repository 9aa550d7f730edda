/// How the proxy gets certificates: it makes the keys, and keeps them; the agent has what it asks for signed.

/// Asked by the proxy.
package struct CertificateQuestion: Equatable, Sendable {
    /// Comes back with the answer; never 0.
    package var id: UInt64
    package var identity: String
    /// In PEM, of the proxy's key.
    package var request: String

    package init(id: UInt64, identity: String, request: String) {
        (self.id, self.identity, self.request) = (id, identity, request)
    }
}

package struct CertificateAnswer: Equatable, Sendable {
    /// 0: nobody asked, the roots are others now.
    package var id: UInt64
    /// In PEM, the leaf first; empty: there is none.
    package var chain: [String]
    /// In PEM: what is believed from now on; empty: what is believed already.
    package var roots: [String]
    /// Why there is none.
    package var problem: String

    package init(id: UInt64, chain: [String] = [], roots: [String] = [], problem: String = "") {
        (self.id, self.chain, self.roots, self.problem) = (id, chain, roots, problem)
    }
}

extension CertificateQuestion: WireRecord {
    init(blank: ()) { self.init(id: 0, identity: "", request: "") }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &id)
        try coder.field(2, &identity)
        try coder.field(3, &request)
    }
}

extension CertificateAnswer: WireRecord {
    init(blank: ()) { self.init(id: 0) }
    mutating func code<Coder: FieldCoder & ~Escapable>(_ coder: inout Coder) throws(WireError) {
        try coder.field(1, &id)
        try coder.field(2, &chain)
        try coder.field(3, &roots)
        try coder.field(4, &problem)
    }
}
