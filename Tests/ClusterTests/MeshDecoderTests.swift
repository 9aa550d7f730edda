// What decides who is in the mesh and what a pod of it takes, as it is written.
import Addressing
import Cluster
import Testing

@Suite struct MeshDecoderTests {
    private func policy(_ text: String) throws -> PeerAuthentication? {
        let object = try decode(.peerAuthentication, text)
        return if case .peerAuthentication(let policy) = object { policy } else { nil }
    }

    @Test func peerAuthenticationWithEveryField() throws {
        let text = """
            apiVersion: security.istio.io/v1
            kind: PeerAuthentication
            metadata: {name: web, namespace: shop, creationTimestamp: "1970-01-01T00:01:00Z"}
            spec:
              selector: {matchLabels: {app: web, tier: front}}
              mtls: {mode: STRICT}
              portLevelMtls:
                8080: {mode: DISABLE}
                "9090": {mode: UNSET}
                9091: {}
            """
        var expected = PeerAuthentication(name: ObjectName("shop", "web"))
        (expected.creationTime, expected.mode) = (60, .strict)
        expected.selector = ["app": "web", "tier": "front"]
        expected.portModes = [8080: .disable, 9090: nil, 9091: nil]
        #expect(try policy(text) == expected)
        #expect(ObjectKind(apiVersion: "security.istio.io/v1beta1", kind: "PeerAuthentication") == .peerAuthentication)
    }

    @Test(arguments: ["", "spec: {}", "spec: {mtls: {}}", "spec: {mtls: {mode: UNSET}}", "spec: {mtls: null}"])
    func whatSaysNothing(spec: String) throws {
        let expected = PeerAuthentication(name: ObjectName("shop", "web"))
        #expect(try policy("metadata: {name: web, namespace: shop}\n\(spec)") == expected)
    }

    @Test(arguments: [
        ("spec: {mtls: {mode: strict}}", "spec.mtls.mode"),
        ("spec: {selector: {matchLabels: {app: w}}, portLevelMtls: {http: {mode: STRICT}}}", "spec.portLevelMtls.http"),
        ("spec: {portLevelMtls: {0: {mode: STRICT}}}", "spec.portLevelMtls.0"),
        ("spec: {portLevelMtls: {80: {mode: MAYBE}}}", "spec.portLevelMtls.80.mode"),
    ])
    func whatMeansNothingIsRefused(spec: String, path: String) {
        #expect { try policy("metadata: {name: web, namespace: shop}\n\(spec)") } throws: { error in
            (error as? DecodeError)?.path == path
        }
    }

    @Test func portsThatKubeletAsks() throws {
        var options = ObjectDecoder.Options()
        options.keepsPodIdentities = true
        var decoder = ObjectDecoder(options: options)
        let object = try decode(
            .pod,
            """
            metadata: {name: p, namespace: n}
            spec:
              containers:
              - livenessProbe: {httpGet: {path: /, port: health}}
                readinessProbe: {tcpSocket: {port: 9000}}
                startupProbe: {grpc: {port: 9001}}
                lifecycle:
                  preStop: {httpGet: {port: 9002}}
                  postStart: {exec: {command: [x]}}
                ports: [{name: health, containerPort: 8080}, {containerPort: 53, protocol: UDP}]
              - livenessProbe: {httpGet: {port: 1, host: 127.0.0.1}}
                readinessProbe: {httpGet: {port: other}}
                startupProbe: {tcpSocket: {port: 0}}
              initContainers:
              - {readinessProbe: {tcpSocket: {port: 2}}}
              - {restartPolicy: Always, readinessProbe: {tcpSocket: {port: 9003}}}
            """, &decoder)
        guard case .pod(let pod) = object else { return }
        #expect(pod.probePorts == [8080, 9000, 9001, 9002, 9003])
        #expect(pod.datagramTransports == [.udp] && pod.namedPorts.map(\.name) == ["health"])
    }

    @Test func labels() {
        #expect(MeshLabel([:]) == nil && MeshLabel(["app": "web"]) == nil)
        #expect(MeshLabel(["heddle.io/mesh": "enabled"])?.description == "heddle.io/mesh=enabled")
        #expect(MeshLabel(["istio.io/dataplane-mode": "none"])?.enrols == false)
        let unknown = MeshLabel(["istio.io/dataplane-mode": "sidecar"])
        #expect(unknown?.enrols == nil && unknown?.knownValues == "ambient or none")
    }
}

