/// `agentctl policy`: who may call the pods of the node.
import AdminAPI
import ArgumentParser

struct Policy: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Who may call the pods of this node that are in the mesh: AuthorizationPolicies in the order of asking.",
        discussion: """
            FOR is why a policy is for the pod: a label, a Service, its namespace, or the mesh. ENFORCED says who
            enforces a rule, and what of it nobody does.

            Examples:
              agentctl policy
              agentctl policy shop/web-0
            """)

    @Argument(help: ArgumentHelp("Only this pod.", valueName: "namespace/name"))
    var pod: String?
    @OptionGroup var options: SharedOptions

    func run() throws {
        var list = try options.client.get(PolicyList.self, AdminPath.policy)
        if let pod {
            list.pods.removeAll { $0.name != pod }
            guard !list.pods.isEmpty else {
                throw CommandFailure("no pod \(pod) of this node is in the mesh; see agentctl mesh")
            }
        }
        guard options.output != .json else { return try Output.json(list) }
        Output.tell(policyTable(list))
        for finding in list.findings { Output.complain("note: \(finding)\n") }
    }
}

func policyTable(_ list: PolicyList) -> String {
    var table = Table("POD", "ACTION", "POLICY", "FOR", "RULE", "ENFORCED")
    for pod in list.pods {
        for policy in pod.policies {
            let action = policy.action + (policy.isDryRun ? " (dry run)" : "")
            if policy.isUnreadable {
                table.add(
                    pod.name, action, policy.name, policy.reason, "cannot be read",
                    policy.isDryRun || policy.action == "AUDIT" ? "-" : "everything is denied")
            } else if policy.rules.isEmpty {
                table.add(pod.name, action, policy.name, policy.reason, "none", "-")
            }
            for (index, rule) in policy.rules.enumerated() where !policy.isUnreadable {
                table.add(pod.name, action, policy.name, policy.reason, "\(index): \(rule.text)", rule.enforcement)
            }
        }
        table.add(pod.name, "-", "-", "-", "anything else", "\(pod.otherwise)")
    }
    return table.text
}
