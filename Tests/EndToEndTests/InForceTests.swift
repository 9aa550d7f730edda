/// Two nodes with real agents and a real controller: on how many nodes a route is in force, as `agentctl` tells it.
import AdminAPI
import FakeAPIServer
import FoundationEssentials
import Glibc
import Netns
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct InForceTests {
    @Test func aRouteIsInForceWhereKernelAndProxyHaveIt() async throws {
        try await Lab.with { lab in
            let nodes = [try lab.addNode(), try lab.addNode()]
            let cluster = try await TwoNodes(nodes)
            var generation = 1
            func edit() {
                let rule = #""matches":[{"path":{"value":"/\#(generation)"}}]"#
                cluster.server.put(
                    .httproutes, httpRoute("canary", of: "web", to: "web", generation: generation, rule: rule))
                generation += 1
            }
            edit()
            let agents = try nodes.map { node in
                try RunningAgent(on: node, .nftables, cluster.source, options: ["--proxy", "external"])
            }
            var proxies = try agents.map { try FakeProxy(socket: $0.proxySocket) }
            let controller = try RunningClusterController(on: nodes[0], cluster)
            let everywhere = ClusterRoutes.Progress(nodes: 2, of: 2, missing: [])
            try eventually("it is in force on both") { try controller.progress() == everywhere }
            let answering = ControllerStatus.Nodes(count: 2, answering: 2, lagging: 0)
            try eventually("both answer") { try controller.nodes() == answering }

            // The second node's proxy is away: its kernel has the route, and nobody there follows it.
            proxies[1].stop()
            edit()
            let partly = ClusterRoutes.Progress(nodes: 1, of: 2, missing: ["node-2"])
            try eventually("it is in force on one") { try controller.progress() == partly }
            proxies[1] = try FakeProxy(socket: agents[1].proxySocket)
            try eventually("it is in force on both again") { try controller.progress()?.nodes == 2 }

            // Its agent is away: what was in force stays so, and what is new is not.
            try agents[1].killAbruptly()
            #expect(try controller.progress()?.nodes == 2)
            edit()
            try eventually("the new one is in force on one") { try controller.progress() == partly }
            #expect(try controller.agentctl("routes").contains("  1/2, not on node-2  -\n"))
            try eventually("it does not answer") { try controller.nodes().answering == 1 }
            try agents[1].start()
            try agents[1].waitUntilInSync()
            // The fake one ended with its connection.
            proxies[1] = try FakeProxy(socket: agents[1].proxySocket)
            try eventually("the next agent has it", within: .seconds(90)) { try controller.progress()?.nodes == 2 }
            proxies.forEach { $0.stop() }
            await cluster.server.stop()
        }
    }
}

/// An API server that both nodes reach, and what it has.
private final class TwoNodes {
    let server: FakeAPIServer
    let source: any ServiceSource
    let kubeconfig: String
    private let directory: TemporaryDirectory

    private final class Source: ServiceSource {
        let arguments: [String]
        init(_ kubeconfig: String) { arguments = ["--source", "kubernetes", "--kubeconfig", kubeconfig] }
        func write(_ service: TestService) throws {}
        func remove(_ name: String) {}
    }

    init(_ nodes: [LabNode]) async throws {
        let socket = try nodes[0].namespace().run { try boundSocket(0) }
        server = try await FakeAPIServer(boundSocket: socket)
        directory = try TemporaryDirectory()
        kubeconfig = directory.path + "/kubeconfig"
        source = Source(kubeconfig)
        try writeText(server.kubeconfig(at: "\(nodes[0].host.v4)"), to: kubeconfig)
        server.put(.services, service("web", clusterIP: "10.96.0.10"))
        server.put(.endpointslices, endpointSlice("web-1", of: "web", addresses: ["10.244.1.11"]))
        server.put(.namespaces, FakeObject("", "default", body: "\"spec\":{}"))
        for node in nodes {
            var pod = FakeObject(
                "kube-system", "heddle-\(node.name)", labels: ["app.kubernetes.io/name": "heddle"],
                body: #""spec":{"nodeName":"\#(node.name)","hostNetwork":true},"status":{"phase":"Running","#
                    + #""podIP":"\#(node.host.v4)","conditions":[{"type":"Ready","status":"True"}]}"#)
            pod.nodeName = node.name
            server.put(.pods, pod)
        }
    }
}

private final class RunningClusterController {
    private let node: LabNode
    private let directory: TemporaryDirectory
    private let process: ChildProcess
    private var socket: String { directory.path + "/controller.sock" }

    init(on node: LabNode, _ cluster: TwoNodes) throws {
        self.node = node
        directory = try TemporaryDirectory()
        process = try node.host.spawn(
            [
                programDirectory + "/heddle-controller", "run", "--kubeconfig", cluster.kubeconfig, "--identity", "a",
                "--api-socket", directory.path + "/controller.sock", "--healthz-address", "127.0.0.1:0",
                "--metrics-address", "127.0.0.1:0",
            ], log: directory.path + "/log")
    }
    deinit {
        process.signal(SIGTERM)
        _ = try? process.wait()
    }

    func agentctl(_ arguments: String...) throws -> String {
        do {
            return try node.host.run(
                [programDirectory + "/agentctl"] + arguments + ["--cluster", "--api-socket", socket])
        } catch { throw TestFailure("\(error)\nthe controller's log:\n\(readText(directory.path + "/log"))") }
    }
    func progress() throws -> ClusterRoutes.Progress? {
        let text = try agentctl("routes", "-o", "json")
        return try JSONDecoder().decode(ClusterRoutes.self, from: Data(text.utf8)).entries.first?.inForce
    }
    func nodes() throws -> ControllerStatus.Nodes {
        let text = try agentctl("status", "-o", "json")
        return try JSONDecoder().decode(ControllerStatus.self, from: Data(text.utf8)).nodes
    }
}
