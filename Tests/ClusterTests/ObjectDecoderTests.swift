/// Decoding realistic objects with every field we keep, and the defaults for fields that are absent.
import Addressing
import Cluster
import Manifests
import Testing
import YAML

/// Decodes one YAML document.
func decode(
    _ kind: ObjectKind, _ text: String, _ decoder: inout ObjectDecoder
) throws(DecodeError) -> ClusterObject {
    let documents: [YAMLDocument]
    do throws(YAMLError) {
        documents = try YAMLStream.documents(in: Array(text.utf8))
    } catch {
        throw DecodeError(error.message, line: error.line)
    }
    guard let document = documents.first else { throw DecodeError("no document", line: 1) }
    var reader = YAMLValueReader(document.root)
    return try decoder.decode(kind, from: &reader)
}
func decode(_ kind: ObjectKind, _ text: String) throws -> ClusterObject {
    var decoder = ObjectDecoder()
    return try decode(kind, text, &decoder)
}
func decodeService(_ text: String) throws -> Service? {
    if case .service(let service) = try decode(.service, text) { service } else { nil }
}
func decodeSlice(_ text: String) throws -> EndpointSlice? {
    if case .endpointSlice(let slice) = try decode(.endpointSlice, text) { slice } else { nil }
}

@Suite struct TimestampTests {
    @Test(arguments: [0, 951_782_400, 1_709_251_199, 1_795_593_600, 4_102_444_799]) func textAndBack(_ seconds: Int) {
        #expect(Timestamp.seconds(Timestamp.text(seconds)) == Double(seconds))
    }
    @Test func leapDay() { #expect(Timestamp.text(951_827_696) == "2000-02-29T12:34:56Z") }
}

@Suite struct ObjectDecoderTests {
    @Test func serviceWithEveryField() throws {
        let text = """
            apiVersion: v1
            kind: Service
            metadata:
              name: web
              namespace: shop
              creationTimestamp: "2026-01-02T03:04:05Z"
              labels:
                app: web
                service.kubernetes.io/service-proxy-name: other
                service.kubernetes.io/headless: ""
              annotations: {note: "long text we do not keep"}
              managedFields: [{manager: kubectl, fieldsV1: {"f:metadata": {}}}]
            spec:
              type: LoadBalancer
              clusterIP: 10.96.0.10
              clusterIPs: [10.96.0.10, "fd00:10:96::a"]
              ipFamilies: [IPv4, IPv6]
              ports:
              - {name: http, port: 80, targetPort: web, nodePort: 30080, protocol: TCP, appProtocol: http}
              - {name: dns, port: 53, targetPort: 5353, protocol: UDP}
              - {name: sig, port: 80, protocol: SCTP}
              selector: {app: web, tier: front}
              externalIPs: [192.0.2.010]
              loadBalancerSourceRanges: [" 203.0.113.0/25", "203.000.113.128/25", "2001:db8::/64"]
              sessionAffinity: ClientIP
              sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
              internalTrafficPolicy: Local
              externalTrafficPolicy: Local
              healthCheckNodePort: 31000
              publishNotReadyAddresses: true
              trafficDistribution: PreferClose
            status:
              loadBalancer:
                ingress:
                - {ip: 198.51.100.1, ipMode: Proxy}
                - {hostname: lb.example}
                - {ip: "2001:db8::5", ipMode: VIP}
            """
        var expected = Service(name: ObjectName("shop", "web"))
        expected.type = .loadBalancer
        expected.clusterIPs = try ["10.96.0.10", "fd00:10:96::a"].map { try #require(IPAddress($0)) }
        expected.ports = [
            Service.Port(
                name: "http", transport: .tcp, port: 80, nodePort: 30080, appProtocol: "http",
                targetPort: .name("web")),
            Service.Port(name: "dns", transport: .udp, port: 53, targetPort: .number(5353)),
            Service.Port(name: "sig", transport: .sctp, port: 80, targetPort: .number(80)),
        ]
        expected.selector = ["app": "web", "tier": "front"]
        expected.externalIPs = [try #require(IPAddress("192.0.2.10"))]
        expected.sourceRanges = try ["203.0.113.0/25", "203.0.113.128/25", "2001:db8::/64"].map {
            try #require(IPPrefix($0))
        }
        expected.affinitySeconds = 60
        expected.internalTrafficPolicy = .local
        expected.externalTrafficPolicy = .local
        expected.healthCheckNodePort = 31000
        expected.publishNotReadyAddresses = true
        expected.ingress = [
            Service.Ingress(try #require(IPAddress("198.51.100.1")), isProxyMode: true),
            Service.Ingress(try #require(IPAddress("2001:db8::5"))),
        ]
        expected.proxyName = "other"
        expected.hasHeadlessLabel = true
        expected.creationTime = 1_767_323_045
        #expect(try decodeService(text) == expected)
    }

    @Test func serviceDefaults() throws {
        let service = try decodeService(
            """
            metadata: {name: web, namespace: d, labels: null}
            spec:
              clusterIP: 10.96.0.1
              ports: [{port: 80, nodePort: 0, targetPort: 0, name: null}]
              sessionAffinity: ClientIP
            status: {loadBalancer: {}}
            """)
        var expected = Service(name: ObjectName("d", "web"))
        expected.clusterIPs = [IPAddress(v4: 0x0a60_0001)]
        expected.ports = [Service.Port(name: "", transport: .tcp, port: 80, targetPort: .number(80))]
        expected.affinitySeconds = 10800
        #expect(service == expected)
        #expect(service?.type == .clusterIP && service?.externalTrafficPolicy == .cluster)
    }

    @Test(arguments: [
        ("clusterIP: None, clusterIPs: [None]", []), ("clusterIP: None", []), ("clusterIP: \"\"", []),
        ("type: ClusterIP", []),
        ("clusterIPs: [], clusterIP: 10.0.0.1", ["10.0.0.1"]),
        ("clusterIPs: [10.0.0.2], clusterIP: 10.0.0.1", ["10.0.0.2"]),
        ("clusterIPs: [172.030.001.001]", ["172.30.1.1"]),
        ("type: ExternalName, externalName: a.example, clusterIPs: [10.0.0.3]", ["10.0.0.3"]),
    ])
    func rows6To8ClusterIPs(spec: String, expected: [String]) throws {
        let service = try decodeService("metadata: {name: a, namespace: b}\nspec: {\(spec)}")
        #expect(service?.clusterIPs.map(\.description) == expected)
    }

    @Test func sliceWithEveryField() throws {
        let text = """
            addressType: IPv4
            apiVersion: discovery.k8s.io/v1
            kind: EndpointSlice
            metadata:
              name: web-abc
              namespace: shop
              labels: {kubernetes.io/service-name: web, service.kubernetes.io/service-proxy-name: p}
              annotations: {endpoints.kubernetes.io/last-change-trigger-time: "2026-01-02T03:04:05.5Z"}
            endpoints:
            - addresses: [010.001.000.011, 10.1.0.99]
              conditions: {ready: true, serving: null, terminating: false}
              nodeName: node-with-a-rather-long-name-1
              zone: zone-a
              hints: {forZones: [{name: zone-a}, {name: zone-b}], forNodes: [{name: n1}]}
              targetRef: {kind: Pod, name: web-1}
            - addresses: [10.1.0.12]
              conditions: {ready: false, serving: true, terminating: true}
              hints: {forZones: [], forNodes: null}
              targetRef: {kind: VirtualMachine, name: web-2}
            - addresses: [10.1.0.13]
              conditions: {ready: false}
              targetRef: null
            ports:
            - {name: http, port: 8080, protocol: TCP, appProtocol: http}
            - {name: dns, port: 53, protocol: UDP}
            - {name: "", port: 9000}
            """
        var expected = EndpointSlice(name: ObjectName("shop", "web-abc"), serviceName: "web", addressType: .ipv4)
        expected.ports = [
            EndpointSlice.Port(name: "http", transport: .tcp, port: 8080),
            EndpointSlice.Port(name: "dns", transport: .udp, port: 53),
            EndpointSlice.Port(name: "", transport: .tcp, port: 9000),
        ]
        expected.endpoints = [
            EndpointSlice.Endpoint(
                IPAddress(v4: 0x0a01_000b), conditions: [.ready, .serving, .ofPod],
                nodeName: "node-with-a-rather-long-name-1", zone: "zone-a", forZones: ["zone-a", "zone-b"],
                forNodes: ["n1"]),
            EndpointSlice.Endpoint(IPAddress(v4: 0x0a01_000c), conditions: [.serving, .terminating]),
            EndpointSlice.Endpoint(IPAddress(v4: 0x0a01_000d), conditions: [.serving]),
        ]
        expected.proxyName = "p"
        expected.lastChangeTriggerTime = 1_767_323_045.5
        #expect(try decodeSlice(text) == expected)
    }

    @Test func row50AbsentConditions() throws {
        let slice = try decodeSlice(
            """
            {metadata: {name: s, namespace: n}, addressType: IPv6, endpoints: [{addresses: ["fd00::1"]},
             {addresses: ["fd00::2"], conditions: null}, {addresses: ["fd00::3"], conditions: {}}]}
            """)
        #expect(slice?.endpoints.map(\.conditions) == [[.ready, .serving], [.ready, .serving], [.ready, .serving]])
    }

    @Test func row48PortsWithoutNameOrNumber() throws {
        let text = """
            metadata: {name: s, namespace: n}
            addressType: IPv4
            ports: [{port: 80}, {name: null, port: 81}, {name: a}, {name: b, port: 0}, {name: c, port: null},
              {name: d, port: 82}]
            """
        #expect(try decodeSlice(text)?.ports.map(\.name) == ["d"])
        var options = ObjectDecoder.Options()
        options.absentPortNameIsEmpty = true
        var decoder = ObjectDecoder(options: options)
        let handWritten =
            "metadata: {name: s, namespace: n}\naddressType: IPv4\nports: [{port: 80}, {name: a, port: 81}]"
        guard case .endpointSlice(let slice) = try decode(.endpointSlice, handWritten, &decoder) else { return }
        #expect(slice.ports.map(\.name) == ["", "a"])
    }

    @Test func node() throws {
        let object = try decode(
            .node,
            """
            metadata: {name: n1, deletionTimestamp: "2026-01-01T00:00:00Z",
              labels: {topology.kubernetes.io/zone: z, a: b}}
            spec:
              podCIDR: 10.1.0.0/24
              podCIDRs: [10.1.0.0/24, "fd00:1::/64"]
              taints: [{key: x, effect: NoSchedule}, {key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]
            status:
              addresses: [{type: Hostname, address: n1}, {type: InternalIP, address: 192.168.0.2},
                {type: ExternalIP, address: 1.1.1.1},
                {type: InternalIP, address: "2001:db8::1"}]
            """)
        var expected = Node(name: "n1")
        expected.labels = ["topology.kubernetes.io/zone": "z", "a": "b"]
        expected.nodeIPs = try ["192.168.0.2", "2001:db8::1", "1.1.1.1"].map { try #require(IPAddress($0)) }
        expected.podCIDRs = try ["10.1.0.0/24", "fd00:1::/64"].map { try #require(IPPrefix($0)) }
        expected.isToBeDeleted = true
        expected.hasDeletionTimestamp = true
        #expect(object == .node(expected))
    }

    @Test func namespaceAndServiceCIDR() throws {
        var namespace = Namespace(name: "shop")
        namespace.labels = ["mesh": "on"]
        #expect(try decode(.namespace, "metadata: {name: shop, labels: {mesh: \"on\"}}") == .namespace(namespace))
        let ranges = try ["10.96.0.0/12", "fd00:10:96::/112"].map { try #require(IPPrefix($0)) }
        #expect(
            try decode(.serviceCIDR, "metadata: {name: k}\nspec: {cidrs: [10.96.0.0/12, 'fd00:10:96::/112']}")
                == .serviceCIDR(ServiceCIDR(name: "k", cidrs: ranges)))
    }

    @Test func pod() throws {
        let object = try decode(
            .pod,
            """
            metadata: {name: web-1, namespace: shop, labels: {app: web}, deletionTimestamp: "2026-01-01T00:00:00Z"}
            spec:
              nodeName: n1
              initContainers:
              - {name: side, restartPolicy: Always, ports: [{name: admin, containerPort: 15000}]}
              - {name: init, ports: [{name: never, containerPort: 1}]}
              containers:
              - {name: c, image: nginx, ports: [{name: web, containerPort: 8080}, {containerPort: 9},
                  {name: dns, containerPort: 53, protocol: UDP}]}
            status:
              phase: Running
              podIP: 10.1.0.5
              podIPs: [{ip: 10.1.0.5}, {ip: "fd00:1::5"}]
              conditions: [{type: Initialized, status: "True"}, {type: Ready, status: "False"}]
            """)
        var expected = Pod(name: ObjectName("shop", "web-1"))
        expected.labels = ["app": "web"]
        expected.addresses = try ["10.1.0.5", "fd00:1::5"].map { try #require(IPAddress($0)) }
        expected.nodeName = "n1"
        expected.isReady = false
        expected.isTerminating = true
        expected.namedPorts = [
            Pod.NamedPort(name: "web", transport: .tcp, port: 8080),
            Pod.NamedPort(name: "dns", transport: .udp, port: 53),
            Pod.NamedPort(name: "admin", transport: .tcp, port: 15000),
        ]
        #expect(object == .pod(expected))
    }

    @Test(arguments: [
        ("{podIP: 10.0.0.1}", true, false), ("{podIP: 10.0.0.1, conditions: []}", false, false),
        ("{podIP: 10.0.0.1, conditions: [{type: Ready, status: \"True\"}]}", true, false),
        ("{podIP: 10.0.0.1, phase: Succeeded}", true, true), ("{podIP: 10.0.0.1, phase: Failed}", true, true),
    ])
    func podReadiness(status: String, isReady: Bool, isFinished: Bool) throws {
        guard case .pod(let pod) = try decode(.pod, "metadata: {name: p, namespace: n}\nstatus: \(status)") else {
            return
        }
        #expect(pod.isReady == isReady)
        #expect(pod.isFinished == isFinished)
        #expect(pod.addresses.map(\.description) == ["10.0.0.1"])
    }

    @Test func headersAreReadFromBrokenObjects() throws {
        let documents = try YAMLStream.documents(
            in: Array("{spec: 5, kind: Service, apiVersion: v1, metadata: {name: a, labels: 7}}".utf8))
        var reader = YAMLValueReader(try #require(documents.first).root)
        let header = try ObjectHeader(reading: &reader)
        #expect(header.id(defaultNamespace: "default") == ObjectID(.service, ObjectName("default", "a")))
        #expect(header.id(defaultNamespace: nil) == nil)
    }
    @Test func kindsBelongToGroups() {
        #expect(ObjectKind(apiVersion: "v1", kind: "Service") == .service)
        #expect(ObjectKind(apiVersion: "serving.knative.dev/v1", kind: "Service") == nil)
        #expect(ObjectKind(apiVersion: "v1", kind: "EndpointSlice") == nil)
        #expect(ObjectKind(apiVersion: "discovery.k8s.io/v1", kind: "EndpointSlice") == .endpointSlice)
    }
    @Test func times() throws {
        let texts = [
            ("1970-01-01T00:00:00Z", 0), ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-01-01T00:00:00+01:30", 1_767_220_200),
            ("2026-01-01 00:00:00.25Z", 1_767_225_600), ("1969-12-31T23:59:59Z", -1),
        ]
        for (text, seconds) in texts {
            let service = try decodeService("metadata: {name: a, namespace: b, creationTimestamp: \"\(text)\"}")
            #expect(service?.creationTime == Int64(seconds), "\(text)")
        }
        for text in [
            "", "yesterday", "2026-13-01T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00", "2026-01-01T24:00:00Z",
        ] {
            var decoder = ObjectDecoder()
            let object = "metadata: {name: a, namespace: b, creationTimestamp: \"\(text)\"}"
            guard case .service(let service) = try decode(.service, object, &decoder) else { return }
            #expect(service.creationTime == 0 && decoder.notes.map(\.path) == ["metadata.creationTimestamp"], "\(text)")
        }
    }
}
