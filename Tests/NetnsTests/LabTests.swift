/// The lab all tests on real kernels stand on: pods reach each other as in a cluster, and nothing is left behind.
import Addressing
import Glibc
import Netns
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2)) struct LabTests {
    @Test func podsNodesAndOutsideReachEachOther() throws {
        try Lab.with { lab in
            let first = try lab.addNode()
            let second = try lab.addNode()
            let client = try first.addPod("client-pod")
            let near = try first.addPod("near")
            let far = try second.addPod("far")
            let outside = try lab.addExternalClient()
            for server in [near, far] {
                try server.listen(.tcp, 8080)
                try server.listen(.udp, 8080)
                for from in [client, first.host, second.host, outside] {
                    for (kind, family) in Pod.Kind.allCases.flatMap({ kind in AddressFamily.allCases.map { (kind, $0) }
                    }) {
                        let destination = SocketAddress(server.address(family), 8080)
                        let result = try from.flow(kind, to: destination, count: 3)
                        #expect(result.hits == [server.name: 3], "\(from.name) to \(server.name), \(kind): \(result)")
                        #expect(result.peers == [destination: 3])
                    }
                }
            }
            let seen = try client.flow(.tcp, to: SocketAddress(far.v4, 8080))
            #expect(seen.clients == [client.v4: 1])
        }
    }

    @Test func failuresHaveTheirNames() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let client = try node.addPod("client-pod")
            let server = try node.addPod("server")
            try server.listen(.tcp, 8080)
            for kind in Pod.Kind.allCases {
                let refused = try client.flow(kind, to: SocketAddress(server.v6, 81), count: 3)
                #expect(refused.errors == [ECONNREFUSED: 3], "\(kind)")
                // The kernel does not tell a connected UDP socket of an unreachable network.
                let unknown = try client.flow(kind, to: SocketAddress(IPAddress(v4: 0x0a60_0001), 80), timeoutMs: 300)
                #expect(unknown.errors == [kind == .udpConnected ? ETIMEDOUT : ENETUNREACH: 1], "\(kind)")
            }
            try server.unlisten(.tcp, 8080)
            #expect(try client.flow(.tcp, to: SocketAddress(server.v4, 8080)).errors == [ECONNREFUSED: 1])
        }
    }

    @Test func heldConnectionsNoticeTheDeathOfTheirServer() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let client = try node.addPod("client-pod")
            let server = try node.addPod("server")
            try server.listen(.tcp, 8080)
            let held = try client.hold(10, to: SocketAddress(server.v4, 8080))
            try eventually("traffic flows") { try held.report().exchanges > 100 }
            #expect(try held.report().alive == 10)
            server.stop()
            try eventually("the connections break") { try held.report().alive == 0 }
            #expect(try held.release().errors.values.reduce(0, +) == 10)
        }
    }

    @Test func aStormRecordsEveryConnection() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let client = try node.addPod("client-pod")
            let server = try node.addPod("server")
            try server.listen(.udp, 8080)
            let begin = monotonicNs()
            let storm = try client.storm(.udpConnected, to: SocketAddress(server.v4, 8080), threads: 2)
            try eventually("time passes") { monotonicNs() - begin > 200_000_000 }
            let connections = try storm.stop()
            #expect(connections.count > 100)
            #expect(connections.allSatisfy { $0.name == "server" && $0.error == 0 })
            #expect(connections.allSatisfy { begin < $0.start && $0.start < $0.end && $0.end < monotonicNs() })
        }
    }

    @Test func podsAreFoundThroughTheirCgroup() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let pods = try ["a", "b"].map { try node.addPod($0) }
            let tree = try CgroupTree(path: node.cgroup)
            #expect(try tree.processes().isEmpty)
            for pod in pods { try pod.listen(.tcp, 80) }
            let found = try Set(tree.networkNamespaces().map(\.id))
            #expect(found == Set(try pods.map { try $0.namespace().id }))
            #expect(try tree.processes().count == 2)
        }
    }

    @Test func programsRunInsideThePod() throws {
        try Lab.with { lab in
            let pod = try lab.addNode().addPod("a")
            #expect(try pod.run(["ip", "-4", "address", "show", "eth0"]).contains("\(pod.v4)/32"))
            #expect(throws: TestFailure.self) { try pod.run(["false"]) }
            let child = try pod.spawn(["sleep", "100"])
            let cgroup = try CgroupTree(path: pod.cgroup)
            try eventually("the child is in the pod's cgroup") { try cgroup.processes().contains(child.pid) }
            child.signal(SIGTERM)
            #expect(try child.wait() == 128 + SIGTERM)
        }
    }

    @Test func nothingIsLeftBehindAlsoAfterAFailure() throws {
        var prefix = ""
        #expect(throws: TestFailure.self) {
            try Lab.with { lab in
                prefix = lab.prefix
                let pod = try lab.addNode().addPod("a")
                _ = try pod.spawn(["sleep", "100"])
                throw TestFailure("on purpose")
            }
        }
        let leftovers = (directoryEntries(NetworkNamespace.directory) + directoryEntries(Cgroup2.root ?? "")).filter {
            $0 == prefix || $0.hasPrefix(prefix + "-")
        }
        #expect(leftovers == [])
    }
}
