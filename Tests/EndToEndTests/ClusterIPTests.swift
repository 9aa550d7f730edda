/// The main job, with the real programs: whoever sits on a node reaches a Service's backends at its cluster IP.
import Addressing
import Glibc
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct ClusterIPTests {
    @Test(arguments: DataplaneKind.allCases, SourceKind.allCases)
    func podsAndTheNodeReachEveryBackend(dataplane: DataplaneKind, source: SourceKind) async throws {
        try await Lab.with { lab in
            let node = try lab.addNode()
            let client = try node.addPod("client-pod")
            let near = try node.addPod("near")
            let far = try lab.addNode().addPod("far")
            for pod in [near, far] { try pod.serve() }
            let service = TestService(name: "web", number: 10, pods: [near, far])
            let source = try await source.make(on: node)
            try source.write(service)
            let agent = try RunningAgent(on: node, dataplane, source)

            for from in [client, node.host] {
                for family in AddressFamily.allCases {
                    for kind in Pod.Kind.allCases {
                        let result = try from.flow(kind, to: service.address(family), count: 30)
                        let what = "\(from.name), \(kind), \(family): \(result)"
                        #expect(result.names == ["near", "far"] && result.failed == 0, "\(what)")
                        #expect(result.peers == [service.address(family): 30], "\(what)")
                    }
                }
                let mapped = try from.flow(.tcp, to: service.v4, count: 30, isMapped: true)
                #expect(mapped.names == ["near", "far"] && mapped.failed == 0, "\(from.name), mapped: \(mapped)")
            }
            // A backend that is its own client (hairpin).
            let own = try near.flow(.tcp, to: service.v4, count: 30)
            #expect(own.names == ["near", "far"] && own.failed == 0, "hairpin: \(own)")
            let status = try agent.stop()
            #expect(status == 0)
            let afterwards = try client.flow(.tcp, to: service.v4, count: 30)
            #expect(afterwards.failed == 0, "the kernel goes on without the agent: \(afterwards)")
        }
    }

    @Test(arguments: DataplaneKind.allCases, SourceKind.allCases)
    func editsTakeEffect(dataplane: DataplaneKind, source: SourceKind) async throws {
        try await Lab.with { lab in
            let node = try lab.addNode()
            let client = try node.addPod("client-pod")
            let pods = try ["a", "b"].map { try node.addPod($0) }
            for pod in pods { try pod.serve() }
            var service = TestService(name: "web", number: 10, pods: pods)
            let source = try await source.make(on: node)
            try source.write(service)
            let agent = try RunningAgent(on: node, dataplane, source)
            func hits() throws -> Set<String> { try client.flow(.tcp, to: service.v4, count: 20, timeoutMs: 200).names }
            #expect(try hits() == ["a", "b"])

            service.pods = [pods[0]]
            try source.write(service)
            try eventually("b is out") { try hits() == ["a"] }

            service.pods = []
            try source.write(service)
            try eventually("connecting is refused without endpoints") {
                try client.flow(.tcp, to: service.v4).errors == [ECONNREFUSED: 1]
            }

            // A document that cannot be read changes nothing.
            service.pods = pods
            try source.write(service)
            try eventually("both are back") { try hits() == ["a", "b"] }
            if let manifests = source as? ManifestFolder {
                try manifests.write("web", "kind: Service\nmetadata: {name: web, namespace: [}\n")
            }
            try source.write(TestService(name: "other", number: 11, pods: [pods[0]]))
            try eventually("the other service is there") {
                try client.flow(.tcp, to: TestService(name: "other", number: 11).v4).names == ["a"]
            }
            #expect(try hits() == ["a", "b"])

            source.remove("web")
            try eventually("the service is gone") { try hits().isEmpty }
            try agent.agentctl("verify")
        }
    }

    @Test(arguments: DataplaneKind.allCases) func whatTheKernelHoldsCanBeRead(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let pod = try node.addPod("a")
            let manifests = try ManifestFolder()
            try manifests.write(TestService(name: "web", number: 10, pods: [pod]))
            let agent = try RunningAgent(on: node, dataplane, manifests)
            let status = try agent.stop()
            #expect(status == 0)
            let dump = try agent.agentctl("dump-maps", "-o", "json")
            for word in [
                "\"\(dataplane.rawValue)\"", "10.96.0.10", "fd00:96::a", "default/web:t", "\(pod.v4)", "\(pod.v6)",
            ] {
                #expect(dump.contains(word), "\(word) in \(dump)")
            }
            try agent.agentctl("cleanup")
            let refused = try node.host.flow(.udp, to: TestService(name: "web", number: 10).v4, timeoutMs: 200)
            #expect(refused.answered == 0)
        }
    }
}
