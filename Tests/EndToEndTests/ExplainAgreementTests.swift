/// `agentctl explain` against the kernel: for random services and real connections from a pod, from the node, from a
/// pod of another node and from outside, the agent's answer and what happens are the same: the verdict, and every
/// backend named is reached and no other.
import Addressing
import FoundationEssentials
import Glibc
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct ExplainAgreementTests {
    @Test(arguments: DataplaneKind.allCases) func theKernelDoesWhatExplainSays(dataplane: DataplaneKind) throws {
        var random = SeededGenerator()
        try Lab.with { lab in
            let cluster = try ExplainedCluster(lab)
            let detectors = ["cluster-cidr", "bridge-interface:cni0", "interface-prefix:cni"]
            let manifests = try ManifestFolder()
            try manifests.write("nodes", cluster.nodes)
            let agent = try RunningAgent(
                on: cluster.node, dataplane, manifests,
                options: ["--detect-local", detectors.randomElement(using: &random) ?? detectors[0]])
            var verdicts: [String: Int] = [:]
            for round in 0..<4 {
                let services = (1...4).map { RandomService(number: $0, round: round, cluster.pods, using: &random) }
                for service in services { try manifests.write("s\(service.number)", service.yaml) }
                try agent.waitUntilSeen(manifests)
                let probes = services.flatMap { cluster.probes($0) } + cluster.strayProbes
                for probe in probes.shuffled(using: &random).prefix(60) {
                    let answer = try agent.explanation(of: probe)
                    verdicts[answer.verdict, default: 0] += 1
                    let complaint = try probe.complaint(answer)
                    #expect(complaint == nil, "round \(round): \(complaint ?? "")")
                }
            }
            #expect(["balance", "drop", "passthrough", "reject"].allSatisfy { verdicts[$0] != nil }, "\(verdicts)")
        }
    }
}

/// What `agentctl explain -o json` says, as far as it is checked.
private struct Answer: Decodable {
    struct Decision: Decodable {
        var source: String
        var object: String?
    }
    struct Endpoint: Decodable {
        var address: String
        var excluded: String?
        var slices: [String]
    }
    var verdict: String
    var service: String?
    var candidates: [String]
    var endpoints: [Endpoint]
    var decisions: [Decision]
    var generation: UInt64
}

extension RunningAgent {
    fileprivate func explanation(of probe: Probe) throws -> Answer {
        let text = try agentctl(
            "explain", "--from", "\(probe.source)", "--to", "\(probe.to)/\(probe.transport)", "-o", "json")
        return try JSONDecoder().decode(Answer.self, from: Data(text.utf8))
    }

    /// Until a service written after all others is in the kernel: files are read in one go.
    fileprivate func waitUntilSeen(_ manifests: ManifestFolder) throws {
        let mark = UInt8.random(in: 200...250)
        try manifests.write(TestService(name: "mark", number: mark))
        try eventually("the manifests are read") {
            try agentctl("dump-maps", "--raw").contains("frontend=10.96.0.\(mark):80/TCP")
        }
        try waitUntilInSync()
    }
}

/// One connection that somebody makes.
private struct Probe {
    let from: Pod
    let to: SocketAddress
    let transport: TransportProtocol
    var isFromNode = false

    var source: IPAddress { from.address(to.address.family) }

    /// nil if the kernel did what was said.
    func complaint(_ answer: Answer) throws -> String? {
        let isBalanced = answer.verdict == "balance"
        // An error reaches only a connected UDP socket.
        let kind: Pod.Kind = transport == .tcp ? .tcp : isBalanced ? .udp : .udpConnected
        let isSticky = answer.decisions.contains { $0.source == "spec.sessionAffinity" }
        var reached = Set<String>()
        var errors = Set<Int32>()
        var tries = 0
        repeat {
            let result = try from.flow(kind, to: to, count: isBalanced ? 10 : 1, timeoutMs: timeout(answer.verdict))
            reached.formUnion(result.names)
            errors.formUnion(result.errors.keys)
            tries += 1
        } while isBalanced && !isSticky && reached != Set(answer.candidates) && tries < 30 && errors.isEmpty
        return isRight(answer, reached, errors, isSticky)
            ? nil
            : "\(kind) from \(from.name) to \(to): should \(answer), reached \(reached), errors "
                + "\(errors.map { String(cString: strerror($0)) })"
    }

