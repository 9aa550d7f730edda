// Tunnel or plaintext, and why: what `agentctl explain` and `agentctl observe` say of connections.
import Addressing
import AdminAPI
import Cluster
import Compile
import DataplaneIR
import HandOver
import Observation
import Reconcile
import RouteIR
import Testing

@testable import NodeControl

@Suite struct PassageTests {
    private func address(_ number: UInt32) -> IPAddress { IPAddress(v4: 0x0a01_0000 + number) }
    private let node = IPAddress(v4: 0xc0a8_0002)
    private let web = SocketAddress(IPAddress(v4: 0x0a60_0001), 80)

    private func pod(_ name: String, _ number: UInt32, on node: String = "node-a", in mesh: Bool = true) -> Change {
        var pod = Pod(name: ObjectName("shop", name))
        (pod.addresses, pod.nodeName, pod.serviceAccount) = ([address(number)], node, name)
        if !mesh { pod.labels = ["heddle.io/mesh": "disabled"] }
        return .upsert(.pod(pod))
    }
    private func endpoints(_ numbers: [UInt32]) -> Change {
        var slice = EndpointSlice(name: ObjectName("shop", "web"), serviceName: "web", addressType: .ipv4)
        slice.ports = [.init(name: "tcp", port: 8080)]
        slice.endpoints = numbers.map { .init(address($0)) }
        return .upsert(.endpointSlice(slice))
    }

    /// Client 1 and outsider 9 here; 2, 3 and 4 elsewhere, of which 3 is not in the mesh and 4 has no account.
    private func controller(endpoints numbers: [UInt32], hasProxy: Bool = true) -> NodeController {
        var settings = NodeSettings(nodeName: "node-a")
        (settings.proxy, settings.mesh) = (.external, ProxyMesh(trustDomain: "cluster.local"))
        var controller = NodeController(settings, generation: 1, isFirstHere: true, now: .zero, wallTime: 0)
        var namespace = Namespace(name: "shop")
        namespace.labels = ["heddle.io/mesh": "enabled"]
        var service = Service(name: ObjectName("shop", "web"))
        (service.type, service.clusterIPs) = (.nodePort, [web.address])
        service.ports = [Service.Port(name: "tcp", port: 80, nodePort: 30080)]
        var nobody = Pod(name: ObjectName("shop", "nobody"))
        (nobody.addresses, nobody.nodeName, nobody.serviceAccount) = ([address(4)], "node-b", "")
        var host = Node(name: "node-a")
        host.nodeIPs = [node]
        var events: [NodeEvent] = [
            .addresses([LocalAddress(node)]),
            .source(
                0,
                .changes([
                    .upsert(.namespace(namespace)), .upsert(.node(host)), .upsert(.service(service)),
                    endpoints(numbers), pod("client", 1),
                    pod("server", 2, on: "node-b"), pod("other", 3, on: "node-b", in: false), .upsert(.pod(nobody)),
                    pod("outsider", 9, in: false),
                ])), .source(0, .synced),
        ]
        if hasProxy { events.append(.proxies([.init(pid: 9, version: "v", generation: .max)], outdated: [])) }
        for (second, event) in events.enumerated() {
            let now = Duration.seconds(second)
            controller.take(event, now: now)
            while let action = controller.next(now: now).last {
                guard case .apply(let plan) = action else { continue }
                controller.take(.applied(.success(Receipt(generation: plan.generation)), jitter: 0), now: now)
            }
        }
        return controller
    }
    private func explained(
        _ controller: NodeController, from: UInt32, _ to: SocketAddress, _ transport: String = "TCP"
    ) throws -> Explanation {
        try controller.explain(
            FlowQuestion(from: "\(address(from))", to: to, transport: transport), towards: { _ in "cni0" })
    }

    private let identities = (
        client: "spiffe://cluster.local/ns/shop/sa/client", server: "spiffe://cluster.local/ns/shop/sa/server"
    )
    private var tunnel: FlowPassage {
        FlowPassage(
            .tunnel, "both are in the mesh", clientIdentity: identities.client, serverIdentity: identities.server)
    }

