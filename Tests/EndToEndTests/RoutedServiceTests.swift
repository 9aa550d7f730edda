/// A routed service with the real agent: its connections reach the L7 proxy, which knows what was dialled, and the
/// tools say so. The proxy is a listener that answers with what SO_ORIGINAL_DST tells it.
import Addressing
import Glibc
import RouteIR
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct RoutedServiceTests {
    private let route = """
        apiVersion: gateway.networking.k8s.io/v1
        kind: HTTPRoute
        metadata: {name: canary, namespace: default}
        spec:
          parentRefs: [{group: "", kind: Service, name: web}]
          rules:
          - matches: [{headers: [{name: x-canary, value: "yes"}]}]
            backendRefs: [{name: v2, port: 80}]
          - backendRefs: [{name: web, port: 80, weight: 90}, {name: v2, port: 80, weight: 10}]
        """

    @Test(arguments: DataplaneKind.allCases) func connectionsGoToTheProxyAndBack(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let client = try node.addPod("client-pod")
            let (old, new) = (try node.addPod("old"), try lab.addNode().addPod("new"))
            for pod in [old, new] { try pod.serve() }
            let web = TestService(name: "web", number: 10, pods: [old])
            let manifests = try ManifestFolder()
            try manifests.write(web)
            try manifests.write(TestService(name: "v2", number: 11, pods: [new]))
            let agent = try RunningAgent(on: node, dataplane, manifests, options: ["--proxy", "external"])
            let anywhere = [IPAddress(v4: 0), IPAddress(high: 0, low: 0)].map { SocketAddress($0, 15001) }
            for any in anywhere { try node.host.listen(.tcp, any, name: "@dialled") }
            let proxy = try FakeProxy(socket: agent.proxySocket)
            func answers(_ pod: Pod, _ family: AddressFamily) throws -> Set<String> {
                try pod.flow(.tcp, to: web.address(family), count: 3).names
            }
            #expect(try answers(client, .ipv4) == ["old"])

            // From the route on, every connection is the proxy's.
            try manifests.write("route", route)
            try eventually("the proxy has it") { try answers(client, .ipv4) == ["\(web.v4)"] }
            for pod in [client, node.host] {
                for family in AddressFamily.allCases {
                    let result = try pod.flow(.tcp, to: web.address(family), count: 3)
                    #expect(result.names == ["\(web.address(family))"] && result.failed == 0, "\(pod.name): \(result)")
                    #expect(Set(result.peers.keys) == [web.address(family)], "\(pod.name): \(result)")
                }
                let datagrams = try pod.flow(.udp, to: web.v4, count: 3)
                #expect(datagrams.names == ["old"], "UDP is not routed: \(datagrams)")
            }
            let routed = try #require(proxy.snapshot.services.values.first)
            #expect(routed.frontends == [web.v4, web.v6].sorted() && routed.producerRoutes?.count == 2)
            #expect(proxy.snapshot.upstreams.values.map(\.endpoints.count) == [1, 1])
            try checkTools(agent, web, client)

            // Without a listener they are refused, and the route's end brings the endpoints back.
            proxy.stop()
            for any in anywhere { try node.host.unlisten(.tcp, any) }
            try eventually("refused") {
                Set(try client.flow(.tcp, to: web.v4, timeoutMs: 2500).errors.keys) == [ECONNREFUSED]
            }
            let status = try agent.agentctl("status")
            #expect(status.contains("L7 proxy is down"), "\(status)")
            manifests.remove("route")
            try eventually("balanced again") { try answers(client, .ipv4) == ["old"] }
        }
    }

    private func checkTools(_ agent: RunningAgent, _ web: TestService, _ client: Pod) throws {
        let routes = try agent.agentctl("routes", "default/web")
        #expect(routes.contains("header x-canary=yes") && routes.contains("default/v2:80 10.0%"), "\(routes)")
        let flow = ["explain", "--from", "\(client.v4)", "--to", "\(web.v4)"]
        let canary = try agent.agentctl(flow + ["--path", "/a?b=c", "--header", "X-Canary: yes"])
        #expect(canary.contains("default/canary rule 0: to one of its backends"), "\(canary)")
        let usual = try agent.agentctl(flow + ["--method", "POST"])
        #expect(usual.contains("canary rule 1") && usual.contains("header x-canary is missing"), "\(usual)")
        #expect(try agent.agentctl("proxy").contains("up, 1 routed service ports"))
        #expect(try agent.agentctl("proxy", "upstreams").contains("{\"asked\":\"upstreams\"}"))
        let dump = try agent.agentctl("dump-maps", "-o", "json")
        #expect(dump.contains("\"proxy\""), "\(dump)")
        #expect(try agent.agentctl("verify").contains("no difference") == true)
    }
}