    private func isRight(_ answer: Answer, _ reached: Set<String>, _ errors: Set<Int32>, _ isSticky: Bool) -> Bool {
        // A datagram that the output hook discards fails the send itself.
        let discarded: Set<Int32> = isFromNode && transport == .udp ? [EPERM] : []
        switch answer.verdict {
        case "balance":
            let used = answer.endpoints.filter { $0.excluded == nil }
            return errors.isEmpty && Set(used.map(\.address)) == Set(answer.candidates)
                && (isSticky
                    ? reached.count == 1 && reached.isSubset(of: answer.candidates)
                    : reached == Set(answer.candidates))
                && answer.decisions.allSatisfy { $0.object != nil } && used.allSatisfy { !$0.slices.isEmpty }
        case "reject": return reached.isEmpty && errors.isSubset(of: discarded.union([ECONNREFUSED])) && !errors.isEmpty
        case "drop":
            return reached.isEmpty && errors.isSubset(of: discarded.union([ETIMEDOUT, EHOSTUNREACH])) && !errors.isEmpty
        // Whoever has that address answers himself.
        case "passthrough": return reached.isSubset(of: ["\(to)"])
        default: return false
        }
    }

    private func timeout(_ verdict: String) -> Int { verdict == "drop" ? 250 : verdict == "passthrough" ? 500 : 2500 }
}

/// Two nodes, three pods on the first and two on the second, each answering with its own `address:port`, and a client
/// outside.
private struct ExplainedCluster {
    let node: LabNode
    let pods: [Pod]
    private let other: LabNode
    private let remote: Pod
    private let client: Pod

    init(_ lab: Lab) throws {
        let (node, other) = (try lab.addNode(), try lab.addNode())
        (self.node, self.other) = (node, other)
        pods = try (0..<3).map { try node.addPod("pod-\($0)") } + (0..<2).map { try other.addPod("remote-\($0)") }
        remote = pods[3]
        client = try lab.addExternalClient()
        for pod in pods {
            for transport in [TransportProtocol.tcp, .udp] {
                for address in [pod.v4, pod.v6].map({ SocketAddress($0, TestService.targetPort) }) {
                    try pod.listen(transport, address, name: "\(address)")
                }
            }
        }
        for (network, gateway) in [("10.96.0.0/16", node.host.v4), ("fd00:96::/32", node.host.v6)] {
            try run(["ip", "-n", "\(lab.prefix)-router", "route", "add", network, "via", "\(gateway)"])
        }
        // Where the client's address is kept, answers must come back through the node that translated.
        for (network, gateway) in [("\(client.v4)/32", node.host.v4), ("\(client.v6)/128", node.host.v6)] {
            try run(["ip", "-n", "\(lab.prefix)-\(other.name)", "route", "add", network, "via", "\(gateway)"])
        }
    }

    /// The agent knows its addresses from its Node.
    var nodes: String {
        """
        apiVersion: v1
        kind: Node
        metadata: {name: \(node.name)}
        status:
          addresses:
          - {type: InternalIP, address: "\(node.host.v4)"}
          - {type: InternalIP, address: "\(node.host.v6)"}

        """
    }

    func probes(_ service: RandomService) -> [Probe] {
        [TransportProtocol.tcp, .udp].flatMap { transport in
            AddressFamily.allCases.flatMap { family -> [Probe] in
                let nodePort = SocketAddress(node.host.address(family), service.nodePort(transport))
                let inside = [
                    SocketAddress(service.clusterIP(family), 80), SocketAddress(service.clusterIP(family), 81),
                    SocketAddress(service.loadBalancer(family), 80), nodePort,
                ]
                // From another node only to this node's own address: answers would not come back through it.
                return inside.flatMap { from($0, transport) } + [
                    Probe(from: remote, to: nodePort, transport: transport)
                ]
            }
        }
    }

