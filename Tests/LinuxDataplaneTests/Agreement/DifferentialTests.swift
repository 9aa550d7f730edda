/// Random clusters, edits and node settings; after each, real connections from a pod, from the node, from a pod of
/// another node and from outside must go where the interpreter says, on both dataplanes (spec rows 24-39, 71-87,
/// 98-105).
import Addressing
import Cluster
import Compile
import DataplaneIR
import Glibc
import TestSupport
import Testing

@Suite(.serialized, .requiresKernel(.root, .netns, .cgroup2, .bpf))
struct DifferentialTests {
    @Test(arguments: DataplaneKind.allCases)
    func connectionsGoWhereTheInterpreterSays(_ kind: DataplaneKind) throws {
        var random = SeededGenerator()
        try Lab.with { lab in
            let node = try NodeUnderTest(kind, lab: lab)
            var options = RandomCluster.Options()
            let all = node.pods + node.remotePods
            options.endpoints = [.ipv4: all.map(\.v4), .ipv6: all.map(\.v6)]
            for pod in all {
                let name = node.pods.contains { $0 === pod } ? RandomCluster.nodeName : "node-b"
                options.nodeOf[pod.v4] = name
                options.nodeOf[pod.v6] = name
            }
            options.sourceRanges = ["192.168.60.0/24", "10.244.1.0/24", "fd00:60::/32", "192.168.50.1/32"].compactMap {
                IPPrefix($0)
            }
            options.routed = true
            var cluster = RandomCluster(options: options)
            for round in 0..<10 {
                let edits = round == 0 ? 40 : Int.random(in: 1...6, using: &random)
                if round > 0, random.oneIn(2) { node.nodeProgram.change(node, using: &random) }
                try node.apply((0..<edits).map { _ in cluster.edit(using: &random) })
                let check = FlowCheck(node, kind)
                for probe in check.probes(using: &random).shuffled(using: &random).prefix(40) {
                    let complaint = try check.complaint(about: probe)
                    #expect(complaint == nil, "round \(round): \(complaint ?? "")")
                }
                try node.collectGarbage()
            }
        }
    }
}

extension NodeProgram {
    /// Other settings of the agent, as if it were told so live.
    fileprivate mutating func change(_ test: NodeUnderTest, using random: inout SeededGenerator) {
        let detectors: [LocalDetector] = [
            .cidrs(Lab.clusterCIDRs.compactMap { IPPrefix($0) }), .cidrs(test.node.podCIDRs), .bridge("cni0"),
            .interfacePrefix("cni"), .none,
        ]
        detector = detectors.randomElement(using: &random) ?? .none
        masqueradeAll = random.oneIn(3)
        masqueradeBit = UInt8.random(in: 0..<32, using: &random)
        nodePortAddresses = Set([test.node.host.v4, test.node.host.v6].filter { _ in !random.oneIn(4) })
    }
}

/// Makes one flow for real and compares.
private struct FlowCheck {
    struct Probe {
        let origin: LabPod
        let flow: Flow
    }
    private let node: NodeUnderTest
    private let kind: DataplaneKind
    private let interpreter: Interpreter

    init(_ node: NodeUnderTest, _ kind: DataplaneKind) {
        self.node = node
        self.kind = kind
        interpreter = Interpreter(node.program)
    }

    /// Every frontend there is, and some addresses that nobody has, from three places.
    func probes(using random: inout SeededGenerator) -> [Probe] {
        var targets: [(SocketAddress, TransportProtocol)] = []
        for program in node.compiler.programs.values.sorted(by: { $0.id < $1.id }) {
            for frontend in program.frontends {
                let address = frontend.address ?? node.node.host.address(program.id.family)
                targets.append((SocketAddress(address, frontend.port), program.id.transport))
                if frontend.kind == .clusterIP, random.oneIn(8) {
                    targets.append((SocketAddress(address, frontend.port + 1), program.id.transport))
                }
            }
        }
        targets.append((SocketAddress(IPAddress(v4: 0x0a60_ff01), 80), .tcp))
        targets.append((SocketAddress(IPAddress(high: 0xfd00_0096 << 32, low: 0xff01), 80), .tcp))
        let origins: [(LabPod, Flow.Origin)] = [
            (node.pods[0], .interface("cni0")), (node.node.host, .node), (node.client, .interface("eth0")),
        ]
        return targets.flatMap { target, transport in
            // From another node only to this node's own address: answers to cluster IPs would not come back through it.
            let isOwn = target.address == node.node.host.address(target.address.family)
            return (origins + (isOwn ? [(node.remotePods[0], .interface("eth0"))] : [])).map { pod, origin in
                Probe(
                    origin: pod,
                    flow: Flow(
                        source: pod.address(target.address.family), destination: target, transport: transport,
                        origin: origin))
            }
        }
    }

