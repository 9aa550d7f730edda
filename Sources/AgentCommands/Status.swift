/// `agentctl status`: is the node doing what it should, and if not, why.
import AdminAPI
import ArgumentParser
import Glibc
import LinuxDataplane
import Observation

struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Whether this node is in sync, and if not, why.",
        discussion: """
            Examples:
              agentctl status
              agentctl status --wait 30s   returns as soon as all is in the kernel
              agentctl status -o json
              agentctl status --cluster    the controller's, in its pod
            """)

    @OptionGroup var options: SharedOptions
    @Option(help: ArgumentHelp("Wait until in sync, at most so long.", valueName: "duration"))
    var wait: WaitTime?
    @Flag(help: "Of the whole cluster: ask the controller, in whose pod this runs.")
    var cluster = false

    func validate() throws {
        guard !cluster || wait == nil else {
            throw ValidationError("--wait waits for a node to be in sync; leave it out with --cluster")
        }
    }

    func run() throws {
        guard !cluster else { return try tellCluster() }
        var status = try wait.map { try waitUntilInSync($0) } ?? fetch()
        for index in status.servers.indices { status.servers[index].findHolder() }
        switch options.output {
        case .json: try Output.json(status)
        case .table, .wide: Output.tell(statusText(status, wide: options.output == .wide))
        }
        if wait != nil, !(status.ready && status.sync.inSync) { throw ExitCode(1) }
    }

    private func tellCluster() throws {
        let status = try options.controller.get(ControllerStatus.self, AdminPath.status)
        guard options.output != .json else { return try Output.json(status) }
        Output.tell(clusterStatusText(status, wide: options.output == .wide))
    }

    private func fetch() throws(CommandFailure) -> AgentStatus {
        try options.client.get(AgentStatus.self, AdminPath.status)
    }

    /// The agent may still be starting: a socket that is not there yet is no failure before the time is over.
    private func waitUntilInSync(_ time: WaitTime) throws(CommandFailure) -> AgentStatus {
        let end = ContinuousClock.now + time.duration
        while true {
            let isLast = ContinuousClock.now >= end
            do throws(CommandFailure) {
                let status = try fetch()
                if isLast || (status.ready && status.sync.inSync) { return status }
            } catch {
                if isLast { throw error }
            }
            usleep(50_000)
        }
    }
}

func statusText(_ status: AgentStatus, wide: Bool) -> String {
    var text = ""
    let line = { (name: String, value: String) in text += factLine(name, value) }
    line("node", "\(status.node) (heddle-agent \(status.version), pid \(status.pid), up \(age(status.uptimeSeconds)))")
    let companion = status.dataplane.companion.map { " with \($0)" } ?? ""
    line("dataplane", "\(status.dataplane.name)\(companion) (\(status.dataplane.configured))")
    line("state", stateText(status))
    if let canary = status.dataplane.canary, wide || canary.state != "passed" { line("canary", canaryText(canary)) }
    line("generation", generationText(status.sync))
    for source in status.sources {
        line("source", sourceText(source))
        for watch in source.watches { line("  " + watch.resource, watchText(watch, wide: wide)) }
    }
    if let snapshot = status.snapshot {
        line("snapshot", snapshot + (status.snapshotSecondsAgo.map { ", as of \(age($0)) ago" } ?? ""))
    }
    line(
        "services",
        "\(status.counts.services) (\(status.counts.servicePorts) ports, \(status.counts.frontends) frontends, "
            + "\(status.counts.backends) backends)")
    line("node ports at", status.nodePortAddresses.isEmpty ? "-" : status.nodePortAddresses.joined(separator: ", "))
    if status.proxy.routedServices > 0 || wide { line("proxy", proxyText(status.proxy)) }
    line("drift", driftText(status.drift))
    for map in status.capacity where wide || isFilling(map.entries, map.maxEntries) {
        line("map", "\(map.name): \(map.entries)\(map.maxEntries > 0 ? " of \(map.maxEntries)" : "")")
    }
    for server in status.servers where wide || server.problem != nil { line("server", serverText(server)) }
    for warning in status.warnings { line("warning", warning) }
    for source in status.sources { for problem in source.problems { line("problem", problem) } }
    for refusal in status.refused { line("refused", "\(refusal.service): \(refusal.reason)") }
    let shown = wide ? status.findings.count : 10
    for finding in status.findings.prefix(shown) { line("finding", finding) }
    let more = status.findingCount - min(shown, status.findings.count)
    if more > 0 { line("finding", "and \(more) more\(wide ? "" : ", see -o wide")") }
    if wide {
        for (name, value) in status.counters.sorted(by: { $0.key < $1.key }) { line("counter", "\(name) \(value)") }
    }
    return text
}

