/// Which dataplane to take, from what was asked for and what the kernel offers. Pure; `preflight` prints the same.
import Daemon
import LinuxDataplane

struct KernelOffers: Equatable, Sendable {
    var ebpf: [ProbeResult]
    var nftables: [ProbeResult]

    /// The first thing eBPF lacks; nil: it is usable.
    var missingForEBPF: ProbeResult? { ebpf.first { !$0.ok } }
    /// The first thing nftables lacks; nil: it is usable. A host without IPv6 lacks it for that family only.
    var missingForNftables: ProbeResult? {
        let families = nftables.filter { $0.name.hasPrefix("nftables") }
        let hasFamily = families.contains(where: \.ok)
        return nftables.first { !$0.ok && !(hasFamily && $0.name.hasPrefix("nftables")) }
    }
}

struct DataplaneSelection: Equatable, Sendable {
    enum Kind: String, Sendable {
        case ebpf, nftables
    }
    var kind: Kind
    /// eBPF only: nftables beside it.
    var companion: AgentConfiguration.Companion
    /// One sentence: why this one.
    var reason: String
    /// `auto` only: why it did not take eBPF, and what to do.
    var fallback: String?

    static func choose(_ configuration: AgentConfiguration, _ offers: KernelOffers) throws(StartupError) -> Self {
        switch configuration.dataplane {
        case .ebpf:
            if let missing = offers.missingForEBPF {
                throw StartupError(
                    "--dataplane ebpf is not possible here: \(missing.name): \(missing.detail)")
            }
            return try ebpf(configuration, offers, "asked for by --dataplane ebpf")
        case .nftables:
            if let missing = offers.missingForNftables {
                throw StartupError(
                    "--dataplane nftables is not possible here: \(missing.name): \(missing.detail)")
            }
            return Self(kind: .nftables, companion: .off, reason: "asked for by --dataplane nftables")
        case .auto:
            guard let missing = offers.missingForEBPF else {
                return try ebpf(configuration, offers, "auto: the kernel has all that eBPF needs")
            }
            if let other = offers.missingForNftables {
                throw StartupError(
                    "no dataplane is possible here: eBPF: \(missing.name): \(missing.detail); "
                        + "nftables: \(other.name): \(other.detail)")
            }
            return Self(
                kind: .nftables, companion: .off,
                reason: "auto: eBPF is not possible: \(missing.name)",
                fallback: "auto took nftables, because eBPF is not possible here: \(missing.name): \(missing.detail); "
                    + "if nftables is what you want, say so: --dataplane nftables")
        }
    }

    private static func ebpf(
        _ configuration: AgentConfiguration, _ offers: KernelOffers, _ reason: String
    ) throws(StartupError) -> Self {
        if configuration.companion != .off, let missing = offers.missingForNftables {
            throw StartupError(
                "nftables rules beside eBPF are not possible here: \(missing.name): \(missing.detail); without them "
                    + "clients outside this node are not served: --companion off accepts that")
        }
        return Self(kind: .ebpf, companion: configuration.companion, reason: reason)
    }
}
