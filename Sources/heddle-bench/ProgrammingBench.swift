/// How long the compiler and a dataplane take to put a whole cluster, and then single changes, into the kernel. The
/// kernel state is left in place: `connect` measures through it.
import Addressing
import Cluster
import Compile
import DataplaneIR
import LinuxDataplane
import Observation
import Reconcile

struct ProgrammingOptions {
    var dataplane: String
    var cluster: GeneratedCluster
    var updates: Int
    /// Where the service in the middle leads, so that connections through it find a server.
    var target: SocketAddress
    var cgroup: String
    var bpffs: String
}

func benchProgramming(_ options: ProgrammingOptions) throws {
    let cluster = options.cluster
    var state = ClusterState()
    for change in cluster.changes { _ = state.apply(change) }
    var reached = cluster.slice(cluster.services / 2)
    reached.ports = [EndpointSlice.Port(name: "http", port: options.target.port)]
    reached.endpoints = [EndpointSlice.Endpoint(options.target.address, nodeName: "node-1")]
    _ = state.apply(.upsert(.endpointSlice(reached)))
    let residentWithModel = residentMegabytes()

    var compiler = Compiler(node: NodeFacts(name: "node-1"))
    let (_, compileTime) = timed { _ = compiler.update(state.knownServices, from: state) }
    var node = NodeProgram(nodeName: "node-1")
    node.detector = .cidrs([IPPrefix("10.0.0.0/8")].compactMap { $0 })
    let dataplane = try makeDataplane(options)
    let full = Plan(
        generation: 1, node: node, upserts: compiler.programs.values.sorted { $0.id < $1.id }, removals: [],
        isFull: true)
    let (receipt, loadTime) = try timed { try dataplane.apply(full) }
    guard receipt.refused.isEmpty else { throw SocketFailure("\(receipt.refused.count) services were refused", 28) }

    var updates = Samples()
    for edit in 0..<options.updates {
        // Not the one that connections go through.
        let number = edit * 7919 % cluster.services
        guard number != cluster.services / 2 else { continue }
        let start = monotonicNanoseconds()
        let dirty = state.apply(.upsert(.endpointSlice(cluster.slice(number, edit: edit + 1))))
        let changed = compiler.update(dirty.services, from: state)
        let plan = Plan(
            generation: UInt64(edit + 2), node: node, upserts: changed.upserts.compactMap { compiler.programs[$0] },
            removals: changed.removals.sorted(), isFull: false)
        _ = try dataplane.apply(plan)
        // The first find cold caches.
        if edit >= options.updates / 10 { updates.add(monotonicNanoseconds() - start) }
        if edit % 20 == 19 { try dataplane.collectGarbage() }
    }
    let kernelBytes = try dataplane.capacity().reduce(0) { $0 + $1.bytes }
    printResult([
        ("endpoints", cluster.services * cluster.endpoints), ("compile_ms", compileTime), ("load_ms", loadTime),
        ("update_p50_us", updates.percentile(0.5)), ("update_p99_us", updates.percentile(0.99)),
        ("model_rss_mb", residentWithModel), ("rss_mb", residentMegabytes()),
        ("kernel_mb", Double(kernelBytes) / 1_048_576),
    ])
}

private func makeDataplane(_ options: ProgrammingOptions) throws -> any Dataplane {
    guard options.dataplane == "ebpf" else { return try NftablesDataplane() }
    var bpf = BPFDataplaneOptions(cgroup: options.cgroup, bpffs: options.bpffs, nodeName: "node-1")
    // A block is rounded up to a power of two; the default is meant for 20,000 services of 10.
    let needed = options.cluster.services * 2 * (options.cluster.endpoints + 1)
    bpf.sizes.backends = max(bpf.sizes.backends, needed)
    bpf.companionHandlesSourceRanges = true
    bpf.companionServesUDP = true
    return try BPFDataplane(options: bpf)
}