    /// nil if the kernel did what the interpreter says.
    func complaint(about probe: Probe) throws -> String? {
        let explanation = interpreter.explain(probe.flow)
        let verdict = explanation.verdict
        let isBalanced =
            switch verdict {
            case .balance, .proxy: true
            case .passthrough, .reject, .drop: false
            }
        // An error reaches only a connected UDP socket.
        let kind: LabPod.Kind =
            probe.flow.transport == .tcp ? .tcp : isBalanced && probe.flow.source.low % 2 == 0 ? .udp : .udpConnected
        let result = try probe.origin.flow(
            kind, to: probe.flow.destination, count: isBalanced ? 6 : 1, timeoutMs: timeout(verdict))
        let isRight =
            switch verdict {
            case .balance(let id, let candidates, let rule):
                try isBalancedRight(probe, result, candidates, rule) && isSticky(result, id)
                    && (hasAffinity(id) || reachesAll(candidates, kind, probe, result))
                    && node.explainedEndpoints(of: id, under: explanation.set ?? .cluster) == Set(candidates)
            case .reject: isRefused(result, [ECONNREFUSED], probe)
            case .drop: isRefused(result, self.kind == .ebpf ? [ETIMEDOUT, EHOSTUNREACH] : [ETIMEDOUT], probe)
            case .passthrough: result.answered == 0
            case .proxy(_, let listener): isProxied(result, listener, probe)
            }
        return isRight
            ? nil : "\(kind) from \(probe.origin.name) to \(probe.flow.destination): should \(verdict), got \(result)"
    }

    /// Spec row 24: within the timeout a client has one endpoint.
    private func isSticky(_ result: FlowResult, _ id: ServicePortID) -> Bool {
        !hasAffinity(id) || result.names.count == 1
    }
    private func hasAffinity(_ id: ServicePortID) -> Bool { node.compiler.programs[id]?.affinitySeconds != nil }

    /// Each of them, sooner or later.
    private func reachesAll(
        _ candidates: [SocketAddress], _ kind: LabPod.Kind, _ probe: Probe, _ first: FlowResult
    ) throws -> Bool {
        let wanted = Set(candidates.map(\.description))
        var reached = first.names
        for _ in 0..<30 where reached != wanted {
            reached.formUnion(
                try probe.origin.flow(kind, to: probe.flow.destination, count: 10, timeoutMs: 1500).names)
        }
        return reached == wanted
    }

    /// An ICMP error that comes back while connect() still holds the socket, as it does when both ends are on this
    /// machine, is forgotten until the next SYN a second later.
    private func timeout(_ verdict: Verdict) -> Int {
        switch verdict {
        case .balance, .proxy: 1500
        case .reject: 2500
        case .drop, .passthrough: 250
        }
    }

    private func isRefused(_ result: FlowResult, _ expected: Set<Int32>, _ probe: Probe) -> Bool {
        // A datagram that the output hook discards fails the send itself.
        let fromNode: Set<Int32> = probe.origin === node.node.host && probe.flow.transport == .udp ? [EPERM] : []
        return result.answered == 0 && !result.errors.isEmpty
            && Set(result.errors.keys).isSubset(of: expected.union(fromNode))
    }

    /// The proxy, a listener that answers with what SO_ORIGINAL_DST says, has the connection and knows the service.
    private func isProxied(_ result: FlowResult, _ listener: SocketAddress, _ probe: Probe) -> Bool {
        let dialled = probe.flow.destination
        let isSourceKept = result.clients.keys.allSatisfy { $0 == probe.flow.source } || probe.origin === node.node.host
        return result.failed == 0 && result.names == [dialled.description] && Set(result.peers.keys) == [dialled]
            && isSourceKept
    }

    private func isBalancedRight(
        _ probe: Probe, _ result: FlowResult, _ candidates: [SocketAddress], _ rule: SourceRule
    ) -> Bool {
        guard result.failed == 0, result.names.isSubset(of: Set(candidates.map(\.description))),
            Set(result.peers.keys) == [probe.flow.destination]
        else { return false }
        // Translation at connect time leaves the source alone; there is no packet to rewrite.
        let isTranslatedAtConnect = kind == .ebpf && probe.origin !== node.client && probe.origin !== node.remotePods[0]
        if isTranslatedAtConnect { return true }
        let source = probe.flow.source
        if case .keepExceptHairpin = rule, candidates.contains(where: { $0.address == source }) { return true }
        return result.clients.keys.allSatisfy {
            rule == .masquerade ? $0 != source || probe.origin === node.node.host : $0 == source
        }
    }
}
