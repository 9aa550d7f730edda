/// An API server in every kind of trouble, under edits: no connection fails meanwhile, and in the end the kernel holds
/// what the server has.
import Addressing
import FakeAPIServer
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct ChaosTests {
    @Test func anAPIServerInTroubleBreaksNoConnection() async throws {
        var random = SeededGenerator()
        try await Lab.with { lab in
            let node = try lab.addNode()
            let client = try node.addPod("client-pod")
            let pods = try (0..<4).map { try node.addPod("pod-\($0)") }
            for pod in pods { try pod.serve() }
            let api = try await APIServerOnNode(node)
            var service = TestService(name: "web", number: 10, pods: pods)
            try api.write(service)
            let agent = try RunningAgent(on: node, .ebpf, api)

            let storm = try client.storm(.tcp, to: service.v4, timeoutMs: 5000)
            // Only once: a second empty list in a row would be believed, as it must be.
            api.server.fail(.services, .empty)
            for step in 0..<80 {
                // Every pod lives on, so any answer is a right one.
                service.pods = pods.filter { _ in Bool.random(using: &random) }
                if service.pods.isEmpty { service.pods = [pods[0]] }
                try api.write(service)
                trouble(api.server, using: &random)
                let moment = monotonicNs() + UInt64.random(in: 0..<200_000_000, using: &random)
                try eventually("the next step, after \(step)") { monotonicNs() >= moment }
            }
            api.server.forgetFaults()
            service.pods = [pods[3]]
            try api.write(service)
            do {
                try eventually("the last edit is in force", within: .seconds(60)) {
                    try client.flow(.tcp, to: service.v4, count: 20).names == ["pod-3"]
                }
            } catch { throw TestFailure("\(error)\n\(try agent.agentctl("status", "-o", "wide"))") }
            try agent.agentctl("verify")
            let connections = try storm.stop()
            let failures = connections.filter { $0.error != 0 }
            #expect(connections.count > 1000)
            #expect(failures.isEmpty, "\(failures.count) of \(connections.count), errno \(Set(failures.map(\.error)))")
            await api.server.stop()
        }
    }

    private func trouble(_ server: FakeAPIServer, using random: inout SeededGenerator) {
        let resource: FakeResource = Bool.random(using: &random) ? .services : .endpointslices
        switch Int.random(in: 0..<14, using: &random) {
        case 0: server.fail(resource, .status(500))
        case 1: server.fail(resource, .status(429, headers: ["Retry-After": "1"]))
        case 2: server.fail(resource, .status(401), .status(503))
        case 3: server.fail(resource, .cut(afterBytes: Int.random(in: 0..<600, using: &random)))
        case 4: server.fail(resource, .drip(bytes: 7))
        case 5: server.fail(resource, .body("<html>no</html>"))
        case 6: server.fail(resource, .endAtOnce)
        case 7: server.sendRaw(resource, #"{"type":"MODIFIED","object":{"kind":"Ser"# + "\n")
        case 8: server.forgetHistory()
        case 9: server.endWatches(resource)
        case 10: server.bookmark(resource)
        case 11: server.dropConnections()
        default: break
        }
    }
}
