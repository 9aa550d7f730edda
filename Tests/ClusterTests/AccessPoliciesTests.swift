/// Which policies are for which pod, and what a change touches.
import Addressing
import Cluster
import RouteIR
import TestSupport
import Testing

@Suite struct AccessPoliciesTests {
    private func pod(_ name: String, _ number: UInt32, in namespace: String = "shop", _ labels: [String: String])
        -> Cluster.Pod
    {
        var pod = Cluster.Pod(name: ObjectName(namespace, name))
        (pod.addresses, pod.nodeName, pod.labels) = ([IPAddress(v4: 0x0a01_0000 + number)], "here", labels)
        return pod
    }
    private func policy(
        _ name: String, in namespace: String = "shop", _ selector: [String: String] = [:], service: String? = nil
    ) -> AuthorizationPolicy {
        var policy = AuthorizationPolicy(name: ObjectName(namespace, name))
        policy.selector = selector
        policy.targets = service.map { [.init(group: "", kind: "Service", name: $0)] } ?? []
        return policy
    }
    private func slice(_ service: String, in namespace: String = "shop", _ numbers: [UInt32]) -> EndpointSlice {
        var slice = EndpointSlice(
            name: ObjectName(namespace, service), serviceName: service, addressType: .ipv4)
        slice.endpoints = numbers.map { .init(IPAddress(v4: 0x0a01_0000 + $0)) }
        return slice
    }
    private func state() -> ClusterState {
        var state = ClusterState(meshNode: "here")
        for pod in [
            pod("web", 1, ["app": "web", "tier": "front"]), pod("db", 2, ["app": "db"]),
            pod("far", 3, in: "other", ["app": "web"]),
        ] { _ = state.apply(.upsert(.pod(pod))) }
        return state
    }
    private func names(_ state: ClusterState, _ namespace: String, _ pod: String) -> [String] {
        state.mesh.localPods[ObjectName(namespace, pod)].map { state.authorizationPolicies(of: $0).map(\.name.name) }
            ?? []
    }

    @Test func scopes() {
        var state = state()
        for policy in [
            policy("all"), policy("both", ["app": "web", "tier": "front"]),
            policy("back", ["app": "web", "tier": "back"]),
            policy("root", in: "istio-system"), policy("root-web", in: "istio-system", ["app": "web"]),
            policy("db", service: "db"),
        ] { _ = state.apply(.upsert(.authorizationPolicy(policy))) }
        #expect(names(state, "shop", "web") == ["root", "root-web", "all", "both"])
        #expect(names(state, "shop", "db") == ["root", "all"])
        #expect(names(state, "other", "far") == ["root", "root-web"])
        let dirty = state.apply(.upsert(.endpointSlice(slice("db", [2]))))
        #expect(dirty.pods == [IPAddress(v4: 0x0a01_0002)])
        #expect(names(state, "shop", "db") == ["root", "all", "db"])
    }

    @Test func aSliceOfAnotherNamespaceBringsNoPolicies() {
        var state = state()
        _ = state.apply(.upsert(.authorizationPolicy(policy("evil", in: "other", service: "db"))))
        _ = state.apply(.upsert(.endpointSlice(slice("db", in: "other", [2]))))
        #expect(names(state, "shop", "db") == [])
    }

    @Test func aPolicyTouchesThePodsThatItIsOrWasFor() {
        var state = state()
        func change(_ policy: AuthorizationPolicy) -> Dirty { state.apply(.upsert(.authorizationPolicy(policy))) }
        let (web, db) = (IPAddress(v4: 0x0a01_0001), IPAddress(v4: 0x0a01_0002))
        #expect(change(policy("p", ["app": "web"])).pods == [web])
        #expect(change(policy("p", ["app": "web"])).isEmpty)
        #expect(change(policy("p", ["app": "db"])).pods == [web, db])
        #expect(change(policy("p", ["app": "nobody"])).pods == [db])
        let gone = state.apply(.delete(ObjectID(.authorizationPolicy, ObjectName("shop", "p"))))
        #expect(gone.pods.isEmpty && gone.accessPolicies == [ObjectName("shop", "p")])
        #expect(state.mesh.access.all.isEmpty)
    }

    @Test func withoutAMeshNothingIsKept() {
        var state = ClusterState()
        #expect(state.apply(.upsert(.authorizationPolicy(policy("p")))).isEmpty)
        #expect(state.mesh.access.all.isEmpty)
    }

    /// After any changes the answers are those of a state that was told the end only, and no pod has other policies
    /// than before without having been touched.
    @Test(arguments: 0..<200) func changesComeToTheSameAsTheEnd(seed: UInt64) {
        var random = Samples(generator: SeededGenerator(seed: seed))
        var state = ClusterState(meshNode: "here")
        var objects: [ObjectID: ClusterObject] = [:]
        var known: [ObjectName: [String]] = [:]
        for _ in 0..<60 {
            let object = object(&random)
            let change: Change = random.chance(25) ? .delete(object.id) : .upsert(object)
            if case .delete = change { objects[object.id] = nil } else { objects[object.id] = object }
            let dirty = state.apply(change)
            for pod in state.mesh.localPods.values {
                let names = state.authorizationPolicies(of: pod).map(\.name.description)
                if known[pod.name] != names {
                    #expect(pod.addresses.contains(where: dirty.pods.contains), "seed \(seed): \(pod.name)")
                }
                known[pod.name] = names
            }
        }
        var other = ClusterState(meshNode: "here")
        for object in objects.values { _ = other.apply(.upsert(object)) }
        for pod in other.mesh.localPods.values {
            #expect(other.accessPolicies(of: pod) == state.accessPolicies(of: pod), "seed \(seed): \(pod.name)")
        }
    }

    private func object(_ random: inout Samples) -> ClusterObject {
        let namespace = random.pick(["shop", "other", "istio-system"])
        func labels() -> [String: String] {
            var labels: [String: String] = [:]
            for key in ["app", "tier"] where random.chance(50) { labels[key] = random.pick(["a", "b"]) }
            return labels
        }
        switch random.number(0...2) {
        case 0: return .pod(pod(random.pick(["p", "q", "r"]), UInt32(random.number(1...4)), in: namespace, labels()))
        case 1:
            return .endpointSlice(
                slice(
                    random.pick(["s", "t"]), in: namespace,
                    (0...random.number(0...2)).map { _ in UInt32(random.number(1...4)) }))
        default:
            let service = random.chance(30) ? random.pick(["s", "t"]) : nil
            return .authorizationPolicy(
                policy(random.pick(["x", "y", "z"]), in: namespace, service == nil ? labels() : [:], service: service))
        }
    }
}
