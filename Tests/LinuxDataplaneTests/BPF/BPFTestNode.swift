/// One node with pods and an eBPF dataplane, and short ways to write services for it.
import Addressing
import DataplaneIR
import Glibc
import LinuxDataplane
import Netns
import Reconcile
import Testing
import TestSupport

final class BPFTestNode {
    let lab: Lab
    let node: LabNode
    let client: Pod
    let a: Pod
    let b: Pod
    var options: BPFDataplaneOptions
    var faults = FaultInjector.none
    private(set) var dataplane: BPFDataplane
    private var generation: UInt64 = 0
    var nodeProgram: NodeProgram
    /// What is desired, for full plans.
    private(set) var desired: [ServicePortID: ServiceProgram] = [:]

    /// Servers `a` and `b` answer on 8080, TCP and UDP.
    static func with(
        _ configure: (inout BPFDataplaneOptions) -> Void = { _ in }, _ body: (BPFTestNode) throws -> Void
    ) throws {
        try Lab.with { lab in try body(BPFTestNode(lab, configure)) }
    }

    private init(_ lab: Lab, _ configure: (inout BPFDataplaneOptions) -> Void) throws {
        self.lab = lab
        node = try lab.addNode()
        client = try node.addPod("client")
        a = try node.addPod("a")
        b = try node.addPod("b")
        for pod in [a, b] {
            try pod.listen(.tcp, 8080)
            try pod.listen(.udp, 8080)
        }
        options = BPFDataplaneOptions(cgroup: node.cgroup, bpffs: node.bpffs, nodeName: node.name)
        options.sizes.frontends = 1024
        options.sizes.services = 256
        options.sizes.backends = 4096
        options.sizes.affinity = 256
        configure(&options)
        let options = options
        dataplane = try node.namespace().run { try BPFDataplane(options: options) }
        nodeProgram = NodeProgram(nodeName: node.name)
        nodeProgram.detector = .cidrs(node.podCIDRs)
        nodeProgram.nodePortAddresses = [node.host.v4, node.host.v6]
        nodeProgram.localAddresses = [node.host.v4, node.host.v6]
    }

    // MARK: Plans

    @discardableResult
    func applyAll(_ programs: [ServiceProgram]) throws -> Receipt {
        desired = [:]
        for program in programs { desired[program.id] = program }
        return try applyAgain()
    }
    /// A full plan of what is desired.
    @discardableResult
    func applyAgain() throws -> Receipt {
        try apply(desired.values.sorted { $0.id < $1.id }, removals: [], isFull: true)
    }
    @discardableResult
    func update(_ programs: ServiceProgram..., remove: [ServicePortID] = []) throws -> Receipt {
        for program in programs { desired[program.id] = program }
        for id in remove { desired[id] = nil }
        return try apply(programs, removals: remove, isFull: false)
    }
    private func apply(_ upserts: [ServiceProgram], removals: [ServicePortID], isFull: Bool) throws -> Receipt {
        generation += 1
        return try dataplane.apply(
            Plan(generation: generation, node: nodeProgram, upserts: upserts, removals: removals, isFull: isFull))
    }

    /// As after a restart: a new dataplane finds what the old one left.
    func restart(_ configure: (inout BPFDataplaneOptions) -> Void = { _ in }, faults: FaultInjector = .none) throws {
        configure(&options)
        let options = options
        dataplane = try node.namespace().run { try BPFDataplane(options: options, faults: faults) }
    }

    func counter(_ name: String) throws -> UInt64 { try #require(try dataplane.counters()[name]) }
}

// MARK: Services

struct BPFService {
    var name = "web"
    var transport = TransportProtocol.tcp
    var family = AddressFamily.ipv4
    var frontends: [Frontend] = []
    var cluster: [SocketAddress] = []
    /// Endpoints on this node, a part of `cluster`.
    var local: [SocketAddress] = []
    /// Neither policy uses them, but their flows go on.
    var spare: [SocketAddress] = []
    var internalPolicy = TrafficPolicy.cluster
    var externalPolicy = TrafficPolicy.cluster
    var affinitySeconds: UInt32?

    var program: ServiceProgram {
        let remote = cluster.filter { !local.contains($0) }
        let backends =
            remote.map { Backend($0) } + local.map { Backend($0, state: [.serving, .local]) }
            + spare.map { Backend($0, state: [.serving, .terminating]) }
        return ServiceProgram(
            id: ServicePortID(
                namespace: "default", service: name, portName: "http", transport: transport, family: family),
            frontends: frontends.sorted(), backends: backends, clusterRange: 0..<remote.count + local.count,
            localRange: remote.count..<remote.count + local.count, internalPolicy: internalPolicy,
            externalPolicy: externalPolicy, affinitySeconds: affinitySeconds)
    }
}

/// `10.96.0.1:80`, for literals in tests.
func at(_ text: String) -> SocketAddress {
    guard let address = SocketAddress(text) else { preconditionFailure("not an address: \(text)") }
    return address
}
func clusterIP(_ text: String) -> Frontend { Frontend(.clusterIP, at(text).address, at(text).port) }

extension Pod {
    func endpoint(_ family: AddressFamily = .ipv4, _ port: UInt16 = 8080) -> SocketAddress {
        SocketAddress(self.address(family), port)
    }
}
