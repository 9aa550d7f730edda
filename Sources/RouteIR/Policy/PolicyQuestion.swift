/// What is asked of a workload's policies, and what they answer.
package import Addressing

/// Who is at the other end.
package struct PolicyPeer: Hashable, Sendable {
    package var trustDomain: String
    package var namespace: String
    package var serviceAccount: String

    package init(trustDomain: String, namespace: String, serviceAccount: String) {
        self.trustDomain = trustDomain
        self.namespace = namespace
        self.serviceAccount = serviceAccount
    }
}

/// What a request's token says, once it has been checked.
package struct PolicyToken: Hashable, Sendable {
    /// `issuer/subject`
    package var principal: String
    package var audiences: [String] = []
    package var presenter: String?
    /// By path.
    package var claims: [[String]: [String]] = [:]

    package init(principal: String) { self.principal = principal }
}

package struct PolicyQuestion: Hashable, Sendable {
    /// By its certificate. nil: a connection in the clear.
    package var peer: PolicyPeer?
    /// Whose address a connection in the clear comes from, which proves nothing.
    package var supposedPeer: PolicyPeer?
    /// nil: nobody has told, or any may be.
    package var source: IPAddress?
    package var destination: IPAddress
    /// The pod's own.
    package var port: UInt16
    /// nil: nobody has looked.
    package var serverName: String?
    /// Requests on this connection will be asked about one by one: of the connection itself only what would be denied
    /// of each of them is.
    package var hasRequests = false
    /// With a request: where it came from in the first place; nil: from `source`.
    package var remote: IPAddress?
    package var token: PolicyToken?

    package init(peer: PolicyPeer? = nil, source: IPAddress?, destination: IPAddress, port: UInt16) {
        self.peer = peer
        self.source = source
        self.destination = destination
        self.port = port
    }
}

/// `shop/web rule 0`; the policy as a whole where it cannot be read.
package struct PolicyRuleName: Hashable, Sendable, CustomStringConvertible {
    package let policy: String
    package let rule: Int?

    package init(policy: String, rule: Int?) { (self.policy, self.rule) = (policy, rule) }
    package var description: String { rule.map { "\(policy) rule \($0)" } ?? policy }
}

package struct PolicyVerdict: Hashable, Sendable {
    package let isAllowed: Bool
    /// What decided. nil: allowed, because nothing says who may; or denied, because no rule of those that do matches.
    package let by: PolicyRuleName?

    package static func allowed(by rule: PolicyRuleName?) -> Self { Self(isAllowed: true, by: rule) }
    package static func denied(by rule: PolicyRuleName?) -> Self { Self(isAllowed: false, by: rule) }
}
