/// The kernel state outlives the agent: killed at any moment, no connection is lost and none fails.
import Addressing
import Glibc
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct RestartTests {
    @Test(arguments: DataplaneKind.allCases) func killingTheAgentUnderLoadLosesNothing(dataplane: DataplaneKind) throws
    {
        var random = SeededGenerator()
        try Lab.with { lab in
            let node = try lab.addNode()
            let client = try node.addPod("client-pod")
            let pods = try (0..<4).map { try node.addPod("pod-\($0)") }
            for pod in pods { try pod.serve() }
            let manifests = try ManifestFolder()
            var service = TestService(name: "web", number: 10, pods: pods)
            try manifests.write(service)
            let agent = try RunningAgent(on: node, dataplane, manifests)

            let held = try client.hold(20, to: service.v4)
            let storm = try client.storm(.tcp, to: service.v4, timeoutMs: 5000)
            for _ in 0..<8 {
                // Backends come and go, but all of them live on, so any answer is a right one.
                service.pods = pods.filter { _ in Bool.random(using: &random) }
                if service.pods.isEmpty { service.pods = [pods[0]] }
                try manifests.write(service)
                let moment = monotonicNs() + UInt64.random(in: 0..<30_000_000, using: &random)
                try eventually("the moment to kill") { monotonicNs() >= moment }
                try agent.killAbruptly()
                #expect(try client.flow(.tcp, to: service.v4, count: 20).failed == 0)
                try agent.start()
                try agent.waitUntilInSync()
                try agent.agentctl("verify")
                let result = try client.flow(.tcp, to: service.v4, count: 40)
                #expect(result.names.isSubset(of: service.pods.map(\.name)) && result.failed == 0, "\(result)")
            }
            let connections = try storm.stop()
            let failures = connections.filter { $0.error != 0 }
            #expect(connections.count > 1000)
            #expect(failures.isEmpty, "\(failures.count) of \(connections.count), errno \(Set(failures.map(\.error)))")
            let report = try held.release()
            #expect(report.alive == 20 && report.errors.isEmpty, "\(report)")
        }
    }

    @Test func twoAgentsWithEBPFShareAMachine() throws {
        try Lab.with { lab in
            let nodes = try (0..<2).map { _ in try lab.addNode() }
            let servers = try nodes.map { try $0.addPod("server-\($0.index)") }
            let clients = try nodes.map { try $0.addPod("client-\($0.index)") }
            for server in servers { try server.serve() }
            let common = TestService(name: "common", number: 10, pods: servers)
            var agents: [RunningAgent] = []
            for node in nodes {
                let manifests = try ManifestFolder()
                try manifests.write(common)
                // Each node also has a service that the other has never heard of.
                try manifests.write(TestService(name: "own", number: UInt8(20 + node.index), pods: servers))
                agents.append(try RunningAgent(on: node, .ebpf, manifests))
            }
            for (node, client) in zip(nodes, clients) {
                let result = try client.flow(.tcp, to: common.v4, count: 30)
                #expect(result.names == ["server-1", "server-2"] && result.failed == 0, "\(result)")
                let own = TestService(name: "own", number: UInt8(20 + node.index))
                let foreign = TestService(name: "own", number: UInt8(20 + 3 - node.index))
                #expect(try client.flow(.tcp, to: own.v6, count: 5).answered == 5)
                #expect(try client.flow(.tcp, to: foreign.v6, timeoutMs: 200).answered == 0)
            }
            // Removing one leaves the other alone.
            _ = try agents[0].stop()
            try agents[0].agentctl("cleanup")
            #expect(try clients[0].flow(.tcp, to: common.v4, timeoutMs: 200).answered == 0)
            #expect(try clients[1].flow(.tcp, to: common.v4, count: 20).answered == 20)
            try agents[1].agentctl("verify")
        }
    }
}