@Suite struct MeshFactsTests {
    private func pod(_ name: String, on node: String, _ labels: [String: String] = [:]) -> Pod {
        var pod = Pod(name: ObjectName("shop", name))
        (pod.nodeName, pod.labels, pod.addresses) = (node, labels, [IPAddress(v4: UInt32(name.utf8.count))])
        return pod
    }
    private let label = ["heddle.io/mesh": "enabled"]

    /// Of the pods of other nodes only labels are kept, and only if they say something.
    @Test func whatIsKept() {
        var state = ClusterState(meshNode: "a")
        #expect(!state.apply(.upsert(.pod(pod("one", on: "a")))).isEmpty)
        #expect(!state.apply(.upsert(.pod(pod("others", on: "b", label)))).isEmpty)
        #expect(!state.apply(.upsert(.pod(pod("plain", on: "b")))).isEmpty)
        #expect(state.mesh.localPods.keys.map(\.name) == ["one"])
        #expect(state.mesh.labels.keys.map(\.name) == ["others"])
        // What is kept nowhere changes nothing.
        var same = pod("plain", on: "b")
        same.probePorts = [80]
        #expect(state.apply(.upsert(.pod(same))).isEmpty)
        var other = pod("one", on: "a")
        other.probePorts = [80]
        #expect(state.apply(.upsert(.pod(other))).pods == Set(other.addresses))
        _ = state.apply(.delete(ObjectID(.pod, ObjectName("shop", "one"))))
        _ = state.apply(.delete(ObjectID(.pod, ObjectName("shop", "others"))))
        #expect(state.mesh.localPods == [:] && state.mesh.labels == [:])
    }

    @Test func aNamespaceTouchesItsPodsByItsLabelOnly() {
        var state = ClusterState(meshNode: "a")
        var namespace = Namespace(name: "shop")
        _ = state.apply(.upsert(.pod(pod("one", on: "a"))))
        _ = state.apply(.upsert(.pod(pod("others", on: "b"))))
        #expect(state.apply(.upsert(.namespace(namespace))).isEmpty)
        namespace.labels = ["team": "x"]
        #expect(state.apply(.upsert(.namespace(namespace))).isEmpty)
        namespace.labels = label
        #expect(state.apply(.upsert(.namespace(namespace))).pods.count == 2)
        #expect(state.apply(.delete(ObjectID(.namespace, ObjectName("", "shop")))).pods.count == 2)
    }

    @Test func servicesAreFoundByAddress() {
        func slice(_ name: String, of service: String, _ addresses: [UInt32]) -> ClusterObject {
            var slice = EndpointSlice(name: ObjectName("shop", name), serviceName: service, addressType: .ipv4)
            slice.endpoints = addresses.map { .init(IPAddress(v4: $0)) }
            return .endpointSlice(slice)
        }
        var state = ClusterState(meshNode: "a")
        func services(_ address: UInt32) -> Set<String> {
            Set(state.services(withEndpointsAt: [IPAddress(v4: address)]).map(\.name))
        }
        _ = state.apply(.upsert(slice("x", of: "web", [1, 2])))
        _ = state.apply(.upsert(slice("y", of: "web", [2])))
        _ = state.apply(.upsert(slice("z", of: "db", [2])))
        #expect(services(1) == ["web"] && services(2) == ["web", "db"] && services(3) == [])
        _ = state.apply(.upsert(slice("x", of: "web", [3])))
        #expect(services(1) == [] && services(2) == ["web", "db"] && services(3) == ["web"])
        _ = state.apply(.delete(ObjectID(.endpointSlice, ObjectName("shop", "y"))))
        #expect(services(2) == ["db"])
        var off = ClusterState()
        _ = off.apply(.upsert(slice("x", of: "web", [1])))
        #expect(off.services(withEndpointsAt: [IPAddress(v4: 1)]) == [])
    }
}
