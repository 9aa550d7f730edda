// How far a node says it is: never ahead of the kernel and the proxy, and never waiting for a quiet moment.
import Addressing
import Cluster
import DataplaneIR
import HandOver
import Reconcile
import RouteIR
import Testing

@testable import NodeControl

@Suite struct MarksTests {
    private struct Node {
        var controller: NodeController
        var now = Duration.seconds(100)
        var version = 0
        /// Of the plan that waits for its answer.
        var plan: UInt64?
        var published: UInt64 = 0

        init(proxy: NodeSettings.ProxyMode = .external) {
            var settings = NodeSettings(nodeName: "node-a")
            settings.proxy = proxy
            settings.minSyncPeriod = .zero
            controller = NodeController(settings, generation: 1, now: now, wallTime: 0)
            controller.take(.addresses([LocalAddress(IPAddress(v4: 0xc0a8_0002))]), now: now)
            change()
            controller.take(.source(0, .synced), now: now)
        }

        /// An edit of the service, or of its route, and the version that it has.
        mutating func change(isRoute: Bool = false) {
            version += 1
            let name = ObjectName("shop", "web")
            var change: ClusterObject
            if isRoute {
                var route = Route(kind: .http, name: name)
                route.parents = [.init(service: name)]
                var rule = Route.Rule()
                rule.matches = [Route.Match()]
                rule.matches[0].path = .exact("/\(version)")
                rule.backends = [.init(.init(name: name, port: 80))]
                route.rules = [rule]
                change = .route(route)
            } else {
                var service = Service(name: name)
                service.clusterIPs = [IPAddress(v4: 0x0a60_0001)]
                service.ports = [Service.Port(name: "http", port: UInt16(80)), Service.Port(name: "x", port: 81)]
                service.ports[1].port = UInt16(1000 + version)
                change = .service(service)
            }
            controller.take(.source(0, .changes([.upsert(change)])), now: now)
            let kinds: [ObjectKind] = [.service, .httpRoute]
            let versions = Dictionary(uniqueKeysWithValues: kinds.map { ($0, "\(version)") })
            controller.take(.source(0, .reached(versions)), now: now)
        }
        /// Until a plan waits for its answer, or nothing is to do.
        mutating func work() {
            while plan == nil {
                let actions = controller.next(now: now)
                if actions.isEmpty { return }
                for action in actions {
                    if case .apply(let plan) = action { self.plan = plan.generation }
                    if case .publish(let snapshot) = action { published = snapshot.generation }
                }
            }
        }
        mutating func answer(_ isWritten: Bool = true) {
            guard let plan else { return }
            self.plan = nil
            let error = DataplaneError(operation: "write", code: 12, description: "told to fail")
            controller.take(
                .applied(isWritten ? .success(Receipt(generation: plan)) : .failure(error), jitter: 0), now: now)
        }
        mutating func proxy(has generation: UInt64?) {
            let proxies = generation.map { [ConnectedProxy(pid: 9, version: "v", generation: $0)] } ?? []
            controller.take(.proxies(proxies, outdated: []), now: now)
        }
        /// Until nothing is to do; every write succeeds.
        mutating func settle() {
            repeat {
                work()
                answer()
            } while plan != nil
            work()
        }
        var written: Int? { controller.marks.written[.service].flatMap { Int($0) } }
        var inForce: Int? { controller.marks.acknowledged[.httpRoute].flatMap { Int($0) } }
    }

    @Test func aVersionIsWrittenOnceTheKernelHasIt() {
        var node = Node()
        node.work()
        #expect(node.written == nil)
        node.answer()
        node.work()
        #expect(node.written == 1 && node.inForce == 1)
        node.change()
        node.work()
        #expect(node.plan != nil && node.written == 1)
        node.answer(false)
        node.work()
        #expect(node.written == 1, "the write failed")
        node.now += .seconds(60)
        node.settle()
        #expect(node.written == 2 && node.inForce == 2)
    }

    /// A bookmark, or the status of an object, which no write follows.
    @Test func aVersionWithoutAnythingToWriteIsReachedAtOnce() {
        var node = Node()
        node.settle()
        node.controller.take(.source(0, .reached([.service: "50"])), now: node.now)
        node.settle()
        #expect(node.written == 50 && node.inForce == 1)
    }

    /// Something has always changed again when a write ends.
    @Test func versionsMoveOnHoweverOftenSomethingChanges() {
        var node = Node()
        node.settle()
        node.change()
        node.work()
        for _ in 0..<100 {
            let inPlan = node.version
            node.change()
            node.answer()
            node.now += .milliseconds(20)
            #expect(node.written == inPlan)
            node.work()
        }
    }

    /// Nor does it take a proxy that has the newest configuration.
    @Test func routesMoveOnThoughTheProxyIsAlwaysOneBehind() {
        var node = Node()
        node.proxy(has: 1)
        node.change(isRoute: true)
        node.settle()
        var (acknowledged, reached) = (node.published, node.inForce ?? 0)
        for _ in 0..<100 {
            node.change(isRoute: true)
            node.now += .milliseconds(50)
            node.settle()
            node.proxy(has: acknowledged)
            node.settle()
            acknowledged = node.published
        }
        #expect(node.version == 102 && (node.inForce ?? 0) >= 100)
        reached = node.inForce ?? 0
        node.change(isRoute: true)
        node.settle()
        #expect(node.inForce == reached, "the proxy has not answered")
    }

    @Test func routesWaitForAProxyThatIsAwayAndServicesDoNot() {
        var node = Node()
        node.settle()
        node.change(isRoute: true)
        node.settle()
        node.now += .seconds(10)
        node.change()
        node.settle()
        #expect(node.written == 3 && node.inForce == 1)
        #expect(node.controller.marks.waitsForProxySince != nil)
        node.proxy(has: node.published)
        node.settle()
        node.proxy(has: node.published)
        node.settle()
        #expect(node.inForce == 3 && node.controller.marks.waitsForProxySince == nil)
        // It comes again with what it had before: what was in force is claimed until then, and nothing newer.
        node.change(isRoute: true)
        node.settle()
        node.proxy(has: nil)
        node.settle()
        #expect(node.written == 4 && node.inForce == 3)
    }

    /// Where routes are not followed none of them is in force, until there is none.
    @Test func withoutAProxyRoutesAreNotInForce() {
        var node = Node(proxy: .off)
        node.settle()
        #expect(node.inForce == 1)
        node.change(isRoute: true)
        node.settle()
        #expect(node.written == 2 && node.inForce == 1)
    }
}
