/// What a tenant may write, with the real agent and the real proxy: endpoints that lead to Heddle itself get nothing,
/// and whose pod a client is decides which routes apply.
import Addressing
import Glibc
import Netns
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct TenantTests {
    private static let ports: [(name: String, port: UInt16)] = [
        ("proxy", 15001), ("stats", 15020), ("metrics", 10249), ("health", 10256), ("canary", 10261),
    ]

    /// A Service with one endpoint.
    private func service(_ name: String, _ number: Int, _ address: IPAddress, _ port: UInt16) -> String {
        """
        apiVersion: v1
        kind: Service
        metadata: {name: \(name), namespace: default}
        spec: {clusterIP: 10.96.0.\(number), ports: [{name: http, port: 80}]}
        ---
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: \(name)-1, namespace: default, labels: {kubernetes.io/service-name: \(name)}}
        addressType: IPv4
        ports: [{name: http, port: \(port)}]
        endpoints: [{addresses: ["\(address)"]}]

        """
    }

    private func rule(_ path: String, to service: String, mirror: String? = nil) -> String {
        "  - matches: [{path: {value: /\(path)}}]\n    backendRefs: [{name: \(service), port: 80}]\n"
            + (mirror.map {
                "    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: \($0), port: 80}}}]\n"
            } ?? "")
    }
    private func route(_ name: String, in namespace: String, _ rules: [String]) -> String {
        """
        apiVersion: gateway.networking.k8s.io/v1
        kind: HTTPRoute
        metadata: {name: \(name), namespace: \(namespace)}
        spec:
          parentRefs: [{group: "", kind: Service, name: web, namespace: default}]
          rules:
        \(rules.joined())
        """
    }

    @Test(arguments: DataplaneKind.allCases) func endpointsNeverLeadToHeddleItself(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let client = try node.addPod("client-pod")
            // A pod on the node's network, which is a legal endpoint.
            let host = try node.host.namespace().run {
                try TestBackend("host", at: SocketAddress(node.host.v4, 8080))
            }
            defer { host.stop() }
            let manifests = try ManifestFolder()
            var rules = [rule("host", to: "host"), rule("mirror", to: "host", mirror: "proxy")]
            try manifests.write("web", service("web", 10, node.host.v4, 8080))
            try manifests.write("host", service("host", 11, node.host.v4, 8080))
            for (index, target) in Self.ports.enumerated() {
                try manifests.write(target.name, service(target.name, 20 + index, node.host.v4, target.port))
                rules.append(rule(target.name, to: target.name))
            }
            try manifests.write("loopback", service("loopback", 30, IPAddress(v4: 0x7f00_0001), 10249))
            try manifests.write("itself", service("itself", 31, IPAddress(v4: 0x0a60_000a), 80))
            rules += [rule("loopback", to: "loopback"), rule("itself", to: "itself")]
            try manifests.write("route", route("r", in: "default", rules))
            let agent = try RunningAgent(on: node, dataplane, manifests)
            try eventually("the proxy answers", within: .seconds(20)) {
                let found = try? status(client, "/nowhere")
                guard found == "404" else { throw TestFailure("\(found ?? "") \(try agent.agentctl("status"))") }
                return true
            }

            #expect(try status(client, "/host") == "200" && status(client, "/mirror") == "200")
            for name in Self.ports.map(\.name) + ["loopback", "itself"] {
                #expect(try status(client, "/\(name)") == "503", "\(name)")
            }
            let findings = try agent.agentctl("status", "-o", "wide")
            for name in Self.ports.map(\.name) + ["itself"] {
                let line = "EndpointSlice default/\(name)-1: endpoints.addresses: no request of a route goes to "
                #expect(findings.contains(line), "\(name): \(findings)")
            }
            #expect(findings.contains("127.0.0.1 is not the address of one endpoint"), "\(findings)")
        }
    }

    @Test(arguments: DataplaneKind.allCases) func theClientsNamespaceDecides(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let (known, unknown) = (try node.addPod("known"), try node.addPod("unknown"))
            let backends = try ["everybody", "theirs"].map { name in
                let pod = try node.addPod(name)
                return try pod.namespace().run { try TestBackend(name, at: SocketAddress(pod.v4, 8080)) }
            }
            defer { for backend in backends { backend.stop() } }
            let manifests = try ManifestFolder()
            try manifests.write("web", service("web", 10, backends[0].address.address, 8080))
            for (index, backend) in backends.enumerated() {
                try manifests.write(backend.name, service(backend.name, 11 + index, backend.address.address, 8080))
            }
            let toTheirs = rule("", to: "theirs").replacing("name: theirs", with: "name: theirs, namespace: default")
            try manifests.write("own", route("own", in: "default", [rule("", to: "everybody")]))
            try manifests.write(
                "theirs",
                route("theirs", in: "customer", [toTheirs]) + "\n---\n"
                    + service("theirs", 12, backends[1].address.address, 8080))
            try manifests.write(
                "pod",
                """
                apiVersion: v1
                kind: Pod
                metadata: {name: known, namespace: customer}
                spec: {nodeName: \(node.name), containers: []}
                status: {phase: Running, podIP: \(known.v4)}

                """)
            let agent = try RunningAgent(on: node, dataplane, manifests)
            try eventually("routed for its namespace") { (try? answering(known)) == "theirs" }
            #expect(try answering(unknown) == "everybody" && answering(node.host) == "everybody")
            let note = try agent.agentctl("proxy", "stats")
            #expect(note.contains("\"heldClients\":1") && note.contains("\"unknownClients\":1"), "\(note)")
            let explained = { (from: String) in
                try agent.agentctl("explain", "--from", from, "--to", "10.96.0.10:80", "--path", "/")
            }
            #expect(try explained("customer/known").contains("customer, which has routes of its own for this Service"))
            #expect(try explained("\(unknown.v4)").contains("UNKNOWN: no pod of this node"))
            #expect(try explained("\(node.host.v4)").contains("none: a process of the node"))
        }
    }

    private func status(_ pod: Pod, _ path: String) throws -> String {
        try pod.run(
            ["curl", "-sg", "--max-time", "10", "-o", "/dev/null", "-w", "%{http_code}", "http://10.96.0.10\(path)"])
    }
    private func answering(_ pod: Pod) throws -> String? {
        let text = try pod.run(["curl", "-sgi", "--max-time", "10", "http://10.96.0.10/"])
        let line = text.split(whereSeparator: \.isNewline).first { $0.hasPrefix("x-backend: ") }
        return line.map { String($0.dropFirst("x-backend: ".count)) }
    }
}
