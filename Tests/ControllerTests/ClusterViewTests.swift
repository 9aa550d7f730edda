// Events of the source in, what the controller says of the cluster out.
import Addressing
import AdminAPI
import Cluster
import Compile
import DataplaneIR
import RouteIR
import TestSupport
import Testing

@testable import Controller

@Suite struct ClusterViewTests {
    private func service(_ name: String) -> Change {
        var service = Service(name: ObjectName("shop", name))
        service.clusterIPs = [IPAddress(v4: 0x0a60_0001)]
        service.ports = [Service.Port(name: "http", port: 80)]
        return .upsert(.service(service))
    }
    private func route(to backend: String, parents: [String] = ["web"]) -> Change {
        var route = Route(kind: .http, name: ObjectName("shop", "canary"))
        route.parents = parents.map { Route.Parent(service: ObjectName("shop", $0), port: 80) }
        var rule = Route.Rule()
        rule.backends = [Route.Backend(.init(name: ObjectName("shop", backend), port: 80))]
        route.rules = [rule]
        return .upsert(.route(route))
    }
    private func status(_ view: ClusterView) -> ControllerStatus {
        var status = ControllerStatus(identity: "a", version: "1", source: .init(name: "server"))
        view.fill(&status)
        return status
    }

    @Test func itIsReadyWithTheFirstLists() {
        var view = ClusterView()
        #expect(!status(view).ready && !status(view).source.complete)
        view.take(.synced)
        #expect(status(view).ready && status(view).source.complete)
    }

    /// The sentence of the agents' compiler stands at the route and in the status, and goes with its cause.
    @Test func aBackendThatIsMissingIsToldUntilItIsThere() throws {
        var view = ClusterView()
        view.take(.changes([service("web"), route(to: "v2")]))
        #expect(status(view).findings == [], "it may only not have come yet")
        view.take(.synced)
        let entry = try #require(view.routeList().entries.first)
        #expect(entry.route == "HTTPRoute shop/canary" && entry.parents == ["shop/web:80"] && entry.rules == 1)
        #expect(entry.findings.count == 1 && entry.findings[0].contains("v2"))
        #expect(status(view).findings == ["HTTPRoute shop/canary: \(entry.findings[0])"])
        #expect(status(view).findingCount == 1 && status(view).routes == 1 && status(view).services == 1)

        view.take(.changes([service("v2")]))
        #expect(view.routeList().entries.first?.findings == [] && status(view).findings == [])
    }

    /// Its parents are Gateways: somebody else's.
    @Test func aRouteWithoutAServiceAsParentIsNoneOfOurs() {
        var view = ClusterView()
        view.take(.changes([route(to: "v2", parents: [])]))
        #expect(view.routeList().entries.isEmpty && status(view).routes == 0 && status(view).findings == [])
    }

    @Test func problemsOfTheSourceReplaceThoseBefore() {
        var view = ClusterView()
        view.take(.problems([SourceProblem(location: "server/api/v1/services", message: "forbidden")]))
        #expect(status(view).source.problems == ["server/api/v1/services: forbidden"])
        view.take(.problems([]))
        #expect(status(view).source.problems == [])
    }

    /// A status stays small, however much is wrong.
    @Test func aStatusNamesSomeFindingsAndCountsAll() {
        var view = ClusterView()
        var changes = [service("web")]
        for number in 0..<300 {
            var route = Route(kind: .http, name: ObjectName("shop", "r\(number)"))
            route.parents = [Route.Parent(service: ObjectName("shop", "web"))]
            var rule = Route.Rule()
            rule.backends = [Route.Backend(.init(name: ObjectName("shop", "missing"), port: 80))]
            // Two alike would be told of a second time: the younger is never met.
            rule.matches = [Route.Match()]
            rule.matches[0].path = .exact("/\(number)")
            route.rules = [rule]
            changes.append(.upsert(.route(route)))
        }
        view.take(.changes(changes))
        view.take(.synced)
        #expect(status(view).findings.count == 200 && status(view).findingCount == 300)
        #expect(view.routeList().entries.count == 300)
        #expect(view.routeList(of: "shop/web").entries.count == 300 && view.routeList(of: "shop/w").entries == [])
    }

    /// What statuses are made of tells the same of routes as what agents compile.
    @Test(arguments: 0..<5) func findingsAreThoseOfTheCompiler(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var (view, state) = (ClusterView(), ClusterState())
        var compiler = RouteCompiler(node: NodeFacts(name: ""))
        view.take(.synced)
        for _ in 0..<300 {
            let change = edit(using: &random)
            view.take(.changes([change]))
            let dirty = state.apply(change).services
            _ = compiler.update(dirty, pods: [], node: NodeFacts(name: ""), own: OwnSockets(), from: state)
            let (here, there) = (view.findings, compiler.findings)
            let ofRoutes = { (findings: [Finding]) in findings.filter(\.object.kind.isRoute) }
            #expect(Set(ofRoutes(here)) == Set(ofRoutes(there)), "seed \(seed)")
            #expect(ofRoutes(here).count == ofRoutes(there).count, "seed \(seed)")
            // Annotations are told of as soon as a rule names the service, though it may have no such port.
            #expect(Set(here).isSuperset(of: there), "seed \(seed)")
        }
    }
    /// Few names, so that parents, backends and ports are there or not.
    private func edit(using random: inout SeededGenerator) -> Change {
        let name = ObjectName("shop", ["a", "b", "c"].randomElement(using: &random) ?? "a")
        if Int.random(in: 0..<3, using: &random) == 0 {
            guard Int.random(in: 0..<3, using: &random) > 0 else { return .delete(ObjectID(.service, name)) }
            var service = Service(name: name)
            service.clusterIPs = [IPAddress(v4: 0x0a60_0001)]
            service.ports = [UInt16(80), 81].prefix(Int.random(in: 1...2, using: &random)).map { port in
                var port = Service.Port(name: "p\(port)", port: port)
                port.appProtocol = ["http", "kubernetes.io/h2c", "tcp", nil].randomElement(using: &random) ?? nil
                return port
            }
            if Bool.random(using: &random) { service.annotations = ["heddle.io/warmup": "soon"] }
            return .upsert(.service(service))
        }
        let kind: Route.Kind = Bool.random(using: &random) ? .http : .grpc
        let number = Int.random(in: 0..<4, using: &random)
        var route = Route(kind: kind, name: ObjectName(["shop", "other"][number % 2], "r\(number)"))
        guard Int.random(in: 0..<4, using: &random) > 0 else { return .delete(route.id) }
        route.parents = ["a", "b", "gone"].prefix(Int.random(in: 0...3, using: &random)).map {
            Route.Parent(service: ObjectName("shop", $0), port: Bool.random(using: &random) ? 80 : nil)
        }
        var rule = Route.Rule()
        let backend = ObjectName("shop", ["b", "c", "gone"].randomElement(using: &random) ?? "b")
        rule.backends = [Route.Backend(.init(name: backend, port: Bool.random(using: &random) ? 80 : 81))]
        route.rules = [rule]
        return .upsert(.route(route))
    }
}
