/// `agentctl routes` and `agentctl proxy`: what is routed how, and the L7 proxy that does it.
import AdminAPI
import ArgumentParser

struct Routes: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The routes of services, in the order in which they are tried.",
        discussion: """
            Examples:
              agentctl routes
              agentctl routes shop/cart   of one service
              agentctl routes --cluster   every route there is, and what is wrong with it
            """)

    @Argument(help: ArgumentHelp("Only this service.", valueName: "namespace/name"))
    var service: String?
    @Flag(help: "Of the whole cluster: ask the controller, in whose pod this runs.")
    var cluster = false
    @OptionGroup var options: SharedOptions

    func run() throws {
        guard !cluster else { return try tellCluster() }
        var list = try options.client.get(RouteList.self, AdminPath.routes)
        if let service { list.entries.removeAll { !$0.service.hasPrefix(service + ":") } }
        guard options.output != .json else { return try Output.json(list) }
        Output.tell(routeTable(list.entries))
        for finding in list.findings { Output.complain("note: \(finding)\n") }
    }

    private func tellCluster() throws {
        let query = service.map { [(name: "service", value: $0)] } ?? []
        var list = try options.controller.get(ClusterRoutes.self, AdminPath.routes, query)
        // A controller of an earlier version tells of all.
        if let service {
            list.entries.removeAll { !$0.parents.contains { $0 == service || $0.hasPrefix(service + ":") } }
        }
        guard options.output != .json else { return try Output.json(list) }
        Output.tell(clusterRouteTable(list))
    }
}

func routeTable(_ entries: [RouteList.Entry]) -> String {
    let text = { (parts: [String]) in parts.isEmpty ? "-" : parts.joined(separator: "; ") }
    var table = Table("SERVICE", "CLIENTS", "MATCH", "RULE", "BACKENDS", "FILTERS", "TIMEOUT", "RETRIES")
    for entry in entries {
        table.add(
            entry.service, entry.clients, entry.match, entry.rule, text(entry.backends), text(entry.filters),
            entry.timeout ?? "-", entry.retries ?? "-")
    }
    return table.text
}

/// What the proxy says of its bounds; one of an earlier version says nothing.
struct ProxyStats: Decodable {
    var heldBytes: Int?
    var memoryLimit: Int?
    var limited: [String: UInt64]?

    var text: String? {
        guard let heldBytes, let memoryLimit else { return nil }
        let limits = (limited ?? [:]).sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
        return "kept for clients: \(byteCount(heldBytes)) of \(byteCount(memoryLimit)); cut short at a bound: "
            + (limits.isEmpty ? "nothing" : limits.joined(separator: ", ")) + " (docs/l7.md, Bounds)"
    }
}

struct ProxyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "proxy", abstract: "The L7 proxy of this node: its state, or what it says of itself.",
        discussion: """
            proxy status asks the agent; everything else is asked of the proxy.

            Examples:
              agentctl proxy             is it connected, and what does it have?
              agentctl proxy config      the routes it follows
              agentctl proxy upstreams   endpoints: requests, failures, ejected ones
            """)

    @Argument(help: "status, config, upstreams, ...")
    var what = "status"
    @OptionGroup var options: SharedOptions

    func run() throws {
        guard what == "status" else {
            let answer = try options.client.get(AdminPath.proxy, [("what", what)])
            return Output.tell(String(decoding: answer, as: UTF8.self) + "\n")
        }
        let status = try options.client.get(AgentStatus.self, AdminPath.status)
        guard options.output != .json else { return try Output.json(status.proxy) }
        Output.tell(proxyText(status.proxy) + "\n")
        let stats = try? options.client.get(ClientStats.self, AdminPath.proxy, [("what", "stats")])
        if let note = stats?.note { Output.complain("note: \(note)\n") }
        // A proxy that does not answer is what the line above says.
        if let stats = try? options.client.get(ProxyStats.self, AdminPath.proxy, [("what", "stats")]),
            let text = stats.text
        {
            Output.tell(text + "\n")
        }
        for warning in status.warnings where warning.contains("L7 proxy") { Output.complain("note: \(warning)\n") }
    }
}

/// What the proxy says of clients that it could not tell.
struct ClientStats: Decodable {
    var unknownClients: UInt64

    var note: String? {
        guard unknownClients > 0 else { return nil }
        return "\(unknownClients) connections were of clients that are no pod known on this node: routes of single "
            + "namespaces did not apply to them; the proxy's log names the addresses"
    }
}
