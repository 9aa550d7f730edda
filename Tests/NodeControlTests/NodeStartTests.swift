// What a controller assumes of the time before it.
import Addressing
import Cluster
import Compile
import DataplaneIR
import Reconcile
import Testing

@testable import NodeControl

@Suite struct NodeStartTests {
    private let name = ObjectName("ns", "web")
    private var service: ClusterObject {
        var service = Service(name: name)
        service.clusterIPs = [IPAddress(v4: 0x0a60_0001)]
        var port = Service.Port(name: "http", transport: .tcp, port: 80)
        port.appProtocol = "http"
        service.ports = [port]
        return .service(service)
    }
    private var route: ClusterObject {
        var route = Route(kind: .http, name: name)
        route.parents = [.init(service: name)]
        return .route(route)
    }

    /// Whether the plan it wants now, which succeeds, sends the service to the proxy; nil: it wants none.
    private func writesProxied(_ controller: inout NodeController, _ now: Duration) -> Bool? {
        for case .apply(let plan) in controller.next(now: now) {
            controller.take(.applied(.success(Receipt(generation: plan.generation)), jitter: 0), now: now)
            return plan.upserts.contains(where: \.isProxied)
        }
        return nil
    }

    private func isProxied(_ controller: NodeController) -> Bool {
        controller.compiler.programs.values.contains(where: \.isProxied)
    }

    /// It trusts a proxy with the routes that an earlier agent may have left. Once a snapshot was in force, the kernel
    /// holds its own work: a route that was not in it is new, and there is nobody yet who serves it.
    @Test(arguments: [true, false]) func aRouteThatIsNewAfterASnapshotWaitsForAProxy(isInSnapshot: Bool) {
        var settings = NodeSettings(nodeName: "node-a")
        settings.snapshots = .init()
        settings.proxy = .external
        var controller = NodeController(settings, generation: 1, now: .zero, wallTime: 0)
        controller.take(.addresses([]), now: .zero)
        var now = Duration.seconds(10)
        _ = controller.next(now: now)
        let saved = isInSnapshot ? [service, route] : [service]
        controller.take(.snapshot(.found(saved, age: .zero)), now: now)
        let first = writesProxied(&controller, now)
        #expect(first == isInSnapshot)

        now += .seconds(1)
        controller.take(.source(0, .changes([.upsert(service), .upsert(route)])), now: now)
        controller.take(.source(0, .synced), now: now)
        let second = writesProxied(&controller, now)
        #expect(second != true)
        #expect(isProxied(controller) == isInSnapshot)
        // Nobody came: the service refuses, as its routes cannot be kept.
        now += .seconds(5)
        _ = writesProxied(&controller, now)
        #expect(controller.proxy.phase == .down)
        #expect(isProxied(controller))
    }

    /// Where no agent was before, nobody serves routes yet: the service is balanced until somebody does.
    @Test(arguments: [true, false]) func theFirstAgentOfANodeWaitsForAProxy(isFirstHere: Bool) {
        var settings = NodeSettings(nodeName: "node-a")
        settings.proxy = .external
        var controller = NodeController(
            settings, generation: 1, isFirstHere: isFirstHere, now: .zero, wallTime: 0)
        controller.take(.addresses([]), now: .zero)
        controller.take(.source(0, .changes([.upsert(service), .upsert(route)])), now: .zero)
        controller.take(.source(0, .synced), now: .zero)
        let first = writesProxied(&controller, .seconds(1))
        #expect(first == !isFirstHere)
    }
}
