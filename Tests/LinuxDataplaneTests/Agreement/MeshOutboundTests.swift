/// Pods of the mesh that dial services and pods of the mesh reach the node's L7 proxy, which learns what they dialled;
/// everybody else, and every other port and address, is as it was. On both dataplanes, over both families, as the
/// interpreter says.
import Addressing
import CDataplaneABI
import DataplaneIR
import Glibc
import Netns
import Reconcile
import TestSupport
import Testing

@testable import BPF
@testable import LinuxDataplane

private let hasMPTCP = readText("/proc/sys/net/mptcp/enabled").hasPrefix("1")

@Suite(.serialized, .requiresKernel(.root, .netns, .cgroup2, .bpf))
struct MeshOutboundTests {
    @Test(arguments: DataplaneKind.allCases)
    func connectionsGoWhereTheInterpreterSays(_ kind: DataplaneKind) throws {
        var random = SeededGenerator()
        try Lab.with { lab in
            let test = try MeshNode(kind, lab)
            try test.apply()
            try test.expectAgreement()
            // Nobody is in the mesh any more: then as before.
            test.node.nodeProgram.mesh = MeshProgram()
            try test.apply()
            try test.expectAgreement()
            for _ in 0..<4 {
                test.node.nodeProgram.mesh = test.someMesh(using: &random)
                try test.apply(isFull: random.oneIn(3))
                try test.expectAgreement()
            }
        }
    }

    /// The proxy cannot be reached: refused, never plaintext.
    @Test(arguments: DataplaneKind.allCases)
    func withoutAProxyConnectionsAreRefused(_ kind: DataplaneKind) throws {
        try Lab.with { lab in
            let test = try MeshNode(kind, lab)
            test.node.nodeProgram.proxyListeners = []
            try test.apply()
            try test.expectAgreement()
        }
    }

    /// No connect() is called, and whoever is in the mesh is still not heard in the clear.
    @Test(arguments: DataplaneKind.allCases)
    func whoConnectsByItsFirstBytesIsNoException(_ kind: DataplaneKind) throws {
        try Lab.with { lab in
            let test = try MeshNode(kind, lab)
            try test.apply()
            let client = test.node.pods[0]
            let service = SocketAddress(IPAddress(v4: 0x0a60_0000 + 10), 80)
            for target in [service, test.server.endpoint(.ipv4)] {
                for protocolNumber: Int32 in hasMPTCP ? [0, 262] : [0] {
                    let found = try client.namespace().run { () throws in
                        try InCgroup.run(client.cgroup) { () throws(TestFailure) in
                            let socket = try TestSocket(SOCK_STREAM, protocol: protocolNumber)
                            try socket.connect(sendingTo: target)
                            return (answer: socket.answer(), peer: try socket.peer())
                        }
                    }
                    #expect(found == (target.description, target), "protocol \(protocolNumber)")
                }
            }
        }
    }

    /// A connection from before goes on when its pods come into the mesh and leave it.
    @Test(arguments: DataplaneKind.allCases)
    func openConnectionsGoOn(_ kind: DataplaneKind) throws {
        try Lab.with { lab in
            let test = try MeshNode(kind, lab)
            let mesh = test.node.nodeProgram.mesh
            test.node.nodeProgram.mesh = MeshProgram()
            try test.apply()
            let client = test.node.pods[0]
            let held = try AddressFamily.allCases.map { try client.hold(20, to: test.server.endpoint($0)) }
            for other in [mesh, MeshProgram(), mesh] {
                test.node.nodeProgram.mesh = other
                try test.apply()
                try test.expectAgreement()
            }
            for connections in held { #expect(try connections.release().errors == [:]) }
        }
    }

    @Test func whatIsWrongInTheKernelIsSeenAndPutRight() throws {
        try Lab.with { lab in
            let test = try MeshNode(.nftables, lab)
            try test.apply()
            let dataplane = test.node.dataplanes[0]
            #expect(try dataplane.verify(quick: false) == [])
            let namespace = try test.node.node.namespace()
            let address = test.server.v4
            _ = try namespace.run { try shell("nft delete element ip heddle mesh-addresses { \(address) }") }
            let drift = try dataplane.verify(quick: false)
            #expect(drift.map(\.description).joined().contains("mesh-addresses"), "\(drift)")
            try test.apply(isFull: true)
            #expect(try dataplane.verify(quick: false) == [])
            try test.expectAgreement()
        }
    }
}

/// A node with pods of which some are in the mesh, and services with endpoints in it.
private final class MeshNode {
    let node: NodeUnderTest
    let kind: DataplaneKind
    let services: [ServiceProgram]
    /// In the mesh, on another node.
    var server: LabPod { node.remotePods[0] }
    private var generation: UInt64 = 0
    private var written = false

