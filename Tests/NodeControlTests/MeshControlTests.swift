// The agent's part in the mesh: which pods it follows, what it hands to the proxy and to the kernel, and when.
import Addressing
import AdminAPI
import Cluster
import Compile
import DataplaneIR
import HandOver
import Reconcile
import RouteIR
import Testing

@testable import NodeControl

@Suite struct MeshControlTests {
    private struct Driver {
        var controller: NodeController
        var now = Duration.seconds(100)
        var plans: [Plan] = []
        var published: [ProxySnapshot] = []
        var scopes: [PodScope] = []
        var told: [ObjectEvent] = []

        init(isFirstHere: Bool = true, _ edit: (inout NodeSettings) -> Void = { _ in }) {
            var settings = NodeSettings(nodeName: "node-a")
            settings.proxy = .external
            settings.mesh = ProxyMesh(trustDomain: "cluster.local")
            edit(&settings)
            controller = NodeController(settings, generation: 1, isFirstHere: isFirstHere, now: now, wallTime: 0)
            take(.addresses([LocalAddress(IPAddress(v4: 0xc0a8_0002))]))
        }

        mutating func take(_ event: NodeEvent) { controller.take(event, now: now) }
        mutating func tell(_ objects: ClusterObject...) {
            take(.source(0, .changes(objects.map { .upsert($0) })))
            settle()
        }
        mutating func settle() {
            while true {
                let actions = controller.next(now: now)
                if actions.isEmpty { return }
                for action in actions {
                    switch action {
                    case .apply(let plan):
                        plans.append(plan)
                        take(.applied(.success(Receipt(generation: plan.generation)), jitter: 0))
                    case .publish(let snapshot): published.append(snapshot)
                    case .follow(let scope, _): scopes.append(scope)
                    case .tell(let event): told.append(event)
                    default: break
                    }
                }
            }
        }
        mutating func wait(_ time: Duration) {
            now += time
            settle()
        }
        mutating func synced() {
            take(.source(0, .synced))
            settle()
        }
        mutating func proxyComes() {
            take(.proxies([.init(pid: 9, version: "v", generation: .max)], outdated: []))
            settle()
        }
        var program: MeshProgram { controller.node.mesh }
    }

    private func namespace(_ value: String = "ambient", of key: String = "istio.io/dataplane-mode") -> ClusterObject {
        var namespace = Namespace(name: "shop")
        namespace.labels = [key: value]
        return .namespace(namespace)
    }
    private func pod(_ name: String, _ number: UInt32, on node: String = "node-a") -> ClusterObject {
        var pod = Pod(name: ObjectName("shop", name))
        (pod.addresses, pod.nodeName, pod.serviceAccount) = ([address(number)], node, name)
        return .pod(pod)
    }
    private func address(_ number: UInt32) -> IPAddress { IPAddress(v4: 0x0a01_0000 + number) }
    private var service: ClusterObject {
        var service = Service(name: ObjectName("shop", "web"))
        service.clusterIPs = [IPAddress(v4: 0x0a60_0001)]
        service.ports = [Service.Port(name: "tcp", port: 80)]
        return .service(service)
    }
    private var slice: ClusterObject {
        var slice = EndpointSlice(name: ObjectName("shop", "web"), serviceName: "web", addressType: .ipv4)
        slice.ports = [.init(name: "tcp", port: 8080)]
        slice.endpoints = [.init(address(2), conditions: [.ready, .serving, .ofPod])]
        return .endpointSlice(slice)
    }

    /// From the moment that a pod is enrolled nothing of it goes in the clear, be the proxy there or not.
    @Test func thePodsOfADirectory() {
        var driver = Driver()
        driver.tell(namespace(), pod("client", 1), pod("server", 2, on: "node-b"), service, slice)
        driver.synced()
        #expect(driver.program.pods.keys.sorted() == [address(1)])
        #expect(driver.plans.count == 1 && driver.program.enrolled == [address(1), address(2)])
        #expect(driver.plans.last?.upserts.flatMap(\.frontends).map(\.action) == [.tunnel])
        #expect(driver.controller.proxy.phase == .starting(until: .seconds(105)))
        driver.proxyComes()
        driver.wait(.seconds(1))
        #expect(driver.program.enrolled == [address(1), address(2)])
        #expect(driver.published.last?.meshPods.keys.sorted() == [address(1)])
        #expect(driver.published.last?.services.values.map(\.clientProtocol) == [.tcp])
        #expect(driver.controller.compiler.programs.values.flatMap(\.frontends).map(\.action) == [.tunnel])
        driver.take(.proxies([], outdated: []))
        driver.wait(.seconds(1))
        #expect(driver.program.enrolled.count == 2, "what takes tunnels is not sent to in the clear")
        #expect(driver.controller.proxyWarnings.contains { $0.contains("1 pods of this node that are in the mesh") })

        // Out again: everything is as it was.
        driver.tell(namespace("none"))
        driver.wait(.seconds(1))
        #expect(driver.program == MeshProgram() && driver.published.last?.mesh == nil)
        #expect(driver.plans.last?.upserts.flatMap(\.frontends).map(\.action) == [.balance])
    }

