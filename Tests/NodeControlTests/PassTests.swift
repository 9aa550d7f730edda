// What an event makes the controller do, and how often.
import Addressing
import Cluster
import Compile
import DataplaneIR
import HandOver
import Observation
import Reconcile
import RouteIR
import Testing

@testable import NodeControl

@Suite struct PassTests {
    /// A controller whose every write succeeds.
    private struct Driver {
        var controller: NodeController
        var now = Duration.seconds(100)

        init(_ edit: (inout NodeSettings) -> Void = { _ in }) {
            var settings = NodeSettings(nodeName: "node-a")
            settings.proxy = .external
            edit(&settings)
            controller = NodeController(settings, generation: 1, now: now, wallTime: 0)
            take(.addresses([LocalAddress(IPAddress(v4: 0xc0a8_0002))]))
        }

        mutating func take(_ event: NodeEvent) { controller.take(event, now: now) }
        mutating func tell(_ objects: [ClusterObject]) { take(.source(0, .changes(objects.map { .upsert($0) }))) }
        /// Until nothing is to do; says what was done.
        @discardableResult mutating func settle() -> [NodeAction] {
            var all: [NodeAction] = []
            while true {
                let actions = controller.next(now: now)
                if actions.isEmpty { return all }
                all += actions
                for case .apply(let plan) in actions {
                    take(.applied(.success(Receipt(generation: plan.generation)), jitter: 0))
                }
            }
        }
        mutating func synced() {
            take(.source(0, .synced))
            settle()
            wait(.seconds(10))
        }
        mutating func wait(_ time: Duration) {
            now += time
            settle()
        }
    }

    private func name(_ number: Int) -> ObjectName { ObjectName("shop", "s\(number)") }
    private func service(_ number: Int) -> ClusterObject {
        var service = Service(name: name(number))
        service.clusterIPs = [IPAddress(v4: 0x0a60_0000 + UInt32(number))]
        service.ports = [Service.Port(name: "http", port: 80)]
        return .service(service)
    }
    private func slice(_ number: Int, endpoint: UInt32) -> ClusterObject {
        var slice = EndpointSlice(name: name(number), serviceName: name(number).name, addressType: .ipv4)
        slice.ports = [.init(name: "http", port: 8080)]
        slice.endpoints = [.init(IPAddress(v4: 0x0a01_0000 + endpoint))]
        return .endpointSlice(slice)
    }
    private func route(_ number: Int) -> ClusterObject {
        var route = Route(kind: .http, name: name(number))
        route.parents = [.init(service: name(number))]
        return .route(route)
    }

    /// Ten events, each of one endpoint; idle; a proxy that is told again.
    @Test func anEventIsCompiledOnceHoweverManyServicesAreRouted() {
        var driver = Driver()
        driver.tell((1...1000).flatMap { [service($0), slice($0, endpoint: UInt32($0)), route($0)] })
        driver.tell([service(1001), slice(1001, endpoint: 1001)])
        driver.take(.proxies([.init(pid: 9, version: "v", generation: .max)], outdated: []))
        driver.synced()
        #expect(driver.controller.routes.snapshot.services.count == 1000 && driver.controller.proxy.phase == .up)
        var (compilations, made) = (driver.controller.compilations, driver.controller.routes.made)
        func cost(_ edit: (inout Driver) -> Void) -> [Int] {
            edit(&driver)
            driver.settle()
            defer { (compilations, made) = (driver.controller.compilations, driver.controller.routes.made) }
            return [driver.controller.compilations - compilations, driver.controller.routes.made - made]
        }
        #expect(cost { $0.tell([slice(1001, endpoint: 2000)]) } == [1, 0])
        #expect(cost { $0.tell([slice(7, endpoint: 2001)]) } == [1, 2])
        #expect(cost { $0.wait(.seconds(30)) } == [0, 0])
        #expect(cost { for _ in 0..<100 { _ = $0.controller.next(now: $0.now) } } == [0, 0])
        #expect(cost { $0.take(.proxies([.init(pid: 9, version: "v", generation: .max)], outdated: [])) } == [0, 0])
        #expect(cost { $0.take(.drift) } == [0, 0])
    }

    /// A list of pods that took as long as whoever observed had patience says nothing about the next following.
    @Test func podsThatAreKnownTooLateAreNotKnown() {
        var driver = Driver { $0.podSources = [0] }
        driver.tell([service(1), slice(1, endpoint: 1)])
        driver.take(.proxies([.init(pid: 9, version: "v", generation: .max)], outdated: []))
        driver.synced()
        driver.take(.observed)
        var scopes = followed(driver.settle())
        driver.now += .seconds(11)
        scopes += followed(driver.settle())
        #expect(scopes == [.ofNode, .none])
        driver.take(.source(0, .podsKnown(round: 1)))
        driver.tell([route(1)])
        let first = driver.settle()
        #expect(followed(first) == [.all] && !handsOver(first))
        #expect(driver.controller.proxy.phase == .learning(wasRouted: false, until: nil))
        driver.take(.source(0, .podsKnown(round: 1)))
        #expect(!handsOver(driver.settle()), "that was the first round")
        driver.take(.source(0, .podsKnown(round: 2)))
        #expect(handsOver(driver.settle()))
    }
    private func followed(_ actions: [NodeAction]) -> [PodScope] {
        actions.compactMap { if case .follow(let scope, _) = $0 { scope } else { nil } }
    }
    private func handsOver(_ actions: [NodeAction]) -> Bool {
        actions.contains { if case .publish = $0 { true } else { false } }
    }

    /// Whoever observes asks several times a second, and services change as often.
    @Test func namesOfServicesFollowWhatChanges() {
        var driver = Driver()
        driver.tell((1...1000).map { service($0) })
        driver.synced()
        func name(at number: Int) -> String? {
            let dialled = SocketAddress(IPAddress(v4: 0x0a60_0000 + UInt32(number)), 80)
            let event = FlowEvent(time: 0, kind: .connect, protocol: .known(.tcp), dialled: dialled)
            driver.take(.observed)
            let events = FlowEvents(events: [event], next: 1, missed: 0, dropped: 0)
            return driver.controller.named(events).events.first?.service?.rawValue
        }
        #expect(name(at: 7)?.hasPrefix("shop/s7") == true)
        let looks = driver.controller.flowNames.looks
        #expect(looks == 1000)
        driver.take(.source(0, .changes([.delete(ObjectID(.service, self.name(7)))])))
        driver.tell([service(1001)])
        driver.settle()
        #expect(name(at: 7) == nil && name(at: 1001)?.hasPrefix("shop/s1001") == true)
        #expect(driver.controller.flowNames.looks == looks + 2)
        // Nobody observes any more.
        driver.wait(.seconds(11))
        #expect(driver.controller.flowNames.looks == 0)
    }
}
