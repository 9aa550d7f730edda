/// Who may call one workload: its policies in the order in which they are asked. Whoever enforces them, in the kernel
/// or in the proxy, must come to what `verdict` says.

package struct PolicyProgram: Hashable, Sendable {
    /// This cluster's own and its aliases: identities of one count for each of them.
    package let trustDomains: [String]
    /// CUSTOM, DENY, ALLOW, AUDIT; by name in each.
    package let policies: [AccessPolicy]

    package init(trustDomains: [String], policies: [AccessPolicy]) {
        self.trustDomains = trustDomains
        self.policies = policies.sorted { ($0.action.rawValue, $0.name) < ($1.action.rawValue, $1.name) }
    }

    package init(_ policies: [AccessPolicy], in mesh: ProxyMesh) {
        self.init(trustDomains: [mesh.trustDomain] + mesh.aliases, policies: policies)
    }

    package var isEmpty: Bool { policies.isEmpty }

    /// Of a connection alone: whatever rules say of requests is unknown.
    package func verdict(of question: PolicyQuestion) -> PolicyVerdict {
        decide(Evaluation<NoRequest>(question, nil, trustDomains))
    }
    /// Of a request.
    package func verdict(of question: PolicyQuestion, request: some RequestView) -> PolicyVerdict {
        decide(Evaluation(question, request, trustDomains))
    }

    /// What would be decided if no policy were a dry run. `nil`: there is none.
    package func dryRunVerdict(of question: PolicyQuestion) -> PolicyVerdict? {
        hasDryRuns ? decide(Evaluation<NoRequest>(question, nil, trustDomains), withDryRuns: true) : nil
    }
    package func dryRunVerdict(of question: PolicyQuestion, request: some RequestView) -> PolicyVerdict? {
        hasDryRuns ? decide(Evaluation(question, request, trustDomains), withDryRuns: true) : nil
    }
    private var hasDryRuns: Bool { policies.contains { $0.isDryRun && $0.action != .audit } }

    /// The rules of AUDIT policies that match.
    package func audits(of question: PolicyQuestion) -> [PolicyRuleName] {
        audits(Evaluation<NoRequest>(question, nil, trustDomains))
    }
    package func audits(of question: PolicyQuestion, request: some RequestView) -> [PolicyRuleName] {
        audits(Evaluation(question, request, trustDomains))
    }

    private func audits(_ evaluation: Evaluation<some RequestView>) -> [PolicyRuleName] {
        policies.filter { $0.action == .audit }.compactMap { policy in
            policy.rules.firstIndex { evaluation.truth(of: $0) == .yes }
                .map { PolicyRuleName(policy: policy.name, rule: $0) }
        }
    }

    /// ALLOW has to be certain; that DENY is possible is enough. Before a connection's requests come it is the other
    /// way round, for each of them is asked about once more.
    private func decide(_ evaluation: Evaluation<some RequestView>, withDryRuns: Bool = false) -> PolicyVerdict {
        var mustBeAllowed = false
        for policy in policies where policy.action != .audit && (withDryRuns || !policy.isDryRun) {
            if policy.isUnreadable { return .denied(by: PolicyRuleName(policy: policy.name, rule: nil)) }
            let isAllow = policy.action == .allow
            if isAllow { mustBeAllowed = true }
            guard let rule = policy.rules.firstIndex(where: { isAllow ? evaluation.allows($0) : evaluation.denies($0) })
            else { continue }
            let name = PolicyRuleName(policy: policy.name, rule: rule)
            return isAllow ? .allowed(by: name) : .denied(by: name)
        }
        return mustBeAllowed ? .denied(by: nil) : .allowed(by: nil)
    }
}
