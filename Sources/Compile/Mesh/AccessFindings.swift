/// What of AuthorizationPolicies is not enforced as it is written, or surely a mistake. Each errs on the safe side.
package import Cluster
import DataplaneIR
import RouteIR

package func accessFindings(_ state: borrowing ClusterState) -> [Finding] {
    state.mesh.access.all.sorted { $0.name < $1.name }.flatMap { accessFindings(of: $0, state) }
}

/// Whoever writes a policy can make a finding of each line of it.
private let mostFindings = 16

package func accessFindings(of policy: AuthorizationPolicy, _ state: borrowing ClusterState) -> [Finding] {
    let all = allFindings(of: policy, state)
    guard all.count > mostFindings, let last = all.dropFirst(mostFindings).first else { return all }
    let message = "and \(all.count - mostFindings - 1) more findings of this policy: \(last.message)"
    return all.prefix(mostFindings)
        + [Finding(reason: last.reason, object: last.object, field: last.field, message: message)]
}

private func allFindings(of policy: AuthorizationPolicy, _ state: borrowing ClusterState) -> [Finding] {
    var findings = policy.flaws.map { flaw in
        Finding(reason: "policy-unreadable", object: policy.id, field: flaw.field, message: flaw.message)
    }
    func add(_ reason: String, _ field: String, _ message: String) {
        findings.append(Finding(reason: reason, object: policy.id, field: field, message: message))
    }
    for (index, target) in policy.targets.enumerated() {
        let field = "spec.targetRefs[\(index)]"
        if !target.isService {
            add("policy-unknown-target", field, "\(target.kind) \(target.name) is none that policies are enforced at")
        } else if state.services[ObjectName(policy.name.namespace, target.name)] == nil {
            add("policy-unknown-target", field, "there is no Service \(target.name) in the policy's namespace")
        }
    }
    let access = policy.access
    switch access.action {
    case _ where access.isUnreadable: return findings
    case _ where access.isDryRun:
        add("policy-no-effect", "metadata.annotations[\"istio.io/dry-run\"]", "the policy changes nothing")
    case .audit: add("policy-no-effect", "spec.action", "AUDIT changes nothing, and is not logged yet")
    case .custom:
        add(
            "policy-custom", "spec.action",
            "what the rules match is denied: nobody outside can be asked yet; use ALLOW or DENY")
    case .allow where access.rules.isEmpty:
        add("policy-allows-nobody", "spec.rules", "there is none, so that the policy by itself allows nobody")
    case .deny where access.rules.isEmpty: add("policy-no-effect", "spec.rules", "there is none, so nobody is denied")
    case .allow, .deny: break
    }
    for (index, rule) in access.rules.enumerated() {
        let field = "spec.rules[\(index)]"
        if rule.needsRequest {
            let effect =
                switch access.action {
                case .allow: "the rule allows nobody"
                case .audit: "the rule is not logged"
                case .deny, .custom: "the rule denies without them, and so more"
                }
            add(
                "policy-requests", field,
                "what it says of requests is not looked at yet: \(effect); name only peers, addresses and ports")
        }
        if rule.testsSourceAddresses, access.action != .audit {
            add(
                "policy-addresses", field,
                "addresses are compared of clients in the mesh only: in the clear everybody is refused where the rule "
                    + "decides")
        }
        for path in rule.unusualPaths {
            add(
                "policy-path-form", field,
                "no path is ever \(path.debugDescription): paths are compared without their query, decoded, and with "
                    + "// and /../ resolved")
        }
    }
    return findings
}

/// Of a pod of this node.
func manyPorts(of pod: Pod) -> Finding {
    Finding(
        reason: "policy-many-ports", object: ObjectID(.pod, pod.name), field: "spec",
        message: "in the clear it is refused on all ports: its policies tell more than \(MeshPodProgram.mostPorts) of "
            + "them from the others; name fewer")
}

extension PolicyRule {
    fileprivate var testsSourceAddresses: Bool {
        (sources + [conditions]).joined().contains { test in
            if case .address(.source, _) = test.operand { true } else { false }
        }
    }
    /// Those that no request has once its path is in the form that policies see.
    fileprivate var unusualPaths: [String] {
        operations.joined().flatMap { test -> [String] in
            guard case .text(.path, let matches) = test.operand else { return [] }
            return matches.map(\.description).filter { path in
                path.contains { "?#%".contains($0) } || ["//", "/./", "/../"].contains { path.contains($0) }
            }
        }
    }
}
