/// Who gets a certificate for which identity: a pod for its own ServiceAccount, and the proxy of a node for those whose
/// pods run on that node (l7-behaviour §3.7). What is not known is refused.

/// What a TokenReview says of the token that came with a request.
package struct TokenFacts: Equatable, Sendable {
    package var isAuthenticated: Bool
    /// Those of the audiences asked about that the token is for.
    package var audiences: Set<String>
    package var userName: String
    /// `authentication.kubernetes.io/pod-name`, `…/pod-uid`, `…/node-name`; nil: the token is not bound to one.
    package var podName: String?
    package var podUID: String?
    package var nodeName: String?
    /// Why the token is not accepted, in the API server's words.
    package var problem: String?

    package init(
        isAuthenticated: Bool, audiences: Set<String> = [], userName: String = "", podName: String? = nil,
        podUID: String? = nil, nodeName: String? = nil
    ) {
        (self.isAuthenticated, self.audiences, self.userName) = (isAuthenticated, audiences, userName)
        (self.podName, self.podUID, self.nodeName) = (podName, podUID, nodeName)
    }
}

package struct Refusal: Error, Equatable, Sendable {
    /// Counted by it.
    package enum Reason: String, CaseIterable, Sendable {
        case notAuthenticated = "not-authenticated"
        case wrongAudience = "wrong-audience"
        case notAServiceAccount = "not-a-service-account"
        case notBoundToAPod = "not-bound-to-a-pod"
        case podUnknown = "pod-unknown"
        case podIsAnother = "pod-is-another"
        case badIdentity = "bad-identity"
        case mayNotImpersonate = "may-not-impersonate"
        case notOnNode = "not-on-node"
        case badRequest = "bad-request"
        case tooMany = "too-many"
        case notReady = "not-ready"
    }
    package let reason: Reason
    /// For people: what was asked by whom, and what is in the way.
    package let sentence: String

    package init(_ reason: Reason, _ sentence: String) { (self.reason, self.sentence) = (reason, sentence) }

    /// Whether the same request may succeed later, with nothing changed by who asks.
    package var mayPass: Bool { [.podUnknown, .notOnNode, .tooMany, .notReady].contains(reason) }
}

package struct Grant: Equatable, Sendable {
    /// The one identity of the certificate.
    package let identity: WorkloadIdentity
    /// The account that asked, its pod and node.
    package let requester: ServiceAccount
    package let podUID: String
    package let node: String
    package var isImpersonation: Bool { identity.account != requester }
}

package struct WhoMayAsk: Sendable {
    package var trustDomain: String
    package var audiences: Set<String>
    /// Proxies of nodes: they ask for the workloads beside them.
    package var nodeAccounts: Set<ServiceAccount>

    package init(trustDomain: String, audiences: Set<String>, nodeAccounts: Set<ServiceAccount>) {
        (self.trustDomain, self.audiences, self.nodeAccounts) = (trustDomain, audiences, nodeAccounts)
    }

    /// `asked`: every identity that the request names, in its metadata and in its CSR. None: the requester's own.
    package func decide(_ token: TokenFacts, asked: [String], pods: PodView) throws(Refusal) -> Grant {
        let (account, pod) = try requester(of: token, pods: pods)
        let own = WorkloadIdentity(trustDomain: trustDomain, account: account)
        let identity = try wanted(asked) ?? own
        let grant = Grant(identity: identity, requester: account, podUID: pod.uid, node: pod.node)
        guard grant.isImpersonation else { return grant }
        guard nodeAccounts.contains(account) else {
            throw Refusal(
                .mayNotImpersonate,
                "ServiceAccount \(account) asked for \(identity), which is another's: only proxies of "
                    + "nodes may, and it is none of them")
        }
        guard pods.runs(identity.account, on: pod.node) else {
            throw Refusal(
                .notOnNode,
                "ServiceAccount \(account) on node \(pod.node) asked for \(identity), but no pod of "
                    + "\(identity.account) runs on that node")
        }
        return grant
    }

    /// Whether it may ask at all: before anything else of its request is looked at.
    package func checkToken(_ token: TokenFacts) throws(Refusal) {
        guard token.isAuthenticated else {
            let detail = token.problem.map { "; it said: \(shown($0))" } ?? ""
            // Servers that know audiences say in words only that it was these.
            guard token.problem?.contains("audience") != true else { throw wrongAudience(detail) }
            throw Refusal(
                .notAuthenticated,
                "the API server does not accept the token: it is expired, revoked or forged\(detail)")
        }
        guard !token.audiences.isDisjoint(with: audiences) else {
            throw wrongAudience("")
        }
    }

    private func requester(
        of token: TokenFacts, pods: PodView
    ) throws(Refusal) -> (account: ServiceAccount, pod: PodFacts) {
        try checkToken(token)
        guard let account = ServiceAccount(userName: token.userName) else {
            throw Refusal(.notAServiceAccount, "\(shown(token.userName)) is no ServiceAccount")
        }
        guard let name = token.podName, let uid = token.podUID, !name.isEmpty, !uid.isEmpty else {
            throw Refusal(
                .notBoundToAPod, "the token of ServiceAccount \(account) is not bound to a pod: use a projected volume")
        }
        guard pods.isComplete else { throw Refusal(.notReady, "the pods of the cluster are not listed yet") }
        guard let pod = pods.pod(namespace: account.namespace, name: name), pod.uid == uid, !pod.node.isEmpty else {
            throw Refusal(
                .podUnknown,
                "pod \(account.namespace)/\(shown(name)) with uid \(shown(uid)) is not known to run on a node")
        }
        guard !pod.hasEnded, pod.serviceAccount == account.name, token.nodeName ?? pod.node == pod.node else {
            throw Refusal(
                .podIsAnother,
                "pod \(account.namespace)/\(shown(name)) has ended, or is not of the ServiceAccount "
                    + "\(account) or the node that the token names")
        }
        return (account, pod)
    }

    private func wrongAudience(_ detail: String) -> Refusal {
        Refusal(
            .wrongAudience,
            "the token is not for this authority: mount one whose audience is "
                + audiences.sorted().joined(separator: " or ") + detail)
    }

    private func wanted(_ asked: [String]) throws(Refusal) -> WorkloadIdentity? {
        guard let text = asked.first else { return nil }
        guard asked.allSatisfy({ $0 == text }) else {
            throw Refusal(
                .badIdentity, "\(asked.count) identities are named that are not the same: a certificate is for one")
        }
        guard let identity = WorkloadIdentity(text) else {
            throw Refusal(
                .badIdentity,
                "\(shown(text)) is no identity of the form spiffe://\(trustDomain)/ns/NAMESPACE/sa/ACCOUNT")
        }
        guard identity.trustDomain == trustDomain else {
            throw Refusal(.badIdentity, "\(shown(text)) is of another trust domain than \(trustDomain)")
        }
        return identity
    }
}

/// A peer's text as it may stand in a log: one line of plain characters, quoted, not long.
package func shown(_ text: String) -> String {
    var result = "\""
    for (index, scalar) in text.unicodeScalars.prefix(161).enumerated() {
        if index == 160 {
            result += "…"
        } else if (0x20..<0x7f).contains(scalar.value), scalar != "\"", scalar != "\\" {
            result.unicodeScalars.append(scalar)
        } else {
            result += "\\u{\(String(scalar.value, radix: 16))}"
        }
    }
    return result + "\""
}
