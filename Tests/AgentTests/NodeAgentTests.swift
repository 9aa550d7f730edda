// The control actor with a dataplane in memory: what it writes, when, and what it says about it.
import Addressing
import AdminAPI
import Cluster
import DataplaneIR
import NodeControl
import Observation
import Reconcile
import Telemetry
import Testing
import TestSupport

@testable import Agent

@Suite(.timeLimit(.minutes(5))) struct NodeAgentTests {
    private let web = ServicePortID(
        namespace: "default", service: "web", portName: "", transport: .tcp, family: .ipv4)

    @Test("row 158: nothing is written before the source is complete; then one full plan")
    func waitsForTheSource() async throws {
        try await AgentRig.run { rig in
            rig.send(webService(), webSlice(1, 2))
            // The answer shows that the changes before it were taken in.
            _ = try await rig.ask(AgentStatus.self, .status)
            #expect(rig.dataplane.plans.isEmpty && !rig.board.status.ready)
            rig.synced()
            try await rig.inSync()
            #expect(rig.dataplane.plans.map(\.isFull) == [true])
            #expect(rig.dataplane.programs[web]?.backends.count == 2)
        }
    }

    @Test func whatTheKernelShouldHoldCanBeAsked() async throws {
        try await AgentRig.run { rig in
            rig.send(webService(), webSlice(1, 2))
            rig.synced()
            try await rig.inSync()
            let desired = try await rig.ask(KernelDump.self, .desired)
            #expect(desired.node == "node-a" && desired.generation == 1 && desired.maps.isEmpty)
            #expect(desired.frontends.map(\.service) == ["default/web"])
            #expect(desired.frontends.first?.action == "balance")
            #expect(desired.frontends.first?.backends.map(\.address) == ["10.1.0.1", "10.1.0.2"])
        }
    }

    @Test func anEmptyClusterIsInSyncToo() async throws {
        try await AgentRig.run { rig in
            rig.synced()
            try await rig.inSync()
            #expect(rig.board.status.sync.generation == 1)
        }
    }

    @Test func aChangeBecomesAnIncrementalPlan() async throws {
        try await AgentRig.run { rig in
            rig.send(webService(), webSlice(1, 2))
            rig.synced()
            try await rig.inSync()
            rig.send(webSlice(1, 2, 3))
            try await soon("three backends") { rig.dataplane.programs[web]?.backends.count == 3 }
            #expect(rig.dataplane.plans.last?.isFull == false)
            rig.delete(ObjectID(.service, ObjectName("default", "web")))
            try await soon("gone") { rig.dataplane.programs.isEmpty }
        }
    }

    @Test("row 149: the latency of a change is observed once, also of one that the kernel need not hear of")
    func observesProgrammingLatency() async throws {
        try await AgentRig.run { rig in
            rig.synced()
            try await rig.inSync()
            func slice(_ name: String, of service: String, at trigger: Double) -> ClusterObject {
                var slice = EndpointSlice(
                    name: ObjectName("default", name), serviceName: service, addressType: .ipv4)
                slice.lastChangeTriggerTime = trigger
                return .endpointSlice(slice)
            }
            // No service selects it, so nothing is written.
            rig.send(slice("stray", of: "nothing", at: NodeAgent.wallTime))
            try await soon("observed") { observations(rig) == 1 }
            #expect(rig.dataplane.plans.count == 1)
            #expect(rig.metrics.registry.render().contains("kubeproxy_sync_proxy_rules_endpoint_changes_pending 0\n"))
            // What happened before our start says nothing about us.
            rig.send(slice("old", of: "nothing", at: 1000), webService(), webSlice(1))
            try await soon("programmed") { rig.dataplane.programs.count == 1 }
            #expect(observations(rig) == 1)
        }
    }
    private func observations(_ rig: AgentRig) -> Int {
        rig.metrics.registry.render().split(separator: "\n").reduce(0) { sum, line in
            guard line.hasPrefix("kubeproxy_network_programming_duration_seconds_count") else { return sum }
            return sum + (line.split(separator: " ").last.flatMap { Int($0) } ?? 0)
        }
    }

    @Test("a failed write is tried again and visible in between")
    func retries() async throws {
        try await AgentRig.run { rig in
            rig.send(webService(), webSlice(1))
            rig.dataplane.failNext(2)
            rig.synced()
            try await soon("a failure in the status") { rig.board.status.sync.failures > 0 }
            try await rig.inSync()
            #expect(rig.dataplane.programs.count == 1)
            #expect(rig.board.status.sync.failures == 2 && rig.board.status.sync.lastError == nil)
            #expect(rig.metrics.registry.render().contains("heddle_sync_failures_total 2\n"))
        }
    }

    @Test("row 169: a difference is found without any event, repaired and reported")
    func repairsDrift() async throws {
        try await AgentRig.run { rig in
            rig.send(webService(), webSlice(1))
            rig.synced()
            try await soon("proven") { rig.board.status.dataplane.proven }
            rig.dataplane.lose(web)
            try await soon("written again") { rig.dataplane.programs[web] != nil }
            try await soon("proven again") {
                let drift = rig.board.status.drift
                return drift.found == 1 && drift.repaired
            }
            #expect(rig.board.status.drift.last.first?.contains("is missing") == true)
        }
    }

    @Test func verifyListsAndRepairs() async throws {
        try await AgentRig.run(auditPeriod: .seconds(3600)) { rig in
            rig.send(webService(), webSlice(1))
            rig.synced()
            try await rig.inSync()
            rig.dataplane.lose(web)
            let found = try await rig.ask(VerifyReport.self, .verify(repair: false))
            #expect(found.differences.count == 1 && !found.repaired)
            let repaired = try await rig.ask(VerifyReport.self, .verify(repair: true))
            #expect(repaired.differences.count == 1 && repaired.repaired)
            #expect(try await rig.ask(VerifyReport.self, .verify(repair: false)).differences.isEmpty)
        }
    }

    @Test func aServiceThatDoesNotFitIsNamed() async throws {
        try await AgentRig.run { rig in
            rig.dataplane.refuse { _ in "map services is full" }
            rig.send(webService(), webSlice(1))
            rig.synced()
            try await soon("refused") { rig.board.status.refused.first?.reason == "map services is full" }
            #expect(rig.board.status.ready && !rig.board.status.sync.inSync)
            let services = try await rig.ask(ServiceList.self, .services)
            #expect(services.services.first?.refused == "map services is full")
        }
    }

    @Test("rows 88, 93: interface addresses and the Node object are followed live")
    func followsTheNode() async throws {
        try await AgentRig.run { rig in
            rig.synced()
            try await rig.inSync()
            var node = Node(name: "node-a")
            let address = IPAddress(v4: 0xc0a8_0009)
            node.nodeIPs = [address]
            rig.send(.node(node))
            _ = try await rig.ask(AgentStatus.self, .status)
            #expect(rig.dataplane.node?.nodePortAddresses == [])
            rig.agent.mailbox.send(.addresses([LocalAddress(address)]))
            try await soon("served") { rig.dataplane.node?.nodePortAddresses == [address] }
        }
    }

    @Test("row 152: services under policy Local without an endpoint here")
    func countsPolicyGaps() async throws {
        try await AgentRig.run { rig in
            rig.send(webService { $0.internalTrafficPolicy = .local }, webSlice(1, node: "elsewhere"))
            rig.synced()
            try await rig.inSync()
            let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total"
            let line = { (value: Int) in "\(name){ip_family=\"IPv4\",traffic_policy=\"internal\"} \(value)\n" }
            #expect(rig.metrics.registry.render().contains(line(1)))
            rig.send(webSlice(1))
            try await soon("no gap") { rig.metrics.registry.render().contains(line(0)) }
        }
    }

    @Test("rows 35, 68: health checks follow services and their local endpoints")
    func asksForHealthChecks() async throws {
        try await AgentRig.run { rig in
            let balanced = webService {
                $0.type = .loadBalancer
                $0.externalTrafficPolicy = .local
                $0.healthCheckNodePort = 30000
            }
            rig.send(balanced, webSlice(1, 2))
            rig.synced()
            try await soon("two") { rig.healthChecks.checks == ["default/web": 2] }
            rig.send(webSlice())
            try await soon("none") { rig.healthChecks.checks == ["default/web": 0] }
            rig.delete(ObjectID(.service, ObjectName("default", "web")))
            try await soon("gone") { rig.healthChecks.checks.isEmpty }
        }
    }

    @Test func problemsOfTheSourceAreShownUntilTheyAreGone() async throws {
        try await AgentRig.run { rig in
            rig.report([SourceProblem(location: "a.yaml:3", message: "not YAML")])
            try await soon("shown") { rig.board.status.sources[0].problems == ["a.yaml:3: not YAML"] }
            rig.report([])
            try await soon("gone") { rig.board.status.sources[0].problems.isEmpty }
        }
    }

    @Test func endpointsAndFlowsAreExplained() async throws {
        try await AgentRig.run { rig in
            rig.send(webService(), webSlice(1))
            rig.synced()
            try await rig.inSync()
            let list = try await rig.ask(EndpointList.self, .endpoints(ObjectName("default", "web")))
            #expect(list.exists && list.endpoints.map(\.address) == ["10.1.0.1:8080"])
            #expect(list.endpoints.first?.usedFor == ["Cluster", "Local"])
            let vip = SocketAddress(IPAddress(v4: 0x0a60_000a), 80)
            let answer = try await rig.ask(Explanation.self, .explain(.init(from: "10.1.0.9", to: vip)))
            #expect(answer.verdict == "balance" && answer.candidates == ["10.1.0.1:8080"])
            #expect(answer.endpoints == [.init(address: "10.1.0.1:8080", excluded: nil, slices: ["default/web-1"])])
            #expect(
                answer.decisions.first
                    == .init(
                        source: "10.96.0.10:80/TCP", outcome: "ClusterIP of default/web", object: "Service default/web")
            )
            #expect(answer.generation > 0)
        }
    }

    @Test("removed backends are remembered with their service until they are used again")
    func backendsReport() async throws {
        try await AgentRig.run { rig in
            rig.send(webService(), webSlice(1, 2))
            let early = try await rig.ask(BackendReport.self, .backends)
            #expect(!early.isInSync, "half of what there is must not look removed")
            rig.synced()
            try await rig.inSync()
            let first = try await rig.ask(BackendReport.self, .backends)
            #expect(first.isInSync && first.removed.isEmpty)
            #expect(first.inUse == ["10.1.0.1:8080/TCP", "10.1.0.2:8080/TCP"])
            #expect(first.services == ["10.96.0.10:80/TCP": "default/web"])

            rig.send(webSlice(2))
            try await soon("one is left") { rig.dataplane.programs.values.first?.backends.count == 1 }
            let second = try await rig.ask(BackendReport.self, .backends)
            #expect(second.inUse == ["10.1.0.2:8080/TCP"])
            #expect(second.removed.map(\.backend) == ["10.1.0.1:8080/TCP"])
            #expect(second.removed.map(\.service) == ["default/web"])
            #expect(second.removed.map(\.frontends) == [["10.96.0.10:80/TCP"]])

            rig.send(webSlice(1, 2))
            try await soon("two again") { rig.dataplane.programs.values.first?.backends.count == 2 }
            #expect(try await rig.ask(BackendReport.self, .backends).inUse == first.inUse)
        }
    }

    @Test("replaced entries are freed once their readers are gone")
    func collectsGarbage() async throws {
        try await AgentRig.run { rig in
            rig.synced()
            try await soon("collected") { rig.dataplane.garbageCollections > 0 }
        }
    }

    @Test func whatCannotBeCountedIsSaid() async throws {
        try await AgentRig.run { rig in
            rig.synced()
            try await rig.inSync()
            let before = rig.board.status.warnings
            let error = DataplaneError(operation: "look", code: 1, description: "look at live traffic: no BTF")
            rig.agent.mailbox.send(.traffic(.failure(error)))
            let warning = "--service-metrics: traffic is not counted: look at live traffic: no BTF"
            try await soon("it is a warning") { rig.board.status.warnings == before + [warning] }
            rig.agent.mailbox.send(.traffic(.success(TrafficReport(time: 0, backends: []))))
            try await soon("it is none any more") { rig.board.status.warnings == before }
        }
    }
}
