/// The next agent is told, or finds, another dataplane: it takes over from the one before without a gap, and nothing of
/// that one steers connections afterwards.
import Addressing
import Glibc
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct DataplaneChangeTests {
    enum Setup: String, CaseIterable, Sendable {
        case ebpf, external, alone, nftables

        var dataplane: DataplaneKind { self == .nftables ? .nftables : .ebpf }
        var options: [String] {
            switch self {
            case .ebpf, .nftables: []
            case .external: ["--companion", "external"]
            case .alone: ["--companion", "off"]
            }
        }
        static let changes: [(Setup, Setup)] = [
            (.ebpf, .nftables), (.alone, .nftables), (.nftables, .ebpf), (.nftables, .external), (.nftables, .alone),
            (.ebpf, .alone),
        ]
    }

    @Test(arguments: Setup.changes) func theNextDataplaneTakesOverWithoutAGap(from: Setup, to: Setup) throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let client = try node.addPod("client-pod")
            let pods = try ["a", "b"].map { try node.addPod($0) }
            for pod in pods { try pod.serve() }
            let manifests = try ManifestFolder()
            var web = TestService(name: "web", number: 10, pods: [pods[0]])
            try manifests.write(web)
            let agent = try RunningAgent(on: node, from.dataplane, manifests, options: from.options)
            let storm = try client.storm(.tcp, to: web.v4, timeoutMs: 5000)
            let held = try client.hold(5, to: web.v4)

            try agent.restart(with: to.dataplane, options: to.options)
            web.pods = [pods[1]]
            try manifests.write(web)
            try agent.waitUntilInSync()
            for pod in [client, node.host] {
                for kind in Pod.Kind.allCases {
                    try eventually("\(pod.name) \(kind) reaches the endpoint that is left") {
                        try pod.flow(kind, to: web.v4).names == ["b"]
                    }
                    let result = try pod.flow(kind, to: web.v4, count: 20)
                    #expect(result.names == ["b"] && result.failed == 0, "\(pod.name) \(kind): \(result)")
                }
            }
            let connections = try storm.stop()
            #expect(connections.count > 100 && Set(connections.map(\.error)) == [0])
            // Established connections go on.
            let report = try held.release()
            #expect(report.alive == 5 && report.errors.isEmpty, "\(report)")
            #expect(try agent.agentctl("verify") == "no difference\n")
            #expect(try agent.agentctl("dump-maps", "--diff") == "no difference\n")
            #expect(try agent.agentctl("dump-maps").contains("dataplane \(to.dataplane.rawValue)"))
            if to == .nftables { #expect(access(node.bpffs + "/links", F_OK) != 0) }
            if to == .alone { #expect(try servicesInRules(node) == 0) }
        }
    }

    /// What comes back, or is put there by an agent that nobody has stopped, is seen and goes again.
    @Test func anotherDataplaneIsDrift() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let pod = try node.addPod("a")
            try pod.serve()
            let manifests = try ManifestFolder()
            let web = TestService(name: "web", number: 10, pods: [pod])
            try manifests.write(web)
            let agent = try RunningAgent(on: node, .ebpf, manifests)
            try agent.killAbruptly()
            // The pins of the first agent, under the eyes of the second.
            let kept = node.bpffs + "-kept"
            _ = try run(["mv", node.bpffs, kept])
            try agent.restart(with: .nftables, options: [])
            #expect(try agent.agentctl("verify") == "no difference\n")
            _ = try run(["mv", kept, node.bpffs])
            try eventually("the audit has found and removed it", within: .seconds(15)) {
                access(node.bpffs + "/links", F_OK) != 0
            }
            let status = try agent.agentctl("status", "-o", "json")
            #expect(status.contains("link connect4: steers connections as well"), "\(status)")
            #expect(try agent.agentctl("verify") == "no difference\n")
        }
    }

    private func servicesInRules(_ node: LabNode) throws -> Int {
        let rules = try node.host.run(["nft", "list", "ruleset"])
        return rules.split(separator: "\n").count { $0.contains("default/web") }
    }
}
