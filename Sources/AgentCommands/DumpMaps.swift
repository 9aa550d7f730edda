/// `agentctl dump-maps`: the kernel itself, with the agent alive or dead. How it looks is in DumpText.swift.
import AdminAPI
import ArgumentParser
import DataplaneIR
import Glibc
import Observation

struct DumpMaps: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "What is in the kernel, joined with names; works with the agent dead.",
        discussion: """
            With eBPF and nftables both in use, the eBPF maps are shown; --map shows either.

            Examples:
              agentctl dump-maps --service shop/web
              agentctl dump-maps --address 10.244.1.11 --raw
              agentctl dump-maps --diff    lacking in the kernel (-), or too much (+)
              agentctl dump-maps --watch   changes as they happen
            """)

    @Option(help: ArgumentHelp("Only this map's fill level.", valueName: "name"))
    var map: String?
    @OptionGroup var filter: DumpFilter
    @Flag(help: "One key=value line for each backend of each frontend, always in the same order.")
    var raw = false
    @Flag(help: "Compare with what the agent wants to be there; status 1 if they differ.")
    var diff = false
    @Flag(help: "Then print every change, one line for each backend (--raw), until interrupted.")
    var watch = false
    @Option(help: ArgumentHelp("How often --watch looks.", valueName: "duration"))
    var interval = WaitTime(duration: .seconds(1))
    @OptionGroup var options: SharedOptions

    func validate() throws {
        let modes = [map != nil, diff, watch].count { $0 }
        guard modes <= 1 else { throw ValidationError("--map, --diff and --watch exclude each other") }
        guard !watch || options.output != .json else { throw ValidationError("--watch prints lines, not JSON") }
        guard map == nil || filter.isEmpty, map == nil || !raw else {
            throw ValidationError("--map shows fill levels, which --raw and filters do not apply to")
        }
    }

    func run() throws {
        if diff { return try compare() }
        var (dump, others) = try read()
        if let map {
            dump.maps = dump.maps.filter { $0.name == map }
            dump.frontends = []
            guard !dump.maps.isEmpty else { throw CommandFailure("there is no map \(map); see agentctl dump-maps") }
        }
        dump.frontends = try filter.filtered(dump.frontends)
        if options.output == .json {
            try Output.json(dump)
        } else if map != nil {
            Output.tell(mapTable(dump.maps, all: true))
        } else if raw {
            Output.tell(rawText(dump.frontends))
        } else {
            show(dump, others)
        }
        if watch { try follow(dump.frontends) }
    }

    private func show(_ dump: KernelDump, _ others: [KernelDump]) {
        let isWide = options.output == .wide
        Output.tell("node \(dump.node), dataplane \(dump.dataplane), generation \(dump.generation)\n")
        for other in others {
            Output.tell(
                "beside it \(other.dataplane), generation \(other.generation), \(other.frontends.count) frontends\n")
        }
        Output.tell("\n")
        Output.tell(frontendTable(dump.frontends, wide: isWide, paint: .forOutput()))
        if filter.isEmpty { Output.tell("\n" + mapTable(dump.maps, all: isWide)) }
    }

    /// The dataplane that sockets meet first, with the maps of all, and the others.
    private func read() throws(CommandFailure) -> (KernelDump, others: [KernelDump]) {
        let dumps = try KernelAccess.dumps(bpffs: options.bpffs)
        guard var dump = dumps.first else {
            throw CommandFailure(
                "nothing of Heddle is in the kernel: no maps at \(options.bpffs), no table heddle in this network "
                    + "namespace; is heddle-agent running here, and is --bpffs the same?")
        }
        for other in dumps.dropFirst() { dump.maps += other.maps }
        return (dump, Array(dumps.dropFirst()))
    }

    private func follow(_ first: [KernelDump.Frontend]) throws(CommandFailure) {
        var before = first
        while true {
            pause(interval.duration)
            let now = filter.matching(try read().0.frontends)
            Output.tell(DumpChanges(from: before, to: now).text(.forOutput()))
            before = now
        }
    }

    private func compare() throws {
        var changes = try difference()
        if !changes.isEmpty {
            // A write may have been under way; what is still different now is not that.
            pause(.milliseconds(200))
            changes.formIntersection(try difference())
        }
        if options.output == .json {
            try Output.json(changes)
        } else {
            Output.tell(changes.isEmpty ? "no difference\n" : changes.text(.forOutput()))
        }
        if !changes.isEmpty { throw ExitCode(1) }
    }

    /// From what should be there to what is there.
    private func difference() throws(CommandFailure) -> DumpChanges {
        let desired = try options.client.get(KernelDump.self, AdminPath.desired)
        let (kernel, _) = try read()
        // SCTP passes no socket hook: beside eBPF it is the companion's, which `verify` compares.
        let isServed = { (frontend: KernelDump.Frontend) in
            kernel.dataplane != "ebpf" || frontend.protocol != "SCTP"
        }
        return DumpChanges(
            from: filter.matching(desired.frontends.filter(isServed)), to: filter.matching(kernel.frontends))
    }
}

func pause(_ duration: Duration) {
    let (seconds, attoseconds) = duration.components
    var time = timespec(tv_sec: Int(seconds), tv_nsec: Int(attoseconds / 1_000_000_000))
    nanosleep(&time, nil)
}

/// Which services are asked for.
struct ServiceFilter: ParsableArguments {
    @Option(help: ArgumentHelp("Only this service, or this port of it.", valueName: "namespace/name[:port]"))
    var service: String?
    @Option(help: ArgumentHelp("Only services of this namespace.", valueName: "name"))
    var namespace: String?
    @Flag(help: "Also the agent's own service, @heddle/canary.")
    var all = false

    var isEmpty: Bool { service == nil && namespace == nil }

    /// `name`: `namespace/name:port`.
    func matches(_ name: String) -> Bool {
        if !all, name.hasPrefix(ServicePortID.ownNamespace) { return false }
        if let service, name != service, !name.hasPrefix(service + ":") { return false }
        if let namespace, !name.hasPrefix(namespace + "/") { return false }
        return true
    }
}

/// Which frontends are asked for.
struct DumpFilter: ParsableArguments {
    @OptionGroup var services: ServiceFilter
    @Option(help: ArgumentHelp("Only frontends at this address, or with a backend there.", valueName: "ip"))
    var address: String?

    var isEmpty: Bool { services.isEmpty && address == nil }

    func matching(_ frontends: [KernelDump.Frontend]) -> [KernelDump.Frontend] {
        frontends.filter { frontend in
            guard services.matches(frontend.service) else { return false }
            guard let address else { return true }
            return frontend.address == address || frontend.backends.contains { $0.address == address }
        }
    }

    /// Nothing left is a failure that says so.
    func filtered(_ frontends: [KernelDump.Frontend]) throws(CommandFailure) -> [KernelDump.Frontend] {
        let result = matching(frontends)
        guard result.isEmpty, !isEmpty else { return result }
        let what = [
            services.service.map { "Service \($0)" }, services.namespace.map { "namespace \($0)" },
            address.map { "address \($0)" },
        ].compactMap { $0 }
        throw CommandFailure("the kernel holds nothing of \(what.joined(separator: ", "))")
    }
}
