/// A routed service with the real agent and the real proxy: requests meet the rules of the route, and go on doing so
/// while agent and proxy are killed and come back.
import Addressing
import Glibc
import Netns
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct ProxiedServiceTests {
    private let route = """
        apiVersion: gateway.networking.k8s.io/v1
        kind: HTTPRoute
        metadata: {name: canary, namespace: default}
        spec:
          parentRefs: [{group: "", kind: Service, name: web}]
          rules:
          - matches: [{headers: [{name: x-canary, value: "yes"}]}]
            backendRefs: [{name: v2, port: 80}]
          - matches: [{path: {type: Exact, value: /nowhere}}]
            backendRefs: [{name: absent, port: 80}]
          - backendRefs: [{name: v1, port: 80, weight: 90}, {name: v2, port: 80, weight: 10}]
        """

    @Test(arguments: DataplaneKind.allCases) func requestsGoWhereTheRouteSays(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let client = try node.addPod("client-pod")
            let (old, new) = (try node.addPod("old"), try lab.addNode().addPod("new"))
            let backends = try [(old, "old"), (new, "new")].flatMap { pod, name in
                try AddressFamily.allCases.map { family in
                    try pod.namespace().run {
                        try TestBackend(name, at: SocketAddress(pod.address(family), TestService.targetPort))
                    }
                }
            }
            defer { for backend in backends { backend.stop() } }
            let web = TestService(name: "web", number: 10, pods: [old, new])
            let manifests = try ManifestFolder()
            try manifests.write(web)
            try manifests.write(TestService(name: "v1", number: 11, pods: [old]))
            try manifests.write(TestService(name: "v2", number: 12, pods: [new]))
            try manifests.write("route", route)
            let agent = try RunningAgent(on: node, dataplane, manifests)
            try eventually("the proxy answers") { try status(client, web.v4, "/nowhere") == "500" }

            for pod in [client, node.host] {
                for family in AddressFamily.allCases {
                    let canary = try ask(pod, web.address(family), count: 10, "-H", "X-Canary: yes")
                    #expect(canary == ["new": 10], "\(pod.name) \(family)")
                    // One at a time: Debian 12's curl cannot use such a connection twice, with any server.
                    for _ in 0..<3 {
                        let options = ["-H", "X-Canary: yes", "--http2-prior-knowledge"]
                        let answered = try ask(pod, web.address(family), count: 1, options)
                        #expect(answered == ["new": 1], "\(pod.name) \(family) HTTP/2")
                    }
                    let usual = try ask(pod, web.address(family), count: 200)
                    // 20 are expected; five standard deviations are 21.
                    #expect(usual["old", default: 0] + usual["new", default: 0] == 200, "\(pod.name): \(usual)")
                    #expect((1...41).contains(usual["new", default: 0]), "\(pod.name) \(family): \(usual)")
                }
            }
            let upstreams = try agent.agentctl("proxy", "upstreams")
            #expect(upstreams.contains("\(old.v4):8080") && upstreams.contains("\(new.v4):8080"), "\(upstreams)")
            let seen = try #require(backends.first { $0.address.address == new.v4 }?.requests.first)
            #expect(seen.header("host") == "\(web.v4.address)" && seen.header("x-canary") == "yes")
            #expect(seen.header("x-request-id") != nil && seen.header("x-forwarded-for") != nil)

            let log = try agent.agentctl("logs", "--contains", "/nowhere", "-n", "1")
            #expect(log.contains("/nowhere HTTP/1.1\" 500") && log.split(separator: "\n").count == 1, "\(log)")

            // Without the agent the proxy goes on.
            try agent.killAbruptly()
            #expect(try ask(client, web.v4, count: 20, "-H", "X-Canary: yes") == ["new": 20])
            try agent.start()
            try agent.waitUntilInSync()
            #expect(try ask(client, web.v4, count: 20, "-H", "X-Canary: yes") == ["new": 20])

            // A proxy that dies is started again.
            try eventually("the proxy comes to the new agent") { try proxyProcess(agent) != nil }
            let pid = try #require(try proxyProcess(agent))
            kill(pid, SIGKILL)
            try eventually("another proxy") { try proxyProcess(agent).map { $0 != pid } == true }
            try eventually("the proxy answers again") {
                (try? ask(client, web.v4, count: 5, "-H", "X-Canary: yes")) == ["new": 5]
            }

            // The end of the route is the end of the detour.
            manifests.remove("route")
            try eventually("no route, both versions") { (try? status(client, web.v4, "/nowhere")) == "200" }
        }
    }

    /// Answers by backend of `count` requests on one connection.
    private func ask(_ pod: Pod, _ address: SocketAddress, count: Int, _ options: String...) throws -> [String: Int] {
        try ask(pod, address, count: count, options)
    }
    private func ask(_ pod: Pod, _ address: SocketAddress, count: Int, _ options: [String]) throws -> [String: Int] {
        let command = ["curl", "-sSgi", "--max-time", "10"] + options
        let text = try pod.run(command + (0..<count).map { "http://\(address)/?\($0)" })
        var result: [String: Int] = [:]
        for line in text.split(whereSeparator: \.isNewline) where line.hasPrefix("x-backend: ") {
            result[String(line.dropFirst("x-backend: ".count)), default: 0] += 1
        }
        return result
    }
    private func status(_ pod: Pod, _ address: SocketAddress, _ path: String) throws -> String {
        try pod.run(
            ["curl", "-sg", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_code}", "http://\(address)\(path)"])
    }
    private func proxyProcess(_ agent: RunningAgent) throws -> pid_t? {
        let text = try agent.agentctl("proxy", "-o", "json")
        guard let range = text.firstRange(of: "\"pid\"") else { return nil }
        return pid_t(text[range.upperBound...].drop { !$0.isNumber && $0 != "," }.prefix { $0.isNumber })
    }
}
