// A routed service through the whole control actor: proxy and kernel, up and down.
import Addressing
import AdminAPI
import AdminServer
import Cluster
import DataplaneIR
import HandOver
import NodeControl
import Observation
import RouteIR
import Synchronization
import Testing
import TestSupport

@testable import Agent

@Suite struct RoutedServiceTests {
    /// What the actor hands to the proxy.
    private final class Proxy: Sendable {
        private let state = Mutex<ProxySnapshot?>(nil)
        var snapshot: ProxySnapshot? { state.withLock { $0 } }
        var link: ProxyLink {
            ProxyLink(
                publish: { snapshot in self.state.withLock { $0 = snapshot } }, ask: { _, reply in reply(nil) },
                update: { _, _ in })
        }
    }

    private var route: ClusterObject {
        var route = Route(kind: .http, name: ObjectName("default", "r"))
        route.parents = [.init(service: ObjectName("default", "web"))]
        var rule = Route.Rule()
        rule.backends = [.init(.init(name: ObjectName("default", "web"), port: 80))]
        route.rules = [rule]
        return .route(route)
    }

    private func isProxied(_ rig: AgentRig) -> Bool? {
        rig.dataplane.programs.values.first.map(\.isProxied)
    }

    @Test func addingAndRemovingARouteCostsNoConnection() async throws {
        let proxy = Proxy()
        try await AgentRig.run(proxy: proxy.link) { rig in
            rig.send(webService(), webSlice(1))
            rig.synced()
            try await rig.inSync()
            #expect(isProxied(rig) == false)
            rig.send(route)
            try await soon("handed over") { proxy.snapshot?.services.count == 1 }
            let generation = try #require(proxy.snapshot?.generation)
            // No proxy has it yet: the kernel balances as before.
            try await rig.inSync()
            #expect(isProxied(rig) == false)
            await rig.agent.connected([.init(pid: 9, version: "v", generation: generation)])
            try await soon("proxied") { isProxied(rig) == true }
            #expect(rig.dataplane.node?.proxyListeners == [SocketAddress(IPAddress(v4: 0xc0a8_0002), 15001)])
            let status = try await rig.ask(AgentStatus.self, .status).proxy
            #expect(status.state == "up" && status.routedServices == 1 && status.instances.map(\.pid) == [9])

            rig.delete(ObjectID(.httpRoute, ObjectName("default", "r")))
            try await soon("balanced") { isProxied(rig) == false }
            try await soon("trimmed") { proxy.snapshot?.services.isEmpty == true }
        }
    }

    /// The namespace of a client decides which routes apply: nothing is handed over before pods are known, and what an
    /// earlier agent put in force stays.
    @Test(arguments: [true, false]) func routesWaitForThePodsOfThisNode(wasRouted: Bool) async throws {
        let proxy = Proxy()
        let scope = Mutex(PodScope.none)
        try await AgentRig.run(proxy: proxy.link, follow: { wanted in scope.withLock { $0 = wanted } }) { rig in
            rig.send(webService(), webSlice(1))
            if wasRouted { rig.send(route) }
            rig.synced()
            try await rig.inSync()
            if !wasRouted { rig.send(route) }
            await rig.agent.connected([.init(pid: 9, version: "v", generation: .max)])
            try await soon("pods are wanted") { scope.withLock { $0 } == .all }
            try await soon("it waits") { rig.board.status.proxy.state == "waiting for the pods of this node" }
            #expect(proxy.snapshot == nil && isProxied(rig) == wasRouted)
            #expect(rig.board.status.warnings.contains { $0.contains("pods of this node") })
            var pod = Pod(name: ObjectName("customer", "p"))
            (pod.addresses, pod.nodeName) = ([IPAddress(v4: 0x0a01_0009)], "node-a")
            rig.send(.pod(pod))
            rig.podsKnown()
            try await soon("handed over") { proxy.snapshot?.services.count == 1 }
            #expect(proxy.snapshot?.workloads[IPAddress(v4: 0x0a01_0009)]?.namespace == "customer")
            try await soon("proxied") { isProxied(rig) == true }
            #expect(rig.board.status.proxy.state == "up")
            rig.delete(ObjectID(.httpRoute, ObjectName("default", "r")))
            try await soon("pods are not wanted any more") { scope.withLock { $0 } == .none }
        }
    }

    /// Names of this node's pods do for those who look at flows, and only as long as they look.
    @Test func podsAreFollowedWhileSomebodyObserves() async throws {
        let scopes = Mutex<[PodScope]>([])
        try await AgentRig.run(follow: { wanted in scopes.withLock { $0.append(wanted) } }) { rig in
            rig.send(webService())
            rig.synced()
            try await rig.inSync()
            for _ in 0..<3 {
                _ = await rig.name(.events(FlowEvents(events: [], next: 1, missed: 0, dropped: 0)))
            }
            try await soon("it ends") { scopes.withLock { $0.last } == PodScope.none }
            #expect(scopes.withLock { $0.first } == .ofNode && !scopes.withLock { $0 }.contains(.all))
        }
    }

    /// Nobody can reach the proxy of a node that has only loopback addresses: status, warnings and `explain` say so.
    @Test func aNodeWithoutAnAddressSaysSo() async throws {
        let proxy = Proxy()
        try await AgentRig.run(proxy: proxy.link) { rig in
            rig.agent.mailbox.send(.addresses([LocalAddress(IPAddress(v4: 0x7f00_0001))]))
            rig.send(webService(), webSlice(1), route)
            rig.synced()
            await rig.agent.connected([.init(pid: 9, version: "v", generation: .max)])
            try await soon("up") { rig.board.status.proxy.state == "up, but out of reach" }
            let reason = "this node has no IPv4 address but loopback and link-local ones"
            #expect(rig.board.status.warnings.contains { $0.contains(reason) && $0.contains("L7 proxy") })
            #expect(rig.board.now.hasNodeAddress == false)
            let dialled = SocketAddress(IPAddress(v4: 0x0a60_000a), 80)
            let answer = try await rig.ask(
                Explanation.self, .explain(.init(from: "127.0.0.1", to: dialled)))
            #expect(answer.verdict == "reject" && answer.decisions.last?.outcome.contains(reason) == true)
        }
    }

    @Test(arguments: [AgentConfiguration.L7Failure.open, .closed])
    func aProxyThatGoesDown(failure: AgentConfiguration.L7Failure) async throws {
        let proxy = Proxy()
        var configuration = AgentConfiguration(nodeName: "node-a")
        configuration.l7Failure = failure
        try await AgentRig.run(configuration, proxy: proxy.link) { rig in
            rig.send(webService(), webSlice(1), route)
            rig.synced()
            // At the start the proxy is trusted to run already.
            try await soon("proxied") { isProxied(rig) == true }
            await rig.agent.connected([.init(pid: 9, version: "v", generation: .max)])
            try await soon("up") { rig.board.status.proxy.state == "up" }
            await rig.agent.connected([])
            try await soon("down") { rig.board.status.proxy.state == "down" }
            try await rig.inSync()
            #expect(isProxied(rig) == (failure == .closed))
            #expect(rig.board.status.warnings.contains { $0.contains("L7 proxy is down") })
        }
    }

    @Test func withoutAProxyRoutesAreNotFollowed() async throws {
        var configuration = AgentConfiguration(nodeName: "node-a")
        configuration.proxy = .off
        try await AgentRig.run(configuration) { rig in
            rig.send(webService(), webSlice(1), route)
            rig.synced()
            try await rig.inSync()
            #expect(isProxied(rig) == false)
            #expect(rig.board.status.warnings.contains { $0.contains("--proxy off") })
        }
    }
}
