/// What the controller tells, for people: `agentctl status --cluster` and `agentctl routes --cluster`.
import AdminAPI
import Glibc

func clusterStatusText(_ status: ControllerStatus, wide: Bool, now: Int = time(nil)) -> String {
    var text = ""
    let line = { (name: String, value: String) in text += factLine(name, value) }
    line(
        "controller",
        "\(status.identity) (heddle-controller \(status.version), pid \(status.pid), up \(age(status.uptimeSeconds)))")
    line("state", status.ready ? "ready" : "NOT ready: the first lists are not complete")
    line("leader", leaderText(status.leader))
    line("source", sourceText(status.source))
    for watch in status.source.watches { line("  " + watch.resource, watchText(watch, wide: wide)) }
    line("services", "\(status.services)")
    line("routes", "\(status.routes)")
    line("nodes", nodesText(status.nodes))
    for laggard in status.nodes.laggards {
        line("lagging", "\(laggard.node) for \(age(laggard.seconds)): \(laggard.cause)")
    }
    if let authority = status.authority { line("authority", authorityLine(authority, now: now)) }
    if status.statusesToWrite > 0 {
        line(
            "to be written",
            "status of \(status.statusesToWrite) routes" + (status.writeProblem.map { "; \($0)" } ?? ""))
    }
    for server in status.servers where wide || server.problem != nil { line("server", serverText(server)) }
    if let webhook = status.webhook { line("webhook", webhookText(webhook)) }
    let problems = status.source.problems + (status.authority?.problems ?? []) + (status.webhook?.problems ?? [])
    for problem in problems { line("problem", problem) }
    for finding in status.findings { line("finding", finding) }
    let more = status.findingCount - status.findings.count
    if more > 0 { line("finding", "\(more) more; agentctl routes --cluster shows each at its route") }
    return text
}

private func authorityLine(_ authority: ControllerStatus.Authority, now: Int) -> String {
    let state = authority.isReady ? "ready" : "NOT ready"
    let root = authority.rootEnds.map { ", root ends \(endText($0, now: now))" } ?? ", no root yet"
    return "\(state), \(authority.trustDomain)\(root), \(authority.issued) issued and \(authority.refused) refused by "
        + "this replica"
}

private func leaderText(_ leader: ControllerStatus.Leader) -> String {
    let problem = leader.problem.map { "; \($0)" } ?? ""
    if leader.isLeading { return "this replica, by Lease \(leader.lease)\(problem)" }
    return (leader.holder.isEmpty ? "nobody" : leader.holder) + ", by Lease \(leader.lease)\(problem)"
}

func clusterRouteTable(_ list: ClusterRoutes) -> String {
    var table = Table("ROUTE", "PARENTS", "RULES", "IN FORCE", "FINDINGS")
    for entry in list.entries {
        let findings = entry.findings.isEmpty ? "-" : entry.findings.joined(separator: "; ")
        table.add(
            entry.route, entry.parents.joined(separator: ", "), "\(entry.rules)", progressText(entry.inForce), findings)
    }
    return table.text
}

/// `serving for 3d, its certificate ends in 87d`
private func webhookText(_ webhook: ControllerStatus.Webhook) -> String {
    var text = "NOT serving: there is no certificate yet"
    if let serving = webhook.servingSeconds, let end = webhook.certificateEndsInSeconds {
        text = "serving for \(age(serving)), its certificate "
        text += end > 0 ? "ends in \(age(end))" : "has ENDED \(age(-end)) ago"
    }
    guard webhook.isConfigured == false else { return text }
    return text + "; no API server asks: there is no ValidatingWebhookConfiguration heddle"
}

private func nodesText(_ nodes: ControllerStatus.Nodes) -> String {
    guard nodes.count > 0 else { return "none: no pod of an agent was found" }
    var text = "\(nodes.count), of which \(nodes.answering) tell how far they are"
    if nodes.lagging > 0 { text += ", and \(nodes.lagging) lag for more than a minute" }
    return text
}

/// `12/12`, `11/12, not on node-7`
private func progressText(_ progress: ClusterRoutes.Progress?) -> String {
    guard let progress else { return "-" }
    let missing = progress.of - progress.nodes
    guard missing > 0 else { return "\(progress.nodes)/\(progress.of)" }
    let more = missing - progress.missing.count
    return "\(progress.nodes)/\(progress.of), not on " + progress.missing.joined(separator: ", ")
        + (more > 0 ? " and \(more) more" : "")
}
