/// `agentctl sockets --stale`: real connections whose backend was removed are shown and ended, and no others.
import Addressing
import FoundationEssentials
import Glibc
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct StaleSocketsTests {
    @Test(arguments: DataplaneKind.allCases, AddressFamily.allCases)
    func onlyConnectionsToRemovedBackendsEnd(dataplane: DataplaneKind, family: AddressFamily) throws {
        try Lab.with { lab in
            let test = try Stage(lab, dataplane)
            let a = test.pods[0]
            let open = try test.open(test.web.address(family), from: test.client, until: ["a", "b"])
            let fromNode = try test.open(test.web.address(family), from: test.node.host, until: ["a", "b"])
            let other = try test.client.open(.tcp, to: test.other.address(family))
            let direct = try test.client.open(
                .tcp, to: SocketAddress(a.address(family), TestService.targetPort))
            #expect(try test.stale() == [])

            var web = test.web
            web.pods = [test.pods[1]]
            try test.manifests.write(web)
            let count = open.onA.count + fromNode.onA.count
            try eventually("they are stale") { try test.stale().count == count }
            let stale = try test.stale()
            #expect(Set(stale.map(\.local)).count == count)
            for socket in stale {
                #expect(socket.protocol == "TCP" && socket.state == "established")
                #expect(socket.service == "default/web:t")
                #expect(socket.dialled == "\(web.address(family))")
                #expect(socket.peer == "\(SocketAddress(a.address(family), TestService.targetPort))")
                #expect(socket.command == "pod-driver" && socket.pid.map { kill($0, 0) } == 0)
                #expect(socket.removedSecondsAgo != nil && socket.isTracked == (dataplane == .nftables))
                let isClient = socket.local.contains("\(test.client.address(family))")
                #expect(socket.pod == (isClient ? "default/visitor" : nil))
            }
            let table = try test.agent.agentctl("sockets", "--stale")
            #expect(table.contains("established") && table.contains("default/web:t"), "\(table)")

            // Back again: no more stale, and not ended.
            try test.manifests.write(test.web)
            try eventually("they are not stale") { try test.stale() == [] }
            #expect(
                try test.agent.agentctl("sockets", "--stale", "--kill") == "no connection goes to a removed backend\n")
            try test.manifests.write(web)
            try eventually("they are stale again") { try test.stale().count == count }

            let killed = try test.agent.agentctl("sockets", "--stale", "--kill")
            let entries = dataplane == .nftables ? count : 0
            #expect(killed.contains("\nended \(count) sockets, deleted \(entries) conntrack entries\n"), "\(killed)")
            for socket in open.onA + fromNode.onA {
                let result = try socket.ask()
                #expect(result.answered == 0 && result.errors[ECONNABORTED] == 1, "\(result)")
            }
            for socket in open.others + fromNode.others + [other, direct] {
                #expect(try socket.ask().answered == 1)
            }
            #expect(try test.stale() == [])
        }
    }

    /// A client outside has no socket here: only its conntrack entry can go. Its next packet meets another backend.
    @Test func aClientOutsideIsCutOff() throws {
        try Lab.with { lab in
            let test = try Stage(lab, .nftables)
            // Its pods would be in use otherwise.
            test.manifests.remove("web")
            let outside = try lab.addExternalClient()
            func write(_ pods: [Pod]) throws {
                try test.manifests.write("outside", Self.nodePortService(pods))
            }
            try write(Array(test.pods[..<2]))
            try test.agent.waitUntilInSync()
            let address = SocketAddress(test.node.host.v4, 30080)
            try eventually("the node port answers") { try outside.flow(.tcp, to: address).answered == 1 }
            let open = try test.open(address, from: outside, until: ["a", "b"])
            try write([test.pods[1]])
            try eventually("they are stale") { try test.stale().count == open.onA.count }
            for socket in try test.stale() {
                #expect(socket.service == "default/outside:t" && socket.pid == nil && socket.pod == nil)
                #expect(socket.local.hasPrefix("\(outside.v4):") && socket.state == "established")
            }
            let killed = try test.agent.agentctl("sockets", "--stale", "--kill")
            let entries = open.onA.count == 1 ? "1 conntrack entry" : "\(open.onA.count) conntrack entries"
            #expect(killed.contains("\nended 0 sockets, deleted \(entries)\n"), "\(killed)")
            for socket in open.onA { #expect(try socket.ask().errors == [ECONNRESET: 1]) }
            for socket in open.others { #expect(try socket.ask().answered == 1) }
        }
    }

    private static func nodePortService(_ pods: [Pod]) -> String {
        """
        apiVersion: v1
        kind: Service
        metadata: {name: outside, namespace: default}
        spec:
          type: NodePort
          clusterIP: 10.96.0.12
          ports: [{name: t, port: 80, nodePort: 30080}]
        ---
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: outside-4, namespace: default, labels: {kubernetes.io/service-name: outside}}
        addressType: IPv4
        ports: [{name: t, port: \(TestService.targetPort)}]
        endpoints: [\(pods.map { "{addresses: [\($0.v4)], conditions: {ready: true}}" }.joined(separator: ", "))]

        """
    }

    /// Also with an agent that was not there when it happened.
    @Test(arguments: DataplaneKind.allCases) func aServiceThatIsGoneLeavesThem(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let test = try Stage(lab, dataplane)
            let socket = try test.client.open(.tcp, to: test.web.v4)
            test.manifests.remove("web")
            try eventually("it is stale") { try test.stale().map(\.service) == ["default/web:t"] }
            try test.agent.killAbruptly()
            let error = #expect(throws: TestFailure.self) { try test.agent.agentctl("sockets", "--stale") }
            #expect(error?.description.contains("start heddle-agent") == true)
            guard dataplane == .ebpf else { return }
            try test.agent.start()
            try test.agent.waitUntilInSync()
            #expect(try test.stale().map(\.service) == [nil])
            try test.agent.agentctl("sockets", "--stale", "--kill")
            #expect(try socket.ask().errors == [ECONNABORTED: 1])
        }
    }
}

