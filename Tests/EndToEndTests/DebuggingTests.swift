/// What `agentctl` shows of a real node, with both dataplanes.
import Glibc
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct DebuggingTests {
    @Test(arguments: DataplaneKind.allCases) func theKernelIsSeenToFollow(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let pods = try ["a", "b"].map { try node.addPod($0) }
            let manifests = try ManifestFolder()
            var service = TestService(name: "web", number: 10, pods: pods)
            try manifests.write(service)
            try manifests.write(TestService(name: "empty", number: 11))
            try manifests.write("sticky", Self.stickyService)
            let agent = try RunningAgent(on: node, dataplane, manifests)
            let difference = try agent.agentctl("dump-maps", "--diff")
            #expect(difference == "no difference\n")
            let raw = try agent.agentctl("dump-maps", "--raw", "--address", "\(pods[1].v4)")
            let line = "service=default/web:t kind=ClusterIP frontend=10.96.0.10:80/TCP action=balance policy=Cluster"
            #expect(raw.hasPrefix("\(line) affinity=0 backend=\(pods[0].v4):8080 state=active local=yes weight=1\n"))

            let directory = try TemporaryDirectory()
            let log = directory.path + "/watch"
            let watch = try agent.startAgentctl(
                "dump-maps", "--watch", "--interval", "20ms", "--raw", "--service", "default/web", log: log)
            try eventually("the first state is shown") { readText(log).contains("backend=\(pods[1].v4):8080") }
            service.pods = [pods[0]]
            try manifests.write(service)
            try eventually("the change is shown") {
                readText(log).contains(
                    "\n- \(line) affinity=0 backend=\(pods[1].v4):8080 state=active local=yes weight=1\n")
            }
            #expect(!readText(log).contains("backend=\(pods[0].v4):8080 state=terminating"))
            watch.signal(SIGTERM)
            _ = try watch.wait()
            try agent.agentctl("dump-maps", "--diff", "-o", "json")
        }
    }

    @Test func aReportIsWholeWithAndWithoutTheAgent() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let manifests = try ManifestFolder()
            try manifests.write(TestService(name: "web", number: 10, pods: [try node.addPod("a")]))
            let agent = try RunningAgent(on: node, .ebpf, manifests)
            let folder = try TemporaryDirectory()
            func report(_ name: String, _ part: String) throws -> String {
                let path = "\(folder.path)/\(name).tar.gz"
                if access(path, F_OK) != 0 { try agent.agentctl("bugreport", "--file", path) }
                return try run(["tar", "-xzOf", path, "heddle-bugreport/\(part)"])
            }
            #expect(try report("up", "dump-maps.txt").contains("service=default/web:t kind=ClusterIP"))
            #expect(try report("up", "status.json").contains("[ended with status 0]"))
            #expect(try report("up", "node/proc/version").contains("Linux"))
            try agent.killAbruptly()
            // The kernel can still be asked; what cannot says why.
            #expect(try report("down", "dump-maps.txt").contains("service=default/web:t kind=ClusterIP"))
            let status = try report("down", "status.txt")
            #expect(status.contains("agentctl: ") && status.contains("[ended with status 1]"), "\(status)")
        }
    }

    private static let stickyService = """
        apiVersion: v1
        kind: Service
        metadata: {name: sticky, namespace: default}
        spec:
          type: NodePort
          clusterIP: 10.96.0.12
          externalTrafficPolicy: Local
          sessionAffinity: ClientIP
          ports: [{name: t, port: 80, nodePort: 30080, protocol: TCP}, {name: s, port: 81, protocol: SCTP}]
        ---
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: sticky-4, namespace: default, labels: {kubernetes.io/service-name: sticky}}
        addressType: IPv4
        ports: [{name: t, port: 8080, protocol: TCP}, {name: s, port: 8081, protocol: SCTP}]
        endpoints:
        - {addresses: [10.244.9.1], conditions: {ready: true}, nodeName: elsewhere}
        - {addresses: [10.244.9.2], conditions: {ready: false, serving: true, terminating: true}, nodeName: elsewhere}

        """
}