private func stateText(_ status: AgentStatus) -> String {
    let dataplane = status.dataplane
    let proof = dataplane.provenSecondsAgo.map {
        dataplane.proven ? "proven \(age($0)) ago" : "NOT proven \(age($0)) ago"
    }
    return [
        status.ready ? "ready" : "NOT ready", "configured", dataplane.attached ? "attached" : "NOT attached",
        proof ?? "not yet proven",
    ].joined(separator: ", ")
}

private func canaryText(_ canary: AgentStatus.Canary) -> String {
    var text = canary.state == "passed" ? "passed" : canary.state == "failed" ? "FAILED" : "could not be tried"
    if let tried = canary.triedSecondsAgo { text += " \(age(tried)) ago" }
    if let detail = canary.detail { text += ": \(detail)" }
    if canary.state != "passed", let passed = canary.passedSecondsAgo { text += "; last passed \(age(passed)) ago" }
    return text
}

private func generationText(_ sync: AgentStatus.Sync) -> String {
    var text = "\(sync.generation), " + (sync.inSync ? "in sync" : "NOT in sync")
    if let at = sync.lastSyncSecondsAgo { text += ", written \(age(at)) ago" }
    if let took = sync.lastSyncDurationSeconds { text += " in \((took * 10000).rounded() / 10) ms" }
    if sync.pendingChanges > 0 { text += ", \(sync.pendingChanges) changes waiting" }
    if sync.failuresInARow > 0 { text += ", \(sync.failuresInARow) failures: \(sync.lastError ?? "")" }
    return text
}

func sourceText(_ source: AgentStatus.Source) -> String {
    var text = source.name + (source.complete ? ", complete" : ", NOT complete")
    if let at = source.changedSecondsAgo { text += ", changed \(age(at)) ago" }
    if !source.problems.isEmpty { text += ", \(source.problems.count) problems" }
    return text
}

func watchText(_ watch: AgentStatus.Watch, wide: Bool) -> String {
    var text = "\(watch.state), \(watch.objects) objects"
    if watch.refusedObjects > 0 { text += " and \(watch.refusedObjects) that cannot be used" }
    if let at = watch.heardSecondsAgo { text += ", heard \(age(at)) ago" }
    if watch.errors > 0 { text += ", \(watch.errors) errors" }
    if wide {
        text += ", \(watch.reconnects) reconnects, version \(watch.resourceVersion ?? "-")"
    }
    return text + (watch.message.map { ": \($0)" } ?? "")
}

func serverText(_ server: AgentStatus.Server) -> String {
    guard let problem = server.problem else { return "\(server.name): \(server.address)" }
    let holder = server.holder.map { "\($0) has it: " } ?? ""
    return "\(server.name): does NOT listen on \(server.address): \(holder)\(problem)"
}

extension AgentStatus.Server {
    /// Agent and agentctl share a network namespace, and in the chart's pod all processes of the node are seen.
    fileprivate mutating func findHolder() {
        guard problem != nil, let port = address.split(separator: ":").last.flatMap({ UInt16($0) }) else { return }
        let owners = SocketOwner.listening(onTCP: port).map { owner in
            "\(owner.command)[\(owner.pid)]" + (owner.podUID.map { " of pod \($0)" } ?? "")
        }
        holder = owners.isEmpty ? nil : owners.joined(separator: ", ")
    }
}

private func driftText(_ drift: AgentStatus.DriftReport) -> String {
    guard drift.found > 0, let at = drift.lastSecondsAgo else { return "none" }
    let first = drift.last.first.map { ": \($0)" } ?? ""
    return "\(drift.found) found, last \(age(at)) ago, \(drift.repaired ? "repaired" : "NOT yet repaired")\(first)"
}

func proxyText(_ proxy: AgentStatus.Proxy) -> String {
    var text = "\(proxy.state), \(proxy.routedServices) routed service ports, configuration \(proxy.generation)"
    text += ", fails \(proxy.failure)"
    for instance in proxy.instances {
        let rights = instance.process.map { ", \($0.description)" } ?? ""
        text += "; pid \(instance.pid) (\(instance.version)\(rights)) "
        text +=
            instance.generation == proxy.generation
            ? "has it" : instance.generation == 0 ? "has none" : "has \(instance.generation)"
        if instance.outdated { text += ", is being replaced" }
        if !instance.ignored.isEmpty { text += ", does not know \(instance.ignored.joined(separator: ", "))" }
        if !instance.answering { text += ", does NOT answer" }
        if let refusal = instance.refusal { text += ", REFUSED the last: \(refusal)" }
    }
    return text
}

private func isFilling(_ entries: Int, _ most: Int) -> Bool { most > 0 && entries * 10 >= most * 8 }
