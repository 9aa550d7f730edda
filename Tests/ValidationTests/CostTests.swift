/// What judging costs grows as what is judged does, whatever of it tenants choose.
import Addressing
import Cluster
import Testing

@testable import Validation

@Suite struct CostTests {
    /// Work for a set of this size and for one ten times as large.
    private func growth(_ make: (Int) -> ObjectSet) -> Double {
        func work(_ size: Int) -> Int { judge(make(size)).comparisons }
        return Double(work(1000)) / Double(max(work(100), 1))
    }

    private func service(_ number: Int) -> Service {
        var service = Service(name: ObjectName("shop", "s\(number)"))
        service.clusterIPs = [IPAddress(v4: 0x0a60_0000 + UInt32(number))]
        service.ports = [Service.Port(name: "http", port: 80)]
        service.creationTime = Int64(number)
        return service
    }
    private func route(_ number: Int, parent: String) -> Route {
        var route = Route(kind: .http, name: ObjectName("shop", "r\(number)"))
        route.parents = [Route.Parent(service: ObjectName("shop", parent))]
        var rule = Route.Rule()
        rule.backends = [Route.Backend(.init(name: ObjectName("shop", parent), port: 80))]
        var match = Route.Match()
        match.path = .exact("/\(number)")
        rule.matches = [match]
        route.rules = [rule]
        return route
    }

    @Test func routesOfOneService() {
        let growth = growth { size in
            var set = ObjectSet(complete: [.service])
            set.add(.service(service(0)))
            for number in 0..<size { set.add(.route(route(number, parent: "s0"))) }
            return set
        }
        #expect(growth < 20)
    }
    /// Which no administrator would do, and every tenant can.
    @Test func servicesThatWantOneAddress() {
        let growth = growth { size in
            var set = ObjectSet(complete: [.service])
            for number in 0..<size {
                var service = service(number)
                service.externalIPs = [IPAddress(v4: 0xc000_0201)]
                set.add(.service(service))
            }
            return set
        }
        #expect(growth < 40)
    }
    @Test func podsOfManyServices() {
        let growth = growth { size in
            var set = ObjectSet()
            for number in 0..<size {
                var service = service(number)
                service.selector = ["tier": "web", "app": "s\(number)"]
                set.add(.service(service))
                var pod = Pod(name: ObjectName("shop", "p\(number)"))
                pod.labels = service.selector
                set.add(.pod(pod))
            }
            return set
        }
        #expect(growth < 20)
    }
    @Test func servicesOfTheSamePods() {
        let growth = growth { size in
            var set = ObjectSet()
            for number in 0..<size {
                var service = service(number)
                service.selector = ["app": "web"]
                set.add(.service(service))
                var pod = Pod(name: ObjectName("shop", "p\(number)"))
                pod.labels = service.selector
                set.add(.pod(pod))
            }
            return set
        }
        #expect(growth < 20)
    }

    /// An object is judged by its neighbours, however many others there are.
    @Test func oneObjectCostsItsNeighbourhood() {
        var set = ObjectSet(complete: [.service])
        for number in 0..<1000 {
            set.add(.service(service(number)))
            set.add(.route(route(number, parent: "s\(number)")))
        }
        for object in [ClusterObject.service(service(7)), .route(route(7, parent: "s7"))] {
            #expect(judge(object, against: set).comparisons < 10)
            let near = set.neighbourhood(of: object).state
            #expect(near.services.count == 1 && near.routes.count == 1)
        }
    }

    /// What is kept beside the objects follows every change.
    @Test func neighboursAreThoseOfNow() {
        var set = ObjectSet()
        var rival = service(1)
        rival.externalIPs = [IPAddress(v4: 0xc000_0201)]
        set.add(.service(rival))
        set.add(.route(route(1, parent: "s1")))
        let claim = rival
        #expect(set.rivals(of: claim) == [claim.name] && set.routes(naming: claim.name).count == 1)
        #expect(ObjectSet(state: set.state).rivals(of: claim) == [claim.name])
        rival.externalIPs = []
        rival.clusterIPs = []
        set.apply(.upsert(.service(rival)))
        #expect(set.rivals(of: claim).isEmpty)
        set.apply(.upsert(.route(route(1, parent: "s2"))))
        #expect(set.routes(naming: claim.name).isEmpty && set.routes(naming: ObjectName("shop", "s2")).count == 1)
        set.apply(.delete(ObjectID(.httpRoute, ObjectName("shop", "r1"))))
        #expect(set.routes(naming: ObjectName("shop", "s2")).isEmpty)
    }
}
