/// A lab node with a dataplane on it, set up as the agent would, and the pods and clients around it.
import Addressing
import Cluster
import Compile
import DataplaneIR
import LinuxDataplane
import Netns
import Reconcile
import TestSupport

/// `Pod` alone could be the Kubernetes object.
typealias LabPod = TestSupport.Pod

enum DataplaneKind: String, CaseIterable, Sendable {
    case ebpf
    case nftables
}

/// One node with a dataplane, three pods on it, two on another node, and a client outside. Every pod answers on two
/// ports, TCP and UDP, with its own `address:port`.
final class NodeUnderTest {
    static let proxyPort: UInt16 = 15001
    static let backendPorts: [UInt16] = [8080, 9090]
    let lab: Lab
    let node: LabNode
    let pods: [LabPod]
    let remotePods: [LabPod]
    let client: LabPod
    let dataplanes: [any Dataplane]
    private(set) var compiler: Compiler
    private var state = ClusterState()
    private var generation: UInt64 = 0
    /// In force with the next `apply`.
    var nodeProgram: NodeProgram

    init(_ kind: DataplaneKind, lab: Lab) throws {
        self.lab = lab
        node = try lab.addNode(RandomCluster.nodeName)
        let other = try lab.addNode("node-b")
        let node = node
        pods = try (0..<3).map { try node.addPod("pod-\($0)") }
        remotePods = try (0..<2).map { try other.addPod("remote-\($0)") }
        client = try lab.addExternalClient()
        for pod in pods + remotePods {
            for (transport, port) in [(TransportProtocol.tcp, 8080), (.tcp, 9090), (.udp, 8080), (.udp, 9090)] {
                for address in [pod.v4, pod.v6].map({ SocketAddress($0, UInt16(port)) }) {
                    try pod.listen(transport, address, name: "\(address)")
                }
            }
        }
        for (network, gateway) in [("10.96.0.0/16", "\(node.host.v4)"), ("fd00:96::/32", "\(node.host.v6)")] {
            try run(["ip", "-n", "\(lab.prefix)-router", "route", "add", network, "via", gateway])
        }
        // Where the client's address is kept, answers must come back through the node that translated.
        for (network, gateway) in [("\(client.v4)/32", "\(node.host.v4)"), ("\(client.v6)/128", "\(node.host.v6)")] {
            try run(["ip", "-n", "\(lab.prefix)-node-b", "route", "add", network, "via", gateway])
        }
        for address in [node.host.v4, node.host.v6] {
            try node.host.listen(.tcp, SocketAddress(address, Self.proxyPort), name: "@dialled")
        }
        nodeProgram = Self.program(of: node)
        var options = CompilerOptions()
        options.proxy = .up
        compiler = Compiler(
            node: NodeFacts(name: RandomCluster.nodeName, zone: RandomCluster.zones[0]), options: options)
        let namespace = try node.namespace()
        dataplanes = try namespace.run {
            let nftables = try NftablesDataplane()
            guard kind == .ebpf else { return [nftables] }
            var options = BPFDataplaneOptions(cgroup: node.cgroup, bpffs: node.bpffs, nodeName: node.name)
            options.companionHandlesSourceRanges = true
            options.companionServesUDP = true
            return [try BPFDataplane(options: options, faults: .none), nftables]
        }
    }

    var program: DataplaneProgram { DataplaneProgram(node: nodeProgram, services: compiler.programs) }

    private static func program(of node: LabNode) -> NodeProgram {
        var program = NodeProgram(nodeName: node.name)
        program.nodePortAddresses = [node.host.v4, node.host.v6]
        program.localAddresses = [node.host.v4, node.host.v6, IPAddress(v4: 0x7f00_0001), IPAddress(high: 0, low: 1)]
        program.detector = .cidrs(Lab.clusterCIDRs.compactMap { IPPrefix($0) })
        program.uplinks = ["eth0"]
        program.proxyListeners = Set([node.host.v4, node.host.v6].map { SocketAddress($0, proxyPort) })
        program.serviceCIDRs = ["10.96.0.0/16", "fd00:96::/32"].compactMap { IPPrefix($0) }
        return program
    }

    /// Takes changes in and writes what they dirty, as a running agent does.
    @discardableResult
    func apply(_ changes: [Change]) throws -> [Receipt] {
        var dirty = Dirty()
        for change in changes { dirty.formUnion(state.apply(change)) }
        let changed = compiler.update(dirty.services, from: state)
        generation += 1
        let isFirst = generation == 1
        let plan = Plan(
            generation: generation, node: nodeProgram,
            upserts: (isFirst ? Array(compiler.programs.keys) : Array(changed.upserts)).sorted().compactMap {
                compiler.programs[$0]
            },
            removals: isFirst ? [] : changed.removals.sorted(), isFull: isFirst)
        return try dataplanes.map { dataplane in
            let receipt = try dataplane.apply(plan)
            guard receipt.refused.isEmpty else { throw TestFailure("\(dataplane.name) refused \(receipt.refused)") }
            return receipt
        }
    }

    /// The endpoints that `agentctl explain` says take traffic.
    func explainedEndpoints(of id: ServicePortID, under policy: TrafficPolicy) -> Set<SocketAddress> {
        let all = compiler.explainEndpoints(of: id, under: policy, from: state)
        return Set(all.filter { $0.exclusion == nil }.map(\.address))
    }

    func collectGarbage() throws { for dataplane in dataplanes { try dataplane.collectGarbage() } }
}
