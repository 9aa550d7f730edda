// The whole cluster judged, for those who ask: what of it is told, and how it is asked for.
import Addressing
import AdminAPI
import AdminServer
import Cluster
import FoundationEssentials
import RouteIR
import Synchronization
import Testing
import Validation

@testable import Controller

@Suite struct ClusterAnalysisTests {
    private func service(_ name: String, in namespace: String = "shop", address: UInt32 = 1) -> Change {
        var service = Service(name: ObjectName(namespace, name))
        service.clusterIPs = [IPAddress(v4: 0x0a60_0000 + address)]
        service.ports = [Service.Port(name: "http", port: 80)]
        return .upsert(.service(service))
    }
    private func route(_ name: String, to backend: String, in namespace: String = "shop") -> Change {
        var route = Route(kind: .http, name: ObjectName(namespace, name))
        route.parents = [Route.Parent(service: ObjectName(namespace, "web"), port: 80)]
        var rule = Route.Rule()
        rule.backends = [Route.Backend(.init(name: ObjectName(namespace, backend), port: 80))]
        rule.matches = [Route.Match()]
        rule.matches[0].path = .exact("/\(name)")
        route.rules = [rule]
        return .upsert(.route(route))
    }
    private func view(_ changes: [Change], isComplete: Bool = true) -> ClusterView {
        var view = ClusterView()
        view.take(.changes(changes))
        if isComplete { view.take(.synced) }
        return view
    }
    private func analysis(_ view: ClusterView, of namespace: String? = nil) -> ClusterAnalysis {
        view.analysis(view.judged(), of: namespace)
    }

    @Test func whatIsMissingInTheClusterIsMissing() throws {
        let answer = analysis(view([service("web"), route("r", to: "v1")]))
        let entry = try #require(answer.entries.first)
        #expect(answer.entries.count == 1 && entry.severity == "error" && entry.code == "invalid-backend")
        #expect(entry.object == "HTTPRoute shop/r" && entry.field == "spec.rules[0].backendRefs[0]")
        #expect(answer.errors == 1 && answer.warnings == 0 && answer.objects == 2 && answer.notes == [])
        // A Service that nobody stands behind.
        let idle = analysis(view([service("web"), service("v1", address: 2), route("r", to: "v1")]))
        #expect(idle.entries.map(\.code) == ["no-endpoints"] && idle.errors == 0 && idle.warnings == 1)
    }
    /// As long as the first lists come, nothing is said to be missing.
    @Test func whatMayComeYetIsUnknown() {
        let answer = analysis(view([service("web"), route("r", to: "v1")], isComplete: false))
        #expect(answer.entries == [] && answer.notes.count == 2)
        #expect(answer.notes[0].hasPrefix("the first lists are not complete"))
        #expect(answer.notes[1].contains("Services that were not given (shop/v1)"))
    }
    @Test func ofOneNamespace() {
        var changes = [service("web"), route("r", to: "v1"), service("web", in: "b", address: 2)]
        changes += [route("r", to: "v1", in: "b")]
        for name in ["shop", "c"] {
            var namespace = Namespace(name: name)
            namespace.labels = ["heddle.io/mesh": "enabled", "istio-injection": "enabled"]
            changes.append(.upsert(.namespace(namespace)))
        }
        let view = view(changes)
        #expect(
            analysis(view).entries.map(\.code) == ["invalid-backend", "invalid-backend", "two-meshes", "two-meshes"])
        let shop = analysis(view, of: "shop")
        #expect(shop.entries.map(\.object) == ["HTTPRoute shop/r", "Namespace shop"] && shop.objects == 3)
        #expect(analysis(view, of: "nobody") == ClusterAnalysis())
    }
    /// An answer stays small, however much is wrong; errors are never left out for warnings.
    @Test func someAreShownAndAllAreCounted() {
        let changes = (0..<1100).map { route("r\($0)", to: "v1") }
        let answer = analysis(view([service("web"), service("v1", address: 2), route("z", to: "v2")] + changes))
        #expect(
            answer.entries.count == ClusterAnalysis.maximumEntries && answer.entries[0].object == "HTTPRoute shop/z")
        #expect(answer.errors == 1 && answer.warnings == 1100)
        #expect(answer.notes == ["101 more are not shown; --namespace shows those of one"])
    }
    @Test func whatTheSourceCannotReadIsNotJudged() {
        var view = view([])
        view.take(.problems([SourceProblem(location: "server", message: "forbidden")]))
        #expect(analysis(view).notes.map { $0.hasPrefix("1 problems of the source") } == [true])
    }

    // MARK: Asking

    private final class Answers: Sendable {
        private let answers = Mutex<[Int]>([])
        let walks = Atomic(0)
        var statuses: [Int] { answers.withLock { $0 } }
        @Sendable func take(_ response: HTTPResponse) { answers.withLock { $0.append(response.status) } }
    }

    /// Those who wait are answered with one walk, and are no more than some.
    @Test func whoeverAsksIsAnswered() async throws {
        let view = view([service("web"), route("r", to: "v1")])
        let analyst = ClusterAnalyst()
        let answers = Answers()
        for _ in 0..<20 { analyst.ask(nil, answers.take) }
        #expect(answers.statuses == [503, 503, 503, 503])
        await withDiscardingTaskGroup { group in
            group.addTask {
                await analyst.run {
                    answers.walks.add(1, ordering: .relaxed)
                    return view
                }
            }
            while answers.statuses.count < 20 { await Task.yield() }
            // It goes on: the next question is another walk.
            await withCheckedContinuation { next in
                analyst.ask("shop") { response in
                    let answer = try? JSONDecoder().decode(ClusterAnalysis.self, from: Data(response.body))
                    #expect(response.status == 200 && answer == self.analysis(view, of: "shop"))
                    next.resume()
                }
            }
            group.cancelAll()
        }
        #expect(answers.statuses.count { $0 == 200 } == 16 && answers.walks.load(ordering: .relaxed) == 2)
    }
}
