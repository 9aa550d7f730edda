/// Asks the kernel what it offers and opens the dataplanes. The only place that names their types.
import CLinux
import DataplaneIR
import LinuxDataplane
import Netns
import Observation

enum DataplaneFactory {
    static func probe(_ configuration: AgentConfiguration) -> KernelOffers {
        KernelOffers(
            ebpf: BPFProbe.run(cgroup: cgroup(configuration), bpffs: configuration.bpffs),
            nftables: NftablesProbe.run())
    }

    static func open(_ configuration: AgentConfiguration) throws -> OpenDataplane {
        let selection = try DataplaneSelection.choose(configuration, probe(configuration))
        let isFirstHere =
            try BPFCleanup.inForce(bpffs: configuration.bpffs).isEmpty && NftablesDeparture.inForce().isEmpty
        switch (selection.kind, selection.companion) {
        case (.nftables, _):
            let (nftables, changes) = try openNftables(.none)
            let writer = TakeoverDataplane(nftables, from: formerEBPF(configuration))
            return OpenDataplane(
                writer: writer, parts: [.init(writer, fullAudit: .whenTold)], reason: selection.reason,
                foreignChanges: changes, fallback: selection.fallback, isFirstHere: isFirstHere)
        case (.ebpf, .off):
            let ebpf = TakeoverDataplane(
                try openEBPF(configuration, companion: .off), from: formerNftables(configuration))
            return OpenDataplane(
                writer: ebpf, parts: [.init(ebpf, fullAudit: .rolling)], reason: selection.reason,
                isFirstHere: isFirstHere)
        case (.ebpf, let companion):
            let ebpf = try openEBPF(configuration, companion: companion)
            let (nftables, changes) = try openNftables(companion == .all ? .all : .external)
            return OpenDataplane(
                writer: CombinedDataplane(primary: ebpf, companion: nftables, companionServesAll: companion == .all),
                parts: [.init(ebpf, fullAudit: .rolling), .init(nftables, fullAudit: .whenTold)],
                reason: selection.reason, companion: "nftables (\(companion.rawValue))", foreignChanges: changes,
                isFirstHere: isFirstHere)
        }
    }

    private static func openEBPF(
        _ configuration: AgentConfiguration, companion: AgentConfiguration.Companion
    ) throws(DataplaneError) -> BPFDataplane {
        var options = BPFDataplaneOptions(
            cgroup: cgroup(configuration), bpffs: configuration.bpffs, nodeName: configuration.nodeName)
        options.sizes.frontends = configuration.mapFrontends.map(Int.init) ?? options.sizes.frontends
        options.sizes.services = configuration.mapServices.map(Int.init) ?? options.sizes.services
        options.sizes.backends = configuration.mapBackends.map(Int.init) ?? options.sizes.backends
        options.companionHandlesSourceRanges = companion != .off
        options.companionServesUDP = companion == .all
        return try BPFDataplane(options: options)
    }

    private static func openNftables(
        _ companion: NftablesCompanion
    ) throws(DataplaneError) -> (NftablesDataplane, ForeignChanges) {
        let dataplane = try NftablesDataplane(options: NftablesOptions(companion: companion))
        let monitor = try NftablesMonitor(ownPort: dataplane.portID)
        dataplane.monitor = monitor
        return (dataplane, ForeignChanges(dataplane: dataplane.name, monitor: monitor))
    }

    /// The companion takes over what nftables alone had; without one its table is left over.
    private static func formerNftables(_ configuration: AgentConfiguration) -> FormerDataplane {
        FormerDataplane(
            name: "nftables", find: { () throws(DataplaneError) in try NftablesDeparture.inForce() },
            remove: { () throws(DataplaneError) in try NftablesDeparture.run(nodeName: configuration.nodeName) })
    }
    private static func formerEBPF(_ configuration: AgentConfiguration) -> FormerDataplane {
        FormerDataplane(
            name: "ebpf", find: { () throws(DataplaneError) in BPFCleanup.inForce(bpffs: configuration.bpffs) },
            remove: { () throws(DataplaneError) in
                if !BPFCleanup.inForce(bpffs: configuration.bpffs).isEmpty {
                    try BPFCleanup.run(bpffs: configuration.bpffs)
                }
                return true
            })
    }

    /// For looking at live traffic.
    static func openTracers(
        _ configuration: AgentConfiguration, isEBPF: Bool
    ) throws(DataplaneError) -> [any FlowTracer] {
        var tracers: [any FlowTracer] = []
        if isEBPF { tracers.append(try BPFFlowTracer(bpffs: configuration.bpffs, cgroup: cgroup(configuration))) }
        // Beside eBPF: what no socket of this node began.
        if !isEBPF || configuration.companion != .off {
            tracers.append(try ConntrackFlowTracer(isCompanion: isEBPF))
        }
        return tracers
    }

    /// Where the canary connects from; nftables can do without.
    static func canaryCgroup(_ configuration: AgentConfiguration, isEBPF: Bool) -> String? {
        let cgroup = cgroup(configuration)
        return isEBPF || clinux_is_cgroup2(cgroup) == 1 ? cgroup : nil
    }

    /// Without --cgroup: where most of cgroup v2 is seen, else the usual place, which the probe then finds missing.
    static func cgroup(_ configuration: AgentConfiguration) -> String {
        configuration.cgroup ?? CgroupMount.current?.path ?? "/sys/fs/cgroup"
    }
}
