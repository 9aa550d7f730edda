/// `dump-maps` and `cleanup`: the kernel itself, with the agent alive or dead.
import ArgumentParser
import Reconcile

struct DumpMaps: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "What is in the kernel, joined with names; works with the agent dead.",
        discussion: "With eBPF and nftables both in use, the eBPF maps are shown; --raw and --map show either.")

    @Option(help: ArgumentHelp("Only this map's fill level.", valueName: "name"))
    var map: String?
    @Option(help: ArgumentHelp("Only this service.", valueName: "namespace/name"))
    var service: String?
    @Flag(help: "One line for each backend of each frontend, without grouping.")
    var raw = false
    @OptionGroup var options: SharedOptions

    func run() throws {
        let dumps = try KernelAccess.dumps(bpffs: options.bpffs)
        guard var dump = dumps.first else {
            throw CommandFailure(
                "nothing of Heddle is in the kernel: no maps at \(options.bpffs), no table heddle in this network "
                    + "namespace; is heddle-agent running here, and is --bpffs the same?")
        }
        for other in dumps.dropFirst() { dump.maps += other.maps }
        dump = try filtered(dump, map: map, service: service)
        if options.output == .json { return try Output.json(dump) }
        if map != nil { return Output.tell(mapTable(dump.maps, all: true)) }
        Output.tell("node \(dump.node), dataplane \(dump.dataplane), generation \(dump.generation)\n\n")
        Output.tell(raw ? rawTable(dump) : frontendTable(dump, wide: options.output == .wide))
        if service == nil, !raw { Output.tell("\n" + mapTable(dump.maps, all: options.output == .wide)) }
    }
}

/// Only one map, or only one service.
func filtered(_ dump: KernelDump, map: String?, service: String?) throws(CommandFailure) -> KernelDump {
    var dump = dump
    if let map {
        dump.maps = dump.maps.filter { $0.name == map }
        dump.frontends = []
        guard !dump.maps.isEmpty else { throw CommandFailure("there is no map \(map); see agentctl dump-maps") }
    }
    if let service {
        dump.frontends = dump.frontends.filter { $0.service == service || $0.service.hasPrefix(service + ":") }
        guard !dump.frontends.isEmpty else { throw CommandFailure("the kernel holds nothing of Service \(service)") }
    }
    return dump
}

/// One line for each frontend.
func frontendTable(_ dump: KernelDump, wide: Bool) -> String {
    var table = Table("SERVICE", "KIND", "FRONTEND", "ACTION", "POLICY", "BACKENDS")
    for frontend in dump.frontends {
        let backends = frontend.backends.map { backendText($0, wide: wide) }
        let shown = wide ? backends : Array(backends.prefix(4))
        let more = backends.count > shown.count ? ", +\(backends.count - shown.count)" : ""
        let affinity = frontend.affinitySeconds > 0 ? " (sticky \(frontend.affinitySeconds)s)" : ""
        table.add(
            frontend.service, frontend.kind, frontendText(frontend), frontend.action + affinity, frontend.policy,
            backends.isEmpty ? "-" : shown.joined(separator: ", ") + more)
    }
    return table.text
}

func rawTable(_ dump: KernelDump) -> String {
    var table = Table("FRONTEND", "SERVICE", "ACTION", "BACKEND", "STATE", "LOCAL", "WEIGHT")
    for frontend in dump.frontends {
        if frontend.backends.isEmpty {
            table.add(frontendText(frontend), frontend.service, frontend.action, "-", "-", "-", "-")
        }
        for backend in frontend.backends {
            table.add(
                frontendText(frontend), frontend.service, frontend.action, joined(backend.address, backend.port),
                backend.state, backend.local ? "yes" : "no", "\(backend.weight)")
        }
    }
    return table.text
}

private func frontendText(_ frontend: KernelDump.Frontend) -> String {
    joined(frontend.address, frontend.port) + "/" + frontend.protocol
}
private func backendText(_ backend: KernelDump.Backend, wide: Bool) -> String {
    joined(backend.address, backend.port) + (backend.state == "active" ? "" : " (\(backend.state))")
        + (wide && backend.local ? " (local)" : "")
}
private func joined(_ address: String, _ port: UInt16) -> String {
    address.contains(":") ? "[\(address)]:\(port)" : "\(address):\(port)"
}