    init(_ kind: DataplaneKind, _ lab: Lab) throws {
        self.kind = kind
        node = try NodeUnderTest(kind, lab: lab)
        let enrolled = [node.pods[0], node.pods[1], node.remotePods[0]]
        node.nodeProgram.mesh = Self.mesh(of: enrolled, on: node)
        let (inMesh, other) = (node.remotePods[0], node.remotePods[1])
        let (client, elsewhere) = (node.pods[0], IPPrefix("198.51.100.0/24"))
        services = AddressFamily.allCases.flatMap { family in
            let ip = { (number: UInt32) in
                family == .ipv4
                    ? IPAddress(v4: 0x0a60_0000 + number) : IPAddress(high: 0xfd00_0096 << 32, low: UInt64(number))
            }
            return [
                BPFService(
                    name: "mesh", family: family, frontends: [Frontend(.clusterIP, ip(10), 80, action: .tunnel)],
                    cluster: [inMesh.endpoint(family), other.endpoint(family)]
                ).program,
                BPFService(
                    name: "sticky", family: family, frontends: [Frontend(.clusterIP, ip(11), 80, action: .tunnel)],
                    cluster: [inMesh.endpoint(family), other.endpoint(family)], affinitySeconds: 60
                ).program,
                BPFService(
                    name: "elsewhere", family: family, frontends: [Frontend(.clusterIP, ip(12), 80, action: .tunnel)],
                    cluster: [inMesh.endpoint(family)], internalPolicy: .local
                ).program,
                BPFService(
                    name: "outside", family: family,
                    frontends: [
                        Frontend(.externalIP, ip(0x101), 80, action: .tunnel),
                        Frontend(.loadBalancer, ip(0x102), 80, action: .tunnel),
                        Frontend(
                            .loadBalancer, ip(0x103), 80,
                            sourceRanges: [IPPrefix(host: client.address(family)), elsewhere].compactMap { $0 },
                            action: .tunnel),
                    ], cluster: [inMesh.endpoint(family), other.endpoint(family)]
                ).program,
                BPFService(
                    name: "empty", family: family, frontends: [Frontend(.clusterIP, ip(13), 80, action: .tunnel)]
                ).program,
                BPFService(
                    name: "plain", family: family, frontends: [Frontend(.clusterIP, ip(14), 80)],
                    cluster: [other.endpoint(family)]
                ).program,
            ]
        }
    }

    /// Where pods may be that are not listed.
    private static let lists = [Lab.clusterCIDRs, ["10.0.0.0/8", "fc00::/7"], ["10.244.2.0/24"]].map { ranges in
        ranges.compactMap { IPPrefix($0) }
    }

    /// Other pods, and of some one family only.
    func someMesh(using random: inout SeededGenerator) -> MeshProgram {
        var mesh = Self.mesh(of: (node.pods + node.remotePods).filter { _ in !random.oneIn(3) }, on: node)
        for address in mesh.enrolled.sorted() where random.oneIn(4) { mesh.enrolled.remove(address) }
        if random.oneIn(2) { mesh.unlisted = Self.lists.randomElement(using: &random) ?? [] }
        return mesh
    }
    private static func mesh(of pods: [LabPod], on node: NodeUnderTest) -> MeshProgram {
        var mesh = MeshProgram()
        mesh.enrolled = Set(pods.flatMap { [$0.v4, $0.v6] })
        for pod in pods where node.pods.contains(where: { $0 === pod }) {
            let program = MeshPodProgram(name: "ns/\(pod.name)", uid: pod.name)
            for address in [pod.v4, pod.v6] { mesh.pods[address] = program }
        }
        return mesh
    }

