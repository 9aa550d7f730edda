// Events of the source in, what the controller says of the cluster out.
import Addressing
import AdminAPI
import Cluster
import RouteIR
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
        #expect(status(view).findings.count == 200 && status(view).findingCount == 300)
        #expect(view.routeList().entries.count == 300)
    }
}