    /// To pods themselves, and to ports that nobody serves.
    var strayProbes: [Probe] {
        AddressFamily.allCases.flatMap { family in
            from(SocketAddress(pods[1].address(family), TestService.targetPort), .tcp)
                + from(SocketAddress(node.host.address(family), 29999), .tcp)
        }
    }

    private func from(_ to: SocketAddress, _ transport: TransportProtocol) -> [Probe] {
        [
            Probe(from: pods[0], to: to, transport: transport), Probe(from: client, to: to, transport: transport),
            Probe(from: node.host, to: to, transport: transport, isFromNode: true),
        ]
    }
}

/// A Service of type LoadBalancer with random policies and endpoints.
private struct RandomService {
    let number: Int
    /// No two rounds have an address or node port in common: a UDP flow of the round before goes on to its backend as
    /// long as that serves (spec row 114), and a new socket that happens to get its source port is the same flow.
    private let place: Int
    private(set) var yaml = ""

    func clusterIP(_ family: AddressFamily) -> IPAddress { address(family, UInt64(place)) }
    func loadBalancer(_ family: AddressFamily) -> IPAddress { address(family, 100 + UInt64(place)) }
    func nodePort(_ transport: TransportProtocol) -> UInt16 { UInt16(30000 + place * 2 + (transport == .udp ? 1 : 0)) }

    private func address(_ family: AddressFamily, _ number: UInt64) -> IPAddress {
        family == .ipv4
            ? IPAddress(v4: 0x0a60_0000 | UInt32(number)) : IPAddress(high: 0xfd00_0096 << 32, low: number)
    }

    init(number: Int, round: Int, _ pods: [Pod], using random: inout SeededGenerator) {
        self.number = number
        place = 4 * round + number
        let policy = { (random: inout SeededGenerator) in random.oneIn(2) ? "Local" : "Cluster" }
        let ranges = ["192.168.60.0/24", "10.244.1.0/24", "fd00:60::/32", "fd00:244:1::/48", "192.168.50.1/32"]
            .filter { _ in random.oneIn(2) }
        let ips = [clusterIP(.ipv4), clusterIP(.ipv6)]
        var text = """
            apiVersion: v1
            kind: Service
            metadata: {name: s\(number), namespace: default}
            spec:
              type: LoadBalancer
              clusterIP: \(ips[0])
              clusterIPs: ["\(ips[0])", "\(ips[1])"]
              ipFamilies: [IPv4, IPv6]
              internalTrafficPolicy: \(policy(&random))
              externalTrafficPolicy: \(policy(&random))
              sessionAffinity: \(random.oneIn(4) ? "ClientIP" : "None")
              loadBalancerSourceRanges: [\(random.oneIn(2) ? "" : ranges.map { "\"\($0)\"" }.joined(separator: ", "))]
              ports:
              - {name: t, port: 80, nodePort: \(nodePort(.tcp)), protocol: TCP}
              - {name: u, port: 80, nodePort: \(nodePort(.udp)), protocol: UDP}
            status:
              loadBalancer:
                ingress: [{ip: "\(loadBalancer(.ipv4))"}, {ip: "\(loadBalancer(.ipv6))"}]

            """
        let some = random.oneIn(5) ? [] : pods.filter { _ in !random.oneIn(3) }
        let conditions = [
            "{ready: true}", "{ready: true}", "{ready: false}", "{ready: false, serving: true, terminating: true}",
        ]
        let states = some.map { _ in conditions.randomElement(using: &random) ?? conditions[0] }
        for family in AddressFamily.allCases {
            let endpoints = zip(some, states).map { pod, state in
                "{addresses: [\"\(pod.address(family))\"], conditions: \(state), nodeName: \(pod.nodeName ?? "")}"
            }
            text += """
                ---
                apiVersion: discovery.k8s.io/v1
                kind: EndpointSlice
                metadata:
                  name: s\(number)-\(family.rawValue)
                  namespace: default
                  labels: {kubernetes.io/service-name: s\(number)}
                addressType: \(family)
                ports:
                - {name: t, port: \(TestService.targetPort), protocol: TCP}
                - {name: u, port: \(TestService.targetPort), protocol: UDP}
                endpoints: [\(endpoints.joined(separator: ", "))]

                """
        }
        yaml = text
    }
}