    @Test(arguments: [true, false]) func nothingIsDoneWithoutAMesh(isProxyOff: Bool) {
        var driver = Driver {
            if isProxyOff { $0.proxy = .off } else { $0.mesh = nil }
            $0.podSources = [0]
        }
        driver.tell(
            namespace("enabled", of: "heddle.io/mesh"), pod("client", 1), pod("server", 2, on: "node-b"), service, slice
        )
        driver.synced()
        #expect(driver.program == MeshProgram() && driver.scopes == [] && driver.published == [])
        #expect(driver.controller.census.findings == ["mesh-off": 1])
        driver.tell(namespace())
        driver.settle()
        #expect(driver.controller.census.findings == [:], "Istio's label may be meant for another mesh")
    }

    /// Of this node always, of all once one of them is in the mesh.
    @Test func podsAreFollowed() {
        var driver = Driver { $0.podSources = [0] }
        driver.tell(namespace("none"), service, slice)
        driver.synced()
        #expect(driver.scopes == [.ofNode])
        driver.tell(pod("client", 1))
        driver.take(.source(0, .podsKnown(round: 1)))
        driver.settle()
        #expect(driver.scopes == [.ofNode] && !driver.controller.routes.isNeeded)
        driver.tell(namespace())
        #expect(driver.scopes == [.ofNode, .all])
        // Nothing is sent to any of them before it is known which are.
        #expect(driver.program.enrolled == [address(1)] && driver.program.unlisted.contains { $0.contains(address(2)) })
        #expect(driver.controller.compiler.programs.values.flatMap(\.frontends).map(\.action) == [.tunnel])
        #expect(driver.controller.node.proxyListeners.isEmpty)
        // Which of the others are enrolled is known once all are: what was told of this node's alone comes too late.
        driver.take(.source(0, .podsKnown(round: 1, ofAll: false)))
        driver.proxyComes()
        #expect(driver.controller.proxy.phase == .learning(wasRouted: false, until: nil) && driver.published.isEmpty)
        driver.take(.source(0, .podsKnown(round: 1)))
        driver.settle()
        #expect(driver.controller.proxy.phase == .up && driver.published.last?.unknownPods == [address(2)])
        #expect(driver.program.enrolled == [address(1), address(2)] && driver.program.unlisted.isEmpty)
        #expect(!driver.controller.node.proxyListeners.isEmpty)
        driver.tell(namespace("none"))
        #expect(driver.scopes == [.ofNode, .all, .ofNode])
    }

    /// The others are listed while the node's first one is being started.
    @Test func aPodWithoutAnAddressIsAReasonToFollowAll() {
        var driver = Driver { $0.podSources = [0] }
        driver.tell(namespace())
        driver.synced()
        driver.take(.source(0, .podsKnown(round: 1)))
        var client = Pod(name: ObjectName("shop", "client"))
        client.nodeName = "node-a"
        driver.tell(.pod(client))
        #expect(driver.scopes == [.ofNode, .all])
        driver.take(.source(0, .podsKnown(round: 1)))
        driver.tell(pod("client", 1))
        #expect(driver.program.enrolled == [address(1)] && driver.program.unlisted.isEmpty)
        client.isFinished = true
        driver.tell(.pod(client))
        #expect(driver.scopes == [.ofNode, .all, .ofNode])
    }

