/// What the eBPF dataplane is told when it is made.

/// Entries each map can hold. Changing a size rebuilds the maps at the next start, without a gap in service.
package struct BPFMapSizes: Equatable, Sendable {
    /// Address, port and protocol of a service, and one for each cluster IP.
    package var frontends = 131_072
    /// Service ports, counted once for each family.
    package var services = 65_536
    /// A service with n endpoints takes n + 1, rounded up to a power of two; during an update twice.
    package var backends = 524_288
    /// Clients of services with session affinity.
    package var affinity = 65_536
    package var nodeAddresses = 4_096
    /// Addresses of pods that take tunnels, in the whole cluster.
    package var meshAddresses = 65_536

    package init() {}

    var byMap: [String: Int] {
        [
            "frontends": frontends, "services": services, "service_names": services, "backends": backends,
            "affinity": affinity, "node_addresses": nodeAddresses, "mesh_addresses": meshAddresses,
        ]
    }
}

package struct BPFDataplaneOptions: Sendable {
    /// The cgroup v2 directory whose processes are served.
    package var cgroup: String
    /// Where maps and links are pinned, in a bpf file system.
    package var bpffs: String
    package var nodeName: String
    package var sizes = BPFMapSizes()
    /// The nftables companion runs and takes what the socket hooks cannot do: load-balancer addresses with source
    /// ranges and SCTP. Without it those are reported as refused.
    package var companionHandlesSourceRanges = false
    /// The companion carries every UDP service: of what one unconnected socket sends to one backend, every name but the
    /// first is left to it.
    package var companionServesUDP = false

    package init(cgroup: String, bpffs: String, nodeName: String) {
        self.cgroup = cgroup
        self.bpffs = bpffs
        self.nodeName = nodeName
    }
}
