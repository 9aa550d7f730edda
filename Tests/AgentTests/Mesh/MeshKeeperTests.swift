// The mesh keeper with real pods: found, steered, handed to a proxy, and let go.
import Addressing
import DataplaneIR
import Glibc
import HandOverLink
import LinuxDataplane
import Logging
import Netns
import Posix
import Synchronization
import TestSupport
import Testing

@testable import Agent

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct MeshKeeperTests {
    private final class Proxy: Sendable {
        private let listeners = Mutex<[IPAddress: Int32]>([:])
        var pods: Set<IPAddress> { listeners.withLock { Set($0.keys) } }
        func take(_ event: PodSocketClient.Event) {
            listeners.withLock { listeners in
                switch event {
                case .listen(let descriptor, let pod):
                    if let former = listeners.updateValue(descriptor, forKey: pod) { close(former) }
                case .close(let pod), .unlisten(let pod):
                    if let former = listeners.removeValue(forKey: pod) { close(former) }
                }
            }
        }
    }

    private func program(_ pods: [(pod: Pod, uid: String)], mode: MeshPodProgram.Mode = .permissive) -> MeshProgram {
        var program = MeshProgram()
        for (pod, uid) in pods {
            for address in [pod.v4, pod.v6] {
                program.pods[address] = MeshPodProgram(name: "shop/\(pod.name)", uid: uid, mode: mode)
            }
        }
        return program
    }

    @Test func podsComeChangeAndGo() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let (a, b) = (try node.addPod("a"), try node.addPod("b"))
            for pod in [a, b] { try pod.listen(.tcp, 8080) }
            let path = "/tmp/heddle-keeper-test-\(getpid())-\(UInt32.random(in: 0 ... .max))"
            defer { unlink(path) }
            let clients = Mutex<[[IPAddress]]>([])
            let keeper = MeshKeeper(log: Logger(label: "test"))
            let (bpffs, cgroup) = (node.bpffs, node.cgroup)
            // Its threads live where the thread does that starts them.
            try node.namespace().run {
                try keeper.start { () throws(DataplaneError) in
                    MeshKeeper.Kernel(
                        steering: try BPFSteering(bpffs: bpffs), namespaces: PodNamespaces(cgroup: cgroup),
                        clients: { found, _ in
                            clients.withLock { $0 = Array(found.values) }
                            return true
                        })
                }
            }
            keeper.sockets.connectInside()
            try keeper.sockets.start(on: UnixSocket.bind(path, .packets, mode: 0o600), admitting: [getuid()])
            let proxy = Proxy()
            let client = PodSocketClient(socket: path, log: { _, _ in }, tell: { proxy.take($0) })
            try client.start()

            keeper.apply(program([(a, "1"), (b, "2")]))
            try eventually("both are attached") { keeper.report.values.filter(\.isAttached).count == 4 }
            try eventually("the proxy has their listeners") { proxy.pods == [a.v4, a.v6, b.v4, b.v6] }
            try eventually("their connections are steered") {
                clients.withLock { Set($0) } == [[a.v4, a.v6].sorted(), [b.v4, b.v6].sorted()]
            }
            try eventually("a socket of a pod") {
                guard let socket = client.takeInnerSocket(of: b.v4) else { return false }
                defer { close(socket) }
                let own = try PodSocket.unconnected(.ipv4, in: b.namespace())
                defer { close(own) }
                return PodSocket.namespaceCookie(of: socket) == PodSocket.namespaceCookie(of: own)
            }
            let open = try b.open(.tcp, to: SocketAddress(a.v4, 8080))

            keeper.apply(program([(a, "1"), (b, "2")], mode: .strict))
            try eventually("plaintext is refused") {
                try b.flow(.tcp, to: SocketAddress(a.v4, 8080)).errors[ECONNREFUSED] == 1
            }
            keeper.apply(program([(a, "1")], mode: .strict))
            try eventually("one has left") { proxy.pods == [a.v4, a.v6] }
            #expect(client.takeSocket(of: b.v4) == nil)
            try eventually("what it dials is its own again") {
                clients.withLock { $0 } == [[a.v4, a.v6].sorted()]
            }
            #expect(keeper.report.count == 2)
            #expect(try open.ask().hits == ["a": 1], "what was open goes on")

            keeper.apply(MeshProgram())
            try eventually("all have left") { proxy.pods.isEmpty && keeper.report.isEmpty }
            try eventually("plaintext passes") {
                try b.flow(.tcp, to: SocketAddress(a.v4, 8080)).hits == ["a": 1]
            }
            client.stop()
            keeper.stop()
        }
    }

    @Test func podsAreFoundBeforeTheirFirstProcessAndToldOfWhereMissing() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let (a, b) = (try node.addPod("a"), try node.addPod("b"))
            let keeper = MeshKeeper(log: Logger(label: "test"))
            let (bpffs, cgroup) = (node.bpffs, node.cgroup)
            try node.namespace().run {
                try keeper.start { () throws(DataplaneError) in
                    MeshKeeper.Kernel(
                        steering: try BPFSteering(bpffs: bpffs), namespaces: PodNamespaces(cgroup: cgroup),
                        clients: { _, _ in true })
                }
            }
            let absent = IPAddress(v4: 0x0af4_01fa)
            var program = program([(a, "1")])
            program.pods[absent] = MeshPodProgram(name: "shop/absent", uid: "2")
            keeper.apply(program)
            // Nothing runs in it yet.
            try eventually("a is attached") { keeper.report[a.v4] == .init(isAttached: true, problem: nil) }
            try eventually("the other is not found") {
                keeper.report[absent]?.problem?.contains("no network namespace of this node") == true
            }
            #expect(Array(keeper.problems.keys) == [absent])
            // It comes.
            try b.run(["ip", "address", "add", "\(absent)/32", "dev", "eth0"])
            try eventually("it is attached") { keeper.report[absent] == .init(isAttached: true, problem: nil) }
            keeper.stop()
        }
    }
}
