/// What the admin socket says of who may call whom.
package import AdminAPI
import Cluster
import Compile
import RouteIR

extension NodeController {
    /// nil: there is no mesh.
    package var policyList: PolicyList? {
        guard let mesh else { return nil }
        let pods = state.mesh.localPods.values.filter { state.enrolment(of: $0).isEnrolled }
        return PolicyList(
            pods: pods.sorted { $0.name < $1.name }.map { view($0, mesh.mesh) },
            findings: accessFindings(state).map(\.description))
    }

    private func view(_ pod: Pod, _ mesh: ProxyMesh) -> PolicyList.Pod {
        let policies = state.authorizationPolicies(of: pod)
        let byName = Dictionary(policies.map { ($0.access.name, $0) }, uniquingKeysWith: { first, _ in first })
        let program = PolicyProgram(policies.map(\.access), in: mesh)
        let mustBeAllowed = program.policies.contains { $0.action == .allow && $0.isEnforced }
        return PolicyList.Pod(
            name: "\(pod.name)",
            policies: program.policies.compactMap { access in byName[access.name].map(PolicyList.Policy.init) },
            otherwise: mustBeAllowed ? "denied" : "allowed")
    }
}

extension PolicyList.Policy {
    fileprivate init(_ policy: AuthorizationPolicy) {
        let access = policy.access
        self.init(
            name: access.name, action: access.action.text, reason: policy.reason, isDryRun: access.isDryRun,
            isUnreadable: access.isUnreadable,
            rules: access.rules.map { .init(text: $0.description, enforcement: $0.enforcement(in: access)) })
    }
}

extension AuthorizationPolicy {
    fileprivate var reason: String {
        if !targets.isEmpty { return targets.map { "\($0.kind) \($0.name)" }.joined(separator: ", ") }
        if !selector.isEmpty {
            return selector.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ",")
        }
        return isOfRootNamespace ? "mesh" : "namespace"
    }
}

extension PolicyAction {
    fileprivate var text: String {
        switch self {
        case .custom: "CUSTOM"
        case .deny: "DENY"
        case .allow: "ALLOW"
        case .audit: "AUDIT"
        }
    }
}

extension PolicyRule {
    fileprivate func enforcement(in policy: AccessPolicy) -> String {
        if policy.isDryRun { return "nobody: a dry run" }
        switch policy.action {
        case .audit: return "nobody: AUDIT changes nothing"
        case .allow where isUnreadable: return "allows nobody: something of it cannot be read"
        case .allow where needsRequest: return "allows nobody: requests are not looked at"
        case _ where isUnreadable: return "connections, without what cannot be read"
        case _ where needsRequest: return "connections, without what it says of requests"
        case .custom: return "connections, which are denied: nobody can be asked"
        case .allow, .deny: return "connections"
        }
    }
}
