/// Nodes and pods on one machine, made of network namespaces and cgroups; nothing is changed in the machine's own.
///
///     client 192.168.60.2 ── router ──┬── node 1   192.168.50.1   pods 10.244.1.11, .12, ... behind bridge cni0
///                                     └── node 2   192.168.50.2   pods 10.244.2.11, .12, ...
///
/// IPv6 likewise: fd00:60::2, fd00:50::1, fd00:244:1::11. A pod's address is a /32 (/128), so that all it sends passes
/// its node, also what goes to a pod beside it. The router knows no way out: what no dataplane translated comes back as
/// "network unreachable". Every lab has the same addresses; labs do not see each other.
///
/// Cgroups: `<cgroup2>/<lab>/<node>/{host,<pod>}` and `<cgroup2>/<lab>/outside`. An agent of a node is given
/// `<cgroup2>/<lab>/<node>`.
import Addressing
import Glibc
import Netns
import Synchronization

package final class Lab {
    package static let clusterCIDRs = ["10.244.0.0/16", "fd00:244::/32"]

    /// Begins all names of this lab: `hd-<pid>-<number>`.
    package let prefix: String
    package private(set) var nodes: [LabNode] = []
    private let cgroup: String
    private let router: Pod
    private var outside: Pod?

    private static let counter = Atomic(0)

    package init() throws {
        Sweep.once
        guard let root = Cgroup2.root else { throw TestFailure("no cgroup v2 hierarchy is mounted") }
        prefix = "hd-\(getpid())-\(Self.counter.add(1, ordering: .relaxed).newValue)"
        cgroup = "\(root)/\(prefix)"
        router = Pod(
            name: "router", v4: LabAddress.router.0, v6: LabAddress.router.1,
            namespacePath: "\(NetworkNamespace.directory)/\(prefix)-router", cgroup: cgroup + "/outside")
        try makeNamespace("router", cgroup: "outside", forwarding: true)
        try ip(
            "router",
            """
            link add fabric type bridge mcast_snooping 0
            link set fabric up
            address add \(LabAddress.router.0)/24 dev fabric
            address add \(LabAddress.router.1)/64 dev fabric nodad
            """)
    }
    deinit { close() }

    /// Makes a lab, hands it to `body` and takes it down whatever happens.
    package static func with<R>(_ body: (Lab) throws -> R) throws -> R {
        let lab = try Lab()
        defer { lab.close() }
        return try body(lab)
    }
    package static func with<R>(_ body: (Lab) async throws -> R) async throws -> R {
        let lab = try Lab()
        defer { lab.close() }
        return try await body(lab)
    }

    /// Ends every process of the lab and removes its namespaces, cgroups and pinned eBPF objects. May be called twice.
    package func close() {
        for pod in nodes.flatMap({ $0.pods + [$0.host] }) + [router] + [outside].compactMap({ $0 }) { pod.stop() }
        Sweep.remove(prefix)
        nodes = []
    }

    package func addNode(_ name: String? = nil) throws -> LabNode {
        let index = nodes.count + 1
        let node = LabNode(lab: self, name: name ?? "node-\(index)", index: index, cgroup: cgroup)
        try makeNamespace(node.name, cgroup: "\(node.name)/host", forwarding: true)
        try ip(
            "router",
            """
            link add \(node.name) type veth peer name eth0 netns \(prefix)-\(node.name)
            link set \(node.name) master fabric up
            route add \(node.podCIDRs[0]) via \(node.host.v4)
            route add \(node.podCIDRs[1]) via \(node.host.v6)
            """)
        try ip(
            node.name,
            """
            link set eth0 up
            address add \(node.host.v4)/24 dev eth0
            address add \(node.host.v6)/64 dev eth0 nodad
            route add default via \(LabAddress.router.0)
            route add default via \(LabAddress.router.1)
            link add cni0 type bridge mcast_snooping 0
            link set cni0 up
            address add \(node.gateways.v4)/24 dev cni0
            address add \(node.gateways.v6)/64 dev cni0 nodad
            """)
        for other in nodes {
            try ip(node.name, Self.routes(to: other))
            try ip(other.name, Self.routes(to: node))
        }
        nodes.append(node)
        return node
    }

    private static func routes(to node: LabNode) -> String {
        "route add \(node.podCIDRs[0]) via \(node.host.v4)\nroute add \(node.podCIDRs[1]) via \(node.host.v6)"
    }

    /// A client outside the cluster: behind the router, in no node's cgroup. One a lab.
    package func addExternalClient() throws -> Pod {
        if let outside { return outside }
        let client = Pod(
            name: "client", v4: LabAddress.client.0, v6: LabAddress.client.1,
            namespacePath: "\(NetworkNamespace.directory)/\(prefix)-client", cgroup: cgroup + "/outside")
        try makeNamespace("client", cgroup: "outside", forwarding: false)
        try ip(
            "router",
            """
            link add client type veth peer name eth0 netns \(prefix)-client
            link set client up
            address add \(LabAddress.clientGateway.0)/24 dev client
            address add \(LabAddress.clientGateway.1)/64 dev client nodad
            """)
        try ip(
            "client",
            """
            link set eth0 up
            address add \(client.v4)/24 dev eth0
            address add \(client.v6)/64 dev eth0 nodad
            route add default via \(LabAddress.clientGateway.0)
            route add default via \(LabAddress.clientGateway.1)
            """)
        outside = client
        return client
    }

    // MARK: Pieces

    func makeNamespace(_ name: String, cgroup directory: String, forwarding: Bool) throws {
        try makeDirectories("\(cgroup)/\(directory)")
        let namespace = try NetworkNamespace.create(named: "\(prefix)-\(name)")
        try namespace.run { try Sysctl.prepare(forwarding: forwarding) }
    }
    /// Runs lines of `ip -batch` inside a namespace of the lab.
    func ip(_ name: String, _ lines: String) throws {
        try run(["ip", "-n", "\(prefix)-\(name)", "-batch", "-"], input: lines + "\n")
    }
    private func makeDirectories(_ path: String) throws(TestFailure) {
        guard mkdir(path, 0o755) != 0, errno != EEXIST else { return }
        guard errno == ENOENT, let slash = path.lastIndex(of: "/") else { throw .errno("make \(path)") }
        try makeDirectories(String(path[..<slash]))
        guard mkdir(path, 0o755) == 0 || errno == EEXIST else { throw .errno("make \(path)") }
    }
}