    @Test func explainSaysHowAServiceIsReached() throws {
        let answer = try explained(controller(endpoints: [2]), from: 1, web)
        #expect(answer.verdict == "proxy" && answer.passage == tunnel && answer.endpoints.map(\.passage) == [tunnel])
        let mixed = try explained(controller(endpoints: [2, 3]), from: 1, web)
        #expect(mixed.passage == FlowPassage(.either, "1 of 2 endpoints take tunnels"))
        let outside = FlowPassage(.plaintext, "shop/other is not in the mesh")
        #expect(mixed.endpoints.map(\.passage) == [tunnel, outside])
        // Neither of these takes one.
        let nobodies = FlowPassage(.plaintext, "0 of 2 endpoints take tunnels")
        #expect(try explained(controller(endpoints: [3, 4]), from: 1, web).passage == nobodies)
        let some = FlowPassage(.tunnel, "1 of 2 endpoints take tunnels", clientIdentity: identities.client)
        #expect(try explained(controller(endpoints: [2, 4]), from: 1, web).passage == some)
        let foreign = try explained(controller(endpoints: [2]), from: 9, web)
        #expect(foreign.passage == FlowPassage(.plaintext, "the client is not in the mesh"))
        #expect(try explained(controller(endpoints: [3]), from: 9, web).passage == nil)
        let nobody = try explained(controller(endpoints: [4]), from: 1, web)
        #expect(nobody.passage == FlowPassage(.none, "shop/nobody has no ServiceAccount, and so no identity"))
    }

    @Test func explainSaysHowAPodIsReached() throws {
        let controller = controller(endpoints: [2])
        func passage(_ from: UInt32, _ to: UInt32, _ port: UInt16 = 8080, _ transport: String = "TCP") throws
            -> FlowPassage?
        {
            try explained(controller, from: from, SocketAddress(address(to), port), transport).passage
        }
        #expect(try passage(1, 2) == tunnel)
        #expect(try passage(1, 2, 15008)?.reason == "the port where tunnels arrive is left alone")
        #expect(try passage(1, 1) == FlowPassage(.plaintext, "a pod that dials itself"))
        #expect(try passage(1, 2, 53, "UDP") == FlowPassage(.plaintext, "UDP is not tunnelled"))
        #expect(try passage(1, 3) == FlowPassage(.plaintext, "shop/other is not in the mesh"))
        #expect(try passage(9, 3) == nil)
        let port = try explained(controller, from: 1, SocketAddress(node, 30080))
        #expect(port.verdict == "balance")
        #expect(port.passage == FlowPassage(.plaintext, "node ports are not tunnelled"))
    }

    @Test func observeSaysItOfEachConnection() {
        var controller = controller(endpoints: [2])
        controller.take(.observed, now: .seconds(10))
        func passage(from: UInt32, by backend: SocketAddress?, dialled: SocketAddress? = nil) -> FlowPassage? {
            var event = FlowEvent(
                time: 0, kind: .connect, protocol: .known(.tcp), dialled: dialled ?? web, backend: backend)
            event.source = SocketAddress(address(from), 40_000)
            let events = FlowEvents(events: [event, event], next: 1, missed: 0, dropped: 0)
            let named = controller.named(events).events
            #expect(named.first == named.last)
            return named.first?.passage
        }
        let proxy = controller.node.proxyListeners.first
        #expect(proxy != nil && passage(from: 1, by: proxy) == tunnel)
        #expect(passage(from: 1, by: proxy, dialled: SocketAddress(address(2), 99)) == tunnel)
        let server = SocketAddress(address(2), 8080)
        #expect(passage(from: 9, by: server) == FlowPassage(.plaintext, "the client is not in the mesh"))
        #expect(passage(from: 1, by: nil) == nil && passage(from: 9, by: SocketAddress(address(3), 8080)) == nil)
        let early = FlowPassage(.plaintext, "it began before both were in the mesh")
        #expect(passage(from: 1, by: server) == early)
    }
}