/// A node with two pods behind one service, one behind another, and a client.
private struct Stage {
    let node: LabNode
    let pods: [Pod]
    let client: Pod
    let web: TestService
    let other: TestService
    let manifests: ManifestFolder
    let agent: RunningAgent

    struct Socket: Decodable, Equatable {
        var `protocol`: String
        var state: String
        var local: String
        var peer: String
        var dialled: String
        var service: String?
        var removedSecondsAgo: Double?
        var pod: String?
        var pid: Int32?
        var command: String?
        var isTracked: Bool
    }

    init(_ lab: Lab, _ dataplane: DataplaneKind) throws {
        let node = try lab.addNode()
        self.node = node
        pods = try ["a", "b", "c"].map { try node.addPod($0) }
        for pod in pods { try pod.serve() }
        client = try node.addPod("visitor")
        web = TestService(name: "web", number: 10, pods: Array(pods[..<2]))
        other = TestService(name: "other", number: 11, pods: [pods[2]])
        manifests = try ManifestFolder()
        try manifests.write(web)
        try manifests.write(other)
        try manifests.write(
            "visitor",
            """
            apiVersion: v1
            kind: Pod
            metadata: {name: visitor, namespace: default, uid: "1"}
            spec: {nodeName: \(node.name)}
            status: {podIPs: [{ip: \(client.v4)}, {ip: "\(client.v6)"}]}

            """)
        agent = try RunningAgent(on: node, dataplane, manifests, options: ["--node-port-addresses", "all"])
    }

    func stale() throws -> [Socket] {
        struct Answer: Decodable {
            var sockets: [Socket]
        }
        let text = try agent.agentctl("sockets", "--stale", "-o", "json")
        return try JSONDecoder().decode(Answer.self, from: Data(text.utf8)).sockets
    }

    /// Opens connections until each of these servers has one.
    func open(
        _ address: SocketAddress, from pod: Pod, until names: Set<String>
    ) throws -> (onA: [OpenSocket], others: [OpenSocket]) {
        var sockets: [OpenSocket] = []
        while !names.isSubset(of: sockets.reduce(into: Set()) { $0.formUnion($1.opening.names) }) {
            sockets.append(try pod.open(.tcp, to: address))
        }
        return (
            sockets.filter { $0.opening.names == ["a"] }, sockets.filter { $0.opening.names != ["a"] }
        )
    }
}