/// Who has which address.
enum LabAddress {
    static let router = (v4(0xc0a8_32fe), v6(0x50, 0, 0xfe))
    static let client = (v4(0xc0a8_3c02), v6(0x60, 0, 2))
    static let clientGateway = (v4(0xc0a8_3cfe), v6(0x60, 0, 0xfe))

    static func v4(_ value: UInt32) -> IPAddress { IPAddress(v4: value) }
    /// fd00:NETWORK:SUBNET::HOST
    static func v6(_ network: UInt64, _ subnet: UInt64, _ host: UInt64) -> IPAddress {
        IPAddress(high: 0xfd00 << 48 | network << 32 | subnet << 16, low: host)
    }
}

/// Settings of a fresh network namespace; to be called inside.
private enum Sysctl {
    static func prepare(forwarding: Bool) throws(TestFailure) {
        for scope in ["all", "default"] {
            try set("ipv4/conf/\(scope)/rp_filter", 0)
            // The way to a pod beside leads through the node on purpose.
            try set("ipv4/conf/\(scope)/send_redirects", 0)
            try set("ipv4/conf/\(scope)/accept_redirects", 0)
            try set("ipv6/conf/\(scope)/accept_redirects", 0)
            // Addresses are unique by construction; waiting a second for proof of it would slow every test.
            try set("ipv6/conf/\(scope)/accept_dad", 0)
            try set("ipv6/conf/\(scope)/accept_ra", 0)
        }
        // Linux sends one port-unreachable a second to a destination otherwise; tests count them.
        try set("ipv4/icmp_ratelimit", 0)
        try set("ipv6/icmp/ratelimit", 0)
        guard forwarding else { return }
        // Pods are routed; where the kernel filters bridged frames too, a pod could not reach itself through a service.
        for name in ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"]
        where access("/proc/sys/net/\(name)", F_OK) == 0 {
            try set(name, 0)
        }
        try set("ipv4/ip_forward", 1)
        try set("ipv6/conf/all/forwarding", 1)
    }
    private static func set(_ name: String, _ value: Int) throws(TestFailure) {
        try writeInPlace("\(value)", to: "/proc/sys/net/\(name)")
    }
}