    func apply(isFull: Bool = false) throws {
        generation += 1
        let isFirst = generation == 1
        let plan = Plan(
            generation: generation, node: node.nodeProgram, upserts: isFirst || isFull ? services : [], removals: [],
            isFull: isFirst || isFull)
        for dataplane in node.dataplanes {
            let receipt = try dataplane.apply(plan)
            #expect(receipt.refused.isEmpty)
            #expect(try dataplane.verify(quick: false) == [])
        }
        guard kind == .ebpf else { return }
        // As the agent does once it knows a pod's network namespace.
        let path = node.node.bpffs + "/maps/mesh_clients"
        let pinned = try #require(try BPFDescriptor.pinned(at: path))
        let clients = try BPFMap<UInt64, heddle_mesh_client>(pinned, name: "mesh_clients")
        for pod in node.pods {
            let cookie = try pod.namespace().run { try networkNamespaceCookie() }
            if node.nodeProgram.mesh.pods[pod.v4] != nil {
                try clients.update(
                    cookie, heddle_mesh_client(address: (heddle_address(pod.v4), heddle_address(pod.v6))))
            } else {
                try clients.delete(cookie)
            }
        }
    }

    func expectAgreement(sourceLocation: SourceLocation = #_sourceLocation) throws {
        let program = DataplaneProgram(
            node: node.nodeProgram, services: Dictionary(uniqueKeysWithValues: services.map { ($0.id, $0) }))
        let interpreter = Interpreter(program)
        let clients: [(LabPod, Flow.Origin)] = [
            (node.pods[0], .interface("cni0")), (node.pods[2], .interface("cni0")), (node.node.host, .node),
        ]
        var verdicts: Set<String> = []
        for (client, origin) in clients {
            for family in AddressFamily.allCases {
                for target in targets(client, family) {
                    let flow = Flow(
                        source: client.address(family), destination: target, transport: .tcp, origin: origin)
                    let explanation = interpreter.explain(flow)
                    verdicts.insert("\(explanation.verdict)".prefix { $0 != "(" }.description)
                    let result = try client.flow(
                        .tcp, to: target, count: 3, timeoutMs: explanation.verdict == .drop ? 250 : 2500)
                    let what: Comment = "\(kind) \(client.name) to \(target): \(explanation), got \(result)"
                    #expect(isRight(result, explanation.verdict, flow), what, sourceLocation: sourceLocation)
                }
            }
        }
        #expect(verdicts.count >= 3, "\(verdicts)", sourceLocation: sourceLocation)
    }

    /// Of no service and no pod, but in the range of services.
    private let nobody = [IPAddress(v4: 0x0a60_0099), IPAddress(high: 0xfd00_0096 << 32, low: 0x99)]

    private func targets(_ client: LabPod, _ family: AddressFamily) -> [SocketAddress] {
        let frontends = services.filter { $0.id.family == family }.flatMap(\.frontends)
        let pods = node.pods + node.remotePods
        // A pod that dials itself is left alone, and tunnels are.
        return frontends.compactMap { frontend in frontend.address.map { SocketAddress($0, frontend.port) } }
            + pods.map { $0.endpoint(family) } + [SocketAddress(server.address(family), 15008)]
            + [server.endpoint(family, 9090)] + nobody.filter { $0.family == family }.map { SocketAddress($0, 80) }
    }

    private func isRight(_ result: FlowResult, _ verdict: Verdict, _ flow: Flow) -> Bool {
        switch verdict {
        case .proxy:
            result.failed == 0 && result.names == [flow.destination.description]
                && Set(result.peers.keys) == [flow.destination] && Set(result.clients.keys) == [flow.source]
        case .balance(_, let candidates, _):
            result.failed == 0 && result.names.isSubset(of: Set(candidates.map(\.description)))
        case .passthrough:
            flow.destination.port == 15008
                ? Set(result.errors.keys) == [ECONNREFUSED] && result.answered == 0
                : result.failed == 0 && result.names == [flow.destination.description]
        case .reject: result.answered == 0 && Set(result.errors.keys) == [ECONNREFUSED]
        case .drop: result.answered == 0 && Set(result.errors.keys).isSubset(of: [ETIMEDOUT, EHOSTUNREACH])
        }
    }
}