    /// Whoever may write slices keeps nobody from the API server, and from nothing that can be no pod.
    @Test(arguments: [[String](), ["10.1.0.0/29"]]) func whatCanBeAPod(ranges: [String]) {
        var driver = Driver { $0.clusterCIDRs = ranges.compactMap { IPPrefix($0) } }
        var evil = EndpointSlice(name: ObjectName("shop", "evil"), serviceName: "evil", addressType: .ipv4)
        let (apiServer, node) = (IPAddress(v4: 0xc0a8_0009), IPAddress(v4: 0xc0a8_0002))
        evil.endpoints = [address(2), address(9), apiServer, node].map {
            .init($0, conditions: [.ready, .serving, .ofPod])
        }
        var real = EndpointSlice(name: ObjectName("default", "k"), serviceName: "kubernetes", addressType: .ipv4)
        real.endpoints = [.init(apiServer)]
        driver.tell(namespace(), pod("client", 1), .endpointSlice(evil), .endpointSlice(real))
        driver.synced()
        let pods = [address(1), address(2)] + (ranges.isEmpty ? [address(9)] : [])
        #expect(driver.program.enrolled == Set(pods))
    }

    @Test func wherePodsMayBe() {
        var settings = NodeSettings(nodeName: "n")
        #expect(
            settings.podRanges.count == 6 && settings.podRanges.allSatisfy { !$0.contains(IPAddress(v4: 0x7f00_0001)) })
        let given = [IPPrefix("10.244.0.0/16"), IPPrefix("10.245.0.0/16")].compactMap { $0 }
        settings.clusterCIDRs = given
        #expect(settings.podRanges.filter { $0.family == .ipv4 } == given && settings.podRanges.count == 4)
    }

    /// What an earlier agent wrote of pods in the mesh stays until they are known, however long that takes.
    @Test(arguments: [true, false]) func nothingIsWrittenBeforePodsAreKnown(areTold: Bool) {
        var driver = Driver(isFirstHere: false) { $0.podSources = [0] }
        driver.tell(namespace(), service, slice)
        driver.proxyComes()
        driver.synced()
        #expect(driver.plans.isEmpty && driver.scopes == [.all])
        if areTold {
            driver.tell(pod("client", 1), pod("server", 2, on: "node-b"))
            #expect(driver.plans.isEmpty)
            driver.take(.source(0, .podsKnown(round: 1)))
            driver.wait(.seconds(1))
            #expect(driver.plans.count == 1 && driver.plans.first?.node.mesh.enrolled.count == 2)
            #expect(driver.plans.first?.upserts.flatMap(\.frontends).map(\.action) == [.tunnel])
        } else {
            driver.wait(.seconds(3600))
            #expect(
                driver.plans.isEmpty && driver.controller.warnings.node.contains { $0.contains("nothing is written") })
        }
    }

    @Test func whatWaitsForAPodIsExplained() throws {
        var driver = Driver()
        driver.tell(namespace(), pod("client", 1), service, slice)
        driver.synced()
        driver.proxyComes()
        func explain(_ from: UInt32, _ to: SocketAddress) throws -> Explanation {
            try driver.controller.explain(FlowQuestion(from: "\(address(from))", to: to)) { _ in "eth0" }
        }
        let cluster = SocketAddress(IPAddress(v4: 0x0a60_0001), 80)
        let viaService = try explain(1, cluster)
        #expect(viaService.verdict == "proxy" && viaService.endpoints.map(\.address) == ["10.1.0.2:8080"])
        #expect(viaService.endpoints[0].excluded?.contains("Pod is not known") == true)
        let direct = try explain(1, SocketAddress(address(2), 8080))
        #expect(direct.verdict == "proxy" && direct.decisions.last?.outcome.contains("Pod is not known") == true)
        // Who is not enrolled waits for nobody.
        #expect(try explain(9, cluster).endpoints.map(\.excluded) == [nil])
        driver.tell(pod("server", 2, on: "node-b"))
        driver.wait(.seconds(1))
        #expect(try explain(1, cluster).endpoints.map(\.excluded) == [nil])
    }

    @Test func everyPodOfTheNodeIsListed() {
        var driver = Driver()
        var policy = PeerAuthentication(name: ObjectName("shop", "strict"))
        (policy.mode, policy.selector) = (.strict, ["app": "web"])
        policy.portModes = [8080: .disable]
        var web = Pod(name: ObjectName("shop", "web"))
        (web.addresses, web.nodeName, web.labels, web.serviceAccount) = ([address(3)], "node-a", ["app": "web"], "w")
        var host = Pod(name: ObjectName("shop", "host"))
        (host.nodeName, host.isOnHostNetwork, host.addresses) = ("node-a", true, [IPAddress(v4: 0xc0a8_0002)])
        driver.tell(
            namespace(), pod("client", 1), pod("server", 2, on: "node-b"), .pod(web), .pod(host),
            .peerAuthentication(policy))
        driver.synced()
        #expect(driver.controller.meshList().pods[0].problem?.hasPrefix("it waits for its node's proxy") == true)
        driver.proxyComes()
        let list = driver.controller.meshList()
        #expect(list.trustDomain == "cluster.local" && list.enrolledAddresses == 3)
        #expect(list.pods.map(\.name) == ["shop/client", "shop/host", "shop/web"])
        #expect(list.pods.map(\.isEnrolled) == [true, false, true])
        #expect(list.pods.map(\.mode) == ["PERMISSIVE", nil, "STRICT"])
        #expect(list.pods[2].portModes == ["8080": "DISABLE"])
        #expect(list.pods[2].modeSource == "PeerAuthentication shop/strict")
        #expect(list.pods[0].identity == "spiffe://cluster.local/ns/shop/sa/client")
        #expect(list.pods[1].reason == "uses the network of its node" && list.pods[1].identity == nil)
        #expect(list.pods[0].reason == "istio.io/dataplane-mode=ambient on the namespace")
        #expect(list.pods.allSatisfy { $0.problem == nil })
        let problems = [address(1): "its network namespace is not found", address(9): "x"]
        #expect(driver.controller.meshList(problems: problems).pods[0].problem == problems[address(1)])
        let warnings = driver.controller.meshWarnings(problems)
        #expect(warnings.count == 1 && warnings.first?.hasPrefix("no tunnel is taken for shop/client: its") == true)
        driver.take(.proxies([], outdated: []))
        driver.wait(.seconds(1))
        #expect(driver.controller.meshList().pods[0].problem?.contains("is down") == true)
        #expect(driver.controller.meshList().pods[1].problem == nil)
    }

    @Test func policiesAreListedInTheOrderOfAsking() throws {
        var driver = Driver()
        driver.tell(namespace(), pod("web", 1), pod("far", 2, on: "node-b"))
        driver.synced()
        #expect(driver.controller.policyList?.pods.map(\.otherwise) == ["allowed"])
        var (allow, deny) = (
            AuthorizationPolicy(name: ObjectName("shop", "a")), AuthorizationPolicy(name: ObjectName("shop", "d"))
        )
        allow.access.rules = [PolicyRule(sources: [[PolicyTest(.text(.serviceAccount, [.exact("shop/web")]))]])]
        deny.access.action = .deny
        deny.access.rules = [
            PolicyRule(operations: [[PolicyTest(.text(.path, [.exact("/x")])), PolicyTest(.port([1]))]])
        ]
        driver.tell(.authorizationPolicy(allow), .authorizationPolicy(deny))
        let pod = try #require(driver.controller.policyList?.pods.first)
        #expect(pod.policies.map(\.name) == ["shop/d", "shop/a"] && pod.otherwise == "denied")
        #expect(pod.policies.map(\.reason) == ["namespace", "namespace"])
        #expect(pod.policies[0].rules.map(\.text) == ["to path /x, port 1"])
        #expect(pod.policies[0].rules[0].enforcement == "connections, without what it says of requests")
        #expect(pod.policies[1].rules.map(\.text) == ["from account shop/web"])
        #expect(driver.told.map(\.reason) == ["PolicyRequests"])
        #expect(Driver { $0.mesh = nil }.controller.policyList == nil)
    }

    @Test func whatIsWrongIsToldOnce() {
        var driver = Driver()
        var broken = Pod(name: ObjectName("shop", "broken"))
        (broken.addresses, broken.nodeName, broken.serviceAccount) = ([address(1), address(7)], "node-a", "")
        driver.tell(namespace(), .pod(broken))
        driver.synced()
        #expect(driver.told.map(\.reason) == ["MeshNoAccount"])
        #expect(driver.controller.census.findings == ["mesh-no-account": 1])
        let version = driver.controller.findingsVersion
        driver.tell(pod("broken", 1))
        #expect(driver.controller.census.findings == [:] && driver.controller.findingsVersion > version)
    }
}
