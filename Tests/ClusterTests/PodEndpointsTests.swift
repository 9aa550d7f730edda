/// Endpoints derived from Pods: what is derived, when it is withdrawn, and that working change by change gives the same
/// as starting from the final state.
import Addressing
import Cluster
import struct TestSupport.SeededGenerator
import Testing

private func service(_ name: String, _ selector: [String: String], _ ports: [Service.Port] = [Service.Port(port: 80)])
    -> Service
{
    var service = Service(name: ObjectName("d", name))
    service.clusterIPs = [IPAddress(v4: 0x0a60_0001)]
    service.selector = selector
    service.ports = ports
    return service
}
private func pod(_ name: String, _ labels: [String: String], _ addresses: String...) -> Pod {
    var pod = Pod(name: ObjectName("d", name))
    pod.labels = labels
    pod.addresses = addresses.compactMap { IPAddress($0) }
    pod.nodeName = "n1"
    return pod
}
private func slice(_ name: String, of service: String?) -> EndpointSlice {
    EndpointSlice(name: ObjectName("d", name), serviceName: service, addressType: .ipv4)
}
private func describe(_ changes: [Change]) -> [String] {
    changes.map { change in
        switch change {
        case .upsert(.endpointSlice(let slice)):
            "\(slice.name.name): " + slice.endpoints.map { "\($0.address)" }.joined(separator: " ") + " :"
                + slice.ports.map { "\($0.port)" }.joined(separator: ",")
        case .upsert(let object): "unexpected \(object.id)"
        case .delete(let id): "delete \(id.name.name)"
        }
    }
}

