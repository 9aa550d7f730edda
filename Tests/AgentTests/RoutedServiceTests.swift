// A routed service through the whole control actor: proxy and kernel, up and down.
import AdminAPI
import AdminServer
import Addressing
import Cluster
import DataplaneIR
import Reconcile
import RouteIR
import Synchronization
import TestSupport
import Testing

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
            rig.agent.mailbox.send(.proxies([.init(pid: 9, version: "v", generation: generation)]))
            try await soon("proxied") { isProxied(rig) == true }
            #expect(rig.dataplane.node?.proxyListeners == [SocketAddress(IPAddress(v4: 0xc0a8_0002), 15001)])
            let status = try await rig.ask(AgentStatus.self, .status).proxy
            #expect(status.state == "up" && status.routedServices == 1 && status.instances.map(\.pid) == [9])

            rig.delete(ObjectID(.httpRoute, ObjectName("default", "r")))
            try await soon("balanced") { isProxied(rig) == false }
            try await soon("trimmed") { proxy.snapshot?.services.isEmpty == true }
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
            rig.agent.mailbox.send(.proxies([.init(pid: 9, version: "v", generation: .max)]))
            try await soon("up") { rig.board.status.proxy.state == "up" }
            rig.agent.mailbox.send(.proxies([]))
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
