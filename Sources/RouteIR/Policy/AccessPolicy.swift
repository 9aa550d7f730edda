/// One AuthorizationPolicy as an enforcer needs it: what is done with whatever its rules match (l7 spec 1.6). To whom
/// it applies was decided before.
package import Addressing

package enum PolicyAction: UInt8, Hashable, Sendable, CaseIterable, Codable {
    // In the order in which they are asked.
    /// Somebody outside decides about what matches.
    case custom
    case deny
    /// What matches none of a workload's rules of this kind is denied, once it has one such policy.
    case allow
    /// Changes nothing.
    case audit
}

package struct AccessPolicy: Hashable, Sendable, Codable {
    /// `shop/web`: namespace and name.
    package var name: String
    package var action: PolicyAction
    /// It changes nothing, and what it would have done is told.
    package var isDryRun: Bool
    /// So much of it cannot be read that nobody knows what it is about: it denies everything.
    package var isUnreadable: Bool
    /// Any of them; none: nothing matches.
    package var rules: [PolicyRule]

    package init(
        name: String, action: PolicyAction = .allow, isDryRun: Bool = false, isUnreadable: Bool = false,
        rules: [PolicyRule] = []
    ) {
        self.name = name
        self.action = action
        self.isDryRun = isDryRun
        self.isUnreadable = isUnreadable
        self.rules = rules
    }

    /// Whether it may change what becomes of anybody.
    package var isEnforced: Bool { action != .audit && !isDryRun }
}

/// One source, one operation and all conditions must hold. Where there are none of a sort, everything does.
package struct PolicyRule: Hashable, Sendable, Codable {
    package let sources: [[PolicyTest]]
    package let operations: [[PolicyTest]]
    package let conditions: [PolicyTest]
    /// Something of it is about HTTP requests: a connection alone does not tell whether it holds.
    package let needsRequest: Bool
    /// Something of it cannot be read.
    package let isUnreadable: Bool

    package init(
        sources: [[PolicyTest]] = [], operations: [[PolicyTest]] = [], conditions: [PolicyTest] = []
    ) {
        (self.sources, self.operations, self.conditions) = (sources, operations, conditions)
        let tests = (sources + operations + [conditions]).joined()
        needsRequest = tests.contains(where: \.needsRequest)
        isUnreadable = tests.contains(where: \.hasUnreadable)
    }
}

/// One attribute of a connection or request, and what it must, or must not, be one of.
package struct PolicyTest: Hashable, Sendable, Codable {
    package enum Operand: Hashable, Sendable, Codable {
        case text(PolicyText, [TextMatch])
        case address(PolicyAddress, [IPPrefix])
        /// Of the destination: the pod's own.
        case port([UInt16])
        /// An attribute that nobody knows.
        case nothing
    }
    package var operand: Operand
    package var isNegated: Bool
    /// Some of its values, or all of it, cannot be read.
    package var hasUnreadable: Bool

    package init(_ operand: Operand, isNegated: Bool = false, hasUnreadable: Bool = false) {
        self.operand = operand
        self.isNegated = isNegated
        self.hasUnreadable = hasUnreadable || operand == .nothing
    }

    package var needsRequest: Bool {
        switch operand {
        case .text(let text, _): text.needsRequest
        case .address(let address, _): address == .remote
        case .port, .nothing: false
        }
    }
}

package enum PolicyText: Hashable, Sendable, Codable {
    /// `cluster.local/ns/shop/sa/web`
    case principal
    case namespace
    /// `shop/web`
    case serviceAccount
    case trustDomain
    /// What a client of TLS asked for.
    case serverName
    case host
    case method
    case path
    /// In lower case.
    case header(String)
    // Of a request's token.
    case requestPrincipal
    case audience
    case presenter
    case claim([String])

    package var needsRequest: Bool {
        switch self {
        case .principal, .namespace, .serviceAccount, .trustDomain, .serverName: false
        case .host, .method, .path, .header, .requestPrincipal, .audience, .presenter, .claim: true
        }
    }
    /// Known of a peer by its certificate.
    package var isOfPeer: Bool {
        switch self {
        case .principal, .namespace, .serviceAccount, .trustDomain: true
        default: false
        }
    }
}

package enum PolicyAddress: UInt8, Hashable, Sendable, Codable {
    /// Of the connection.
    case source
    /// Of the client that a request came from in the first place, as trusted proxies say.
    case remote
    case destination
}