@Suite struct PodEndpointsTests {
    @Test func podsComeAndGo() {
        var derived = PodEndpoints()
        #expect(describe(derived.apply([.upsert(.service(service("web", ["app": "web"])))])) == [])
        let first = [
            Change.upsert(.pod(pod("b", ["app": "web", "x": "y"], "10.0.0.2"))),
            .upsert(.pod(pod("a", ["app": "web"], "10.0.0.1"))), .upsert(.pod(pod("c", ["app": "other"], "10.0.0.3"))),
        ]
        #expect(describe(derived.apply(first)) == ["web-heddle-ipv4: 10.0.0.1 10.0.0.2 :80"])
        #expect(derived.apply(first).isEmpty)
        #expect(
            describe(derived.apply([.delete(ObjectID(.pod, ObjectName("d", "a")))])) == [
                "web-heddle-ipv4: 10.0.0.2 :80"
            ])
        #expect(
            describe(derived.apply([.upsert(.pod(pod("b", ["app": "moved"], "10.0.0.2")))])) == [
                "delete web-heddle-ipv4"
            ])
        #expect(
            describe(derived.apply([.upsert(.service(service("web", ["app": "other"])))]))
                == ["web-heddle-ipv4: 10.0.0.3 :80"])
        #expect(
            describe(derived.apply([.delete(ObjectID(.service, ObjectName("d", "web")))])) == ["delete web-heddle-ipv4"]
        )
    }

    @Test func everyLabelOfTheSelectorMustMatch() {
        var derived = PodEndpoints()
        let pods = [pod("a", ["app": "web"], "10.0.0.1"), pod("b", ["app": "web", "tier": "x"], "10.0.0.2")]
        _ = derived.apply(pods.map { .upsert(.pod($0)) })
        let changes = derived.apply([.upsert(.service(service("web", ["app": "web", "tier": "x"])))])
        #expect(describe(changes) == ["web-heddle-ipv4: 10.0.0.2 :80"])
    }
    @Test func otherNamespacesAreNotSelected() {
        var derived = PodEndpoints()
        var foreign = pod("a", ["app": "web"], "10.0.0.1")
        foreign.name = ObjectName("e", "a")
        #expect(derived.apply([.upsert(.pod(foreign)), .upsert(.service(service("web", ["app": "web"])))]).isEmpty)
    }

    @Test func aRealSliceTakesOverInOneBatch() {
        var derived = PodEndpoints()
        _ = derived.apply([
            .upsert(.service(service("web", ["app": "web"]))), .upsert(.pod(pod("a", ["app": "web"], "10.0.0.1"))),
        ])
        #expect(describe(derived.apply([.upsert(.endpointSlice(slice("s", of: "web")))])) == ["delete web-heddle-ipv4"])
        #expect(derived.apply([.upsert(.pod(pod("b", ["app": "web"], "10.0.0.2")))]).isEmpty)
        #expect(
            describe(derived.apply([.delete(ObjectID(.endpointSlice, ObjectName("d", "s")))]))
                == ["web-heddle-ipv4: 10.0.0.1 10.0.0.2 :80"])
        // A slice may also be moved to this service, or be written under the derived one's name.
        _ = derived.apply([.upsert(.endpointSlice(slice("t", of: nil)))])
        #expect(describe(derived.apply([.upsert(.endpointSlice(slice("t", of: "web")))])) == ["delete web-heddle-ipv4"])
        #expect(
            describe(derived.apply([.upsert(.endpointSlice(slice("t", of: "else")))])).first?.hasPrefix("web-heddle")
                == true)
        #expect(derived.apply([.upsert(.endpointSlice(slice("web-heddle-ipv4", of: "web")))]).isEmpty)
    }

    @Test func row19NamedPortsAreResolvedPerPod() {
        var derived = PodEndpoints()
        let ports = [
            Service.Port(name: "h", port: 80, targetPort: .name("http")),
            Service.Port(name: "m", port: 90, targetPort: .number(9090)),
        ]
        var pods = [
            pod("a", ["app": "w"], "10.0.0.1"), pod("b", ["app": "w"], "10.0.0.2"), pod("c", ["app": "w"], "10.0.0.3"),
        ]
        pods[0].namedPorts = [Pod.NamedPort(name: "http", transport: .tcp, port: 8080)]
        pods[1].namedPorts = [
            Pod.NamedPort(name: "http", transport: .udp, port: 1),
            Pod.NamedPort(name: "http", transport: .tcp, port: 8081),
        ]
        let changes = [Change.upsert(.service(service("web", ["app": "w"], ports)))] + pods.map { .upsert(.pod($0)) }
        #expect(
            describe(derived.apply(changes)) == [
                "web-heddle-ipv4-8080: 10.0.0.1 :8080,9090", "web-heddle-ipv4-8081: 10.0.0.2 :8081,9090",
                "web-heddle-ipv4-none: 10.0.0.3 :9090",
            ])
    }

    @Test func bothFamilies() {
        var derived = PodEndpoints()
        var dual = service("web", ["app": "w"])
        dual.clusterIPs += ["fd00::10"].compactMap { IPAddress($0) }
        let changes = derived.apply([
            .upsert(.service(dual)), .upsert(.pod(pod("a", ["app": "w"], "10.0.0.1", "fd00::1"))),
            .upsert(.pod(pod("b", ["app": "w"], "fd00::2"))),
        ])
        #expect(describe(changes) == ["web-heddle-ipv4: 10.0.0.1 :80", "web-heddle-ipv6: fd00::1 fd00::2 :80"])
    }

    @Test func conditionsFollowThePod() {
        func conditions(_ edit: (inout Pod, inout Service) -> Void) -> EndpointSlice.Conditions? {
            var derived = PodEndpoints()
            var pod = pod("a", ["app": "w"], "10.0.0.1")
            var service = service("web", ["app": "w"])
            edit(&pod, &service)
            let changes = derived.apply([.upsert(.service(service)), .upsert(.pod(pod))])
            guard case .upsert(.endpointSlice(let slice))? = changes.first else { return nil }
            #expect(slice.endpoints.allSatisfy { $0.conditions.contains(.ofPod) })
            return slice.endpoints.first?.conditions.subtracting(.ofPod)
        }
        #expect(conditions { _, _ in } == [.ready, .serving])
        #expect(conditions { pod, _ in pod.isReady = false } == [])
        #expect(conditions { pod, _ in pod.isTerminating = true } == [.serving, .terminating])
        #expect(conditions { pod, _ in pod.isFinished = true } == nil)
        #expect(conditions { pod, _ in pod.addresses = [] } == nil)
        #expect(
            conditions { pod, service in
                pod.isReady = false
                pod.isTerminating = true
                service.publishNotReadyAddresses = true
            } == [.ready, .terminating])
        #expect(conditions { _, service in service.type = .externalName } == nil)
        #expect(conditions { _, service in service.clusterIPs = [] } == nil)
    }

    @Test func incrementalEqualsFromScratch() {
        var generator = SeededGenerator()
        var derived = PodEndpoints()
        var objects: [ObjectID: ClusterObject] = [:]
        var slices: [ObjectName: EndpointSlice] = [:]
        for step in 0..<1500 {
            let batch = (0...Int.random(in: 0...2, using: &generator)).map { _ in randomChange(&generator, objects) }
            for change in batch {
                switch change {
                case .upsert(let object): objects[object.id] = object
                case .delete(let id): objects[id] = nil
                }
            }
            for change in derived.apply(batch) {
                switch change {
                case .upsert(.endpointSlice(let slice)): slices[slice.name] = slice
                case .delete(let id): #expect(slices.removeValue(forKey: id.name) != nil, "seed \(generator.seed)")
                default: Issue.record("not a slice")
                }
            }
            var fresh = PodEndpoints()
            var expected: [ObjectName: EndpointSlice] = [:]
            for case .upsert(.endpointSlice(let slice)) in fresh.apply(objects.values.map { .upsert($0) }) {
                expected[slice.name] = slice
            }
            #expect(slices == expected, "seed \(generator.seed), step \(step)")
            if slices != expected { return }
        }
    }

    private func randomChange(_ generator: inout SeededGenerator, _ objects: [ObjectID: ClusterObject]) -> Change {
        if Int.random(in: 0..<4, using: &generator) == 0,
            let id = objects.keys.sorted(by: { "\($0)" < "\($1)" }).randomElement(using: &generator)
        {
            return .delete(id)
        }
        let number = Int.random(in: 0..<4, using: &generator)
        var labels: [String: String] = [:]
        for key in ["a", "b", "c"] where Bool.random(using: &generator) {
            labels[key] = Bool.random(using: &generator) ? "1" : "2"
        }
        switch Int.random(in: 0..<5, using: &generator) {
        case 0: return .upsert(.service(service("s\(number)", labels.filter { $0.key != "c" })))
        case 1:
            let owner = Bool.random(using: &generator) ? "s\(Int.random(in: 0..<4, using: &generator))" : nil
            return .upsert(.endpointSlice(slice("x\(number)", of: owner)))
        default:
            var pod = pod("p\(Int.random(in: 0..<8, using: &generator))", labels, "10.0.0.\(number)")
            pod.isReady = Bool.random(using: &generator)
            return .upsert(.pod(pod))
        }
    }
}
