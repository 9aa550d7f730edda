/// `agentctl sockets --stale`: connections of this node that still go to a backend which no service has any more.
import Addressing
import AdminAPI
import ArgumentParser
import DataplaneIR
import LinuxDataplane

struct Sockets: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Connections that still go to a backend which no service has any more.",
        discussion: """
            A connection stays with its backend when that is removed, until one end closes it. --kill destroys the \
            client's socket, and its program gets ECONNABORTED; through nftables it deletes the conntrack entry, too. \
            A backend that any service has, usable or not, is not touched.

            Examples:
              agentctl sockets --stale          whose, and since when
              agentctl sockets --stale --kill   end them
            """)

    @Flag(help: "Only those of removed backends: nothing else is listed as yet, so this is required.")
    var stale = false
    @Flag(help: "End them.")
    var kill = false
    @OptionGroup var options: SharedOptions

    func validate() throws {
        guard stale else { throw ValidationError("pass --stale: only connections to removed backends can be listed") }
    }

    func run() throws {
        let rule = try StaleRule(options.client.get(BackendReport.self, AdminPath.backends))
        let kernel = TranslatedFlows(bpffs: options.bpffs, cgroup: rule.report.cgroup)
        let flows = try failing { () throws(DataplaneError) in
            try kernel.flows(where: rule.isStale)
        }
        let inodes = Set(flows.compactMap(\.inode))
        let owners = try failing { () throws(DataplaneError) in
            try SocketOwner.find(inodes, cgroup: rule.report.cgroup)
        }
        var answer = StaleSockets(
            sockets: flows.map { rule.view(of: $0, $0.inode.flatMap { owners[$0] }) }.sorted { $0.order < $1.order })
        if kill { answer.ended = try end(flows, kernel) }
        guard options.output != .json else { return try Output.json(answer) }
        Output.tell(answer.text)
    }

    /// What was a removed backend a moment ago may have come back: the agent is asked once more.
    private func end(_ flows: [TranslatedFlow], _ kernel: TranslatedFlows) throws(CommandFailure) -> StaleSockets.Ended
    {
        var ended = StaleSockets.Ended()
        guard !flows.isEmpty else { return ended }
        let rule = StaleRule(try options.client.get(BackendReport.self, AdminPath.backends))
        guard rule.report.isInSync else {
            throw CommandFailure(
                "nothing was ended: the kernel does not hold yet what the agent wants, so a backend may be in use "
                    + "that looks removed; see agentctl status --wait 30s")
        }
        for flow in flows where rule.isStale(flow.translation) {
            guard try failing({ () throws(DataplaneError) in try kernel.end(flow) }) else { continue }
            if flow.hasSocket { ended.sockets += 1 }
            if flow.isTracked { ended.conntrackEntries += 1 }
        }
        return ended
    }
}

private func failing<R>(_ body: () throws(DataplaneError) -> R) throws(CommandFailure) -> R {
    do throws(DataplaneError) { return try body() } catch { throw CommandFailure("\(error)") }
}

/// Which flows are stale and what they are called, by the agent's report.
struct StaleRule {
    let report: BackendReport
    /// By backend, the youngest last.
    private let removed: [String: [BackendReport.Removed]]

    init(_ report: BackendReport) {
        self.report = report
        removed = Dictionary(grouping: report.removed, by: \.backend)
    }

    /// It goes to no backend of ours, and was sent there by us: who dialled it dialled a service.
    func isStale(_ flow: Translation) -> Bool {
        !report.inUse.contains("\(flow.backend)/\(flow.transport)")
            && (flow.isCertainlyOurs || service(of: flow) != nil)
    }

    func view(of flow: TranslatedFlow, _ owner: SocketOwner?) -> StaleSockets.Socket {
        StaleSockets.Socket(
            protocol: flow.translation.transport.description, state: flow.state, local: "\(flow.local)",
            peer: "\(flow.translation.backend)", dialled: "\(flow.translation.dialled)",
            service: service(of: flow.translation), removedSecondsAgo: removal(of: flow.translation)?.secondsAgo,
            pod: report.pods["\(flow.local.address)"] ?? owner?.podUID, pid: owner?.pid, command: owner?.command,
            isTracked: flow.isTracked)
    }

    /// What the backend was removed from; else who has the address now.
    private func service(of flow: Translation) -> String? {
        removal(of: flow)?.service ?? names(flow).compactMap { report.services[$0] }.first
    }
    private func removal(of flow: Translation) -> BackendReport.Removed? {
        let names = names(flow)
        return removed["\(flow.backend)/\(flow.transport)"]?.last { $0.frontends.contains(where: names.contains) }
    }

    /// What was dialled as an address of a service, and as a node port.
    private func names(_ flow: Translation) -> [String] {
        ["\(flow.dialled)/\(flow.transport)", "*:\(flow.dialled.port)/\(flow.transport)"]
    }
}

/// The answer, as `-o json` has it.
struct StaleSockets: Encodable {
    struct Socket: Encodable {
        var `protocol`: String
        var state: String
        var local: String
        var peer: String
        /// The service's address that the client asked for.
        var dialled: String
        var service: String?
        var removedSecondsAgo: Double?
        /// Its name, or kubelet's UID of it.
        var pod: String?
        var pid: Int32?
        var command: String?
        /// A conntrack entry translates its packets.
        var isTracked: Bool

        var order: (String, String, String) { (service ?? "", peer, local) }
    }
    struct Ended: Encodable {
        var sockets = 0
        var conntrackEntries = 0
    }
    var sockets: [Socket]
    var ended: Ended?

    var text: String {
        guard !sockets.isEmpty else { return "no connection goes to a removed backend\n" }
        var table = Table("PROTO", "STATE", "LOCAL", "PEER", "SERVICE", "DIALLED", "REMOVED", "POD", "PROCESS")
        for socket in sockets {
            table.add(
                socket.protocol, socket.state, socket.local, socket.peer, socket.service ?? "-", socket.dialled,
                socket.removedSecondsAgo.map { age($0) + " ago" } ?? "-", socket.pod ?? "-",
                socket.pid.map { "\(socket.command ?? "?")[\($0)]" } ?? "-")
        }
        guard let ended else { return table.text }
        return table.text + "\nended \(count(ended.sockets, "socket", "sockets")), deleted "
            + "\(count(ended.conntrackEntries, "conntrack entry", "conntrack entries"))\n"
    }

    private func count(_ number: Int, _ one: String, _ many: String) -> String {
        "\(number) \(number == 1 ? one : many)"
    }
}
