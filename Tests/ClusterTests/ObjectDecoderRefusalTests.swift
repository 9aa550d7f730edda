/// Bad input: what is refused, with the field and a remedy, and what is only left out, with a note.
import Addressing
import Cluster
import TestSupport
import Testing

@Suite struct ObjectDecoderRefusalTests {
    private func error(_ kind: ObjectKind, _ text: String) -> DecodeError? {
        do {
            _ = try decode(kind, text)
            return nil
        } catch {
            return error as? DecodeError
        }
    }
    private func expect(_ kind: ObjectKind, _ text: String, path: String, says message: String) {
        let error = error(kind, text)
        #expect(error?.path == path, "\(text)")
        #expect(error?.message.contains(message) == true, "\(text): \(String(describing: error))")
    }

    @Test(arguments: [
        ("ports: [{port: 0}]", "spec.ports[0].port", "1 to 65535"),
        ("ports: [{port: 80}, {name: a, port: 65536}]", "spec.ports[1].port", "65536 is no port"),
        ("ports: [{port: -1}]", "spec.ports[0].port", "-1 is no port"),
        ("ports: [{port: \"80\"}]", "spec.ports[0].port", "must be a number"),
        ("ports: [{port: eighty}]", "spec.ports[0].port", "must be a number"),
        ("ports: [{port: 80.5}]", "spec.ports[0].port", "whole number"),
        ("ports: [{port: 99999999999999999999}]", "spec.ports[0].port", "whole number"),
        ("ports: [{name: a}]", "spec.ports[0].port", "is missing"),
        ("ports: [80]", "spec.ports[0]", "must be an object, but is a number"),
        ("ports: {port: 80}", "spec.ports", "must be a list"),
        ("ports: [{port: 80, nodePort: 70000}]", "spec.ports[0].nodePort", "70000 is no port"),
        ("ports: [{port: 80, protocol: ICMP}]", "spec.ports[0].protocol", "TCP, UDP or SCTP"),
        ("ports: [{port: 80, name: a}, {port: 81, name: a}]", "spec.ports[1].name", "there twice"),
        ("ports: [{port: 80}, {port: 81}]", "spec.ports[1].name", "must name each"),
        ("ports: [{port: 80, name: a}, {port: 80, name: b}]", "spec.ports[1].port", "80/TCP is there twice"),
        (
            "ports: [{port: 80, name: a, nodePort: 30000}, {port: 81, name: b, nodePort: 30000}]",
            "spec.ports[1].nodePort", "twice"
        ),
        ("ports: [{port: 80, targetPort: \"8080\"}]", "spec.ports[0].targetPort", "without quotes"),
        ("clusterIP: 10.0.0.256", "spec.clusterIP", "not an IP address"),
        ("clusterIP: none", "spec.clusterIP", "not an IP address"),
        ("clusterIP: 127.0.0.1", "spec.clusterIP", "cannot be a service's address"),
        ("clusterIPs: [10.0.0.1, 10.0.0.2]", "spec.clusterIPs[1]", "second IPv4"),
        ("clusterIPs: [10.0.0.1, 5]", "spec.clusterIPs[1]", "put it in quotes"),
        ("type: Cluster", "spec.type", "ClusterIP, NodePort, LoadBalancer, ExternalName"),
        ("internalTrafficPolicy: local", "spec.internalTrafficPolicy", "Cluster, Local"),
        ("externalTrafficPolicy: true", "spec.externalTrafficPolicy", "put it in quotes"),
        ("sessionAffinity: Cookie", "spec.sessionAffinity", "None, ClientIP"),
        (
            "sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}",
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds", "86400"
        ),
        (
            "sessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}",
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds", "86400"
        ),
        ("externalIPs: [0.0.0.0]", "spec.externalIPs[0]", "unicast"),
        ("loadBalancerSourceRanges: [10.0.0.0/8, 10.0.0.0/33]", "spec.loadBalancerSourceRanges[1]", "address range"),
        ("publishNotReadyAddresses: \"yes\"", "spec.publishNotReadyAddresses", "must be true or false"),
        ("selector: {app: 5}", "spec.selector.app", "put it in quotes"),
        ("healthCheckNodePort: 65536", "spec.healthCheckNodePort", "65536"),
    ])
    func serviceSpec(spec: String, path: String, message: String) {
        expect(.service, "metadata: {name: a, namespace: b}\nspec: {\(spec)}", path: path, says: message)
    }

    @Test(arguments: [
        ("{}", "metadata.name", "is missing"), ("metadata: {}", "metadata.name", "is missing"),
        ("metadata: {name: \"\"}", "metadata.name", "is missing"),
        ("metadata: {name: 5}", "metadata.name", "put it in quotes"),
        ("metadata: {name: a}", "metadata.namespace", "is missing"),
        ("metadata: {name: a/b, namespace: c}", "metadata.name", "not allowed"),
        (
            "metadata: {name: \"a\\nb\", namespace: c}", "metadata.name",
            #""a\nb" is not allowed"#
        ),
        ("metadata: {name: a, namespace: Up}", "metadata.namespace", "not allowed"),
        ("metadata: [a]", "metadata", "must be an object"), ("[]", "", "must be an object, but is a list"),
        ("5", "", "a number"),
        (
            "metadata: {name: a, namespace: b}\nstatus: {loadBalancer: {ingress: [{ip: x}]}}",
            "status.loadBalancer.ingress[0].ip", "IP"
        ),
    ])
    func everyObject(text: String, path: String, message: String) {
        expect(.service, text, path: path, says: message)
    }

    @Test(arguments: [
        ("endpoints: []", "addressType", "is missing"), ("addressType: IPv5", "addressType", "IPv4, IPv6, FQDN"),
        ("addressType: IPv4, ports: [{name: a, port: 65536}]", "ports[0].port", "65536 is no port"),
        ("addressType: IPv4, ports: [{name: a, port: 1}, {name: a, port: 2}]", "ports[1].name", "twice"),
        ("addressType: IPv4, endpoints: [{addresses: 10.0.0.1}]", "endpoints[0].addresses", "must be a list"),
        (
            "addressType: IPv4, endpoints: [{addresses: [10.0.0.1], conditions: {ready: \"yes\"}}]",
            "endpoints[0].conditions.ready", "true"
        ),
        ("addressType: IPv4, endpoints: [null]", "endpoints[0]", "must be an object, but is null"),
    ])
    func slice(fields: String, path: String, message: String) {
        expect(.endpointSlice, "{metadata: {name: a, namespace: b}, \(fields)}", path: path, says: message)
    }

    @Test func theLineIsThatOfTheValue() {
        let text =
            "metadata:\n  name: a\n  namespace: b\nspec:\n  ports:\n"
            + "  - name: x\n    port: 8\n  - name: y\n    port: 0\n"
        #expect(error(.service, text)?.line == 9)
    }

    @Test func rows47And49BadEndpointsAreLeftOutAlone() throws {
        var decoder = ObjectDecoder()
        let text = """
            metadata: {name: a, namespace: b, labels: {kubernetes.io/service-name: s}}
            endpoints:
            - addresses: [10.0.0.1]
            - addresses: ["fd00::1"]
            - addresses: []
            - {}
            - addresses: [host.example]
            - addresses: [0.0.0.0]
            - addresses: [10.0.0.2]
            - addresses: [127.0.0.1]
            - addresses: [169.254.169.254]
            - addresses: [224.0.0.1]
            addressType: IPv4
            """
        guard case .endpointSlice(let slice) = try decode(.endpointSlice, text, &decoder) else { return }
        #expect(slice.endpoints.map(\.address.description) == ["10.0.0.1", "10.0.0.2"])
        #expect(decoder.notes.map(\.path) == [1, 2, 3, 4, 5, 7, 8, 9].map { "endpoints[\($0)].addresses[0]" })
        #expect(decoder.notes.map(\.line) == [4, 5, 6, 7, 8, 10, 11, 12])
        #expect(decoder.notes[5].message.contains("127.0.0.1 is not the address of one endpoint (loopback"))
        #expect(decoder.notes.first?.message.contains("fd00::1 is not an IPv4 address") == true)
    }
    @Test func aThousandBadEndpointsAreNotAThousandNotes() throws {
        var decoder = ObjectDecoder()
        let endpoints = Array(repeating: "{addresses: [x]}", count: 1000).joined(separator: ", ")
        let text = "{metadata: {name: a, namespace: b}, addressType: IPv4, endpoints: [\(endpoints)]}"
        _ = try decode(.endpointSlice, text, &decoder)
        #expect(decoder.notes.count == 11)
        #expect(decoder.notes.last?.message.hasPrefix("990 more") == true)
    }
    @Test func row49NamesAreNoAddresses() throws {
        var decoder = ObjectDecoder()
        let text =
            """
            metadata: {name: a, namespace: b, labels: {kubernetes.io/service-name: s}}
            addressType: FQDN
            endpoints: [{addresses: [h.example]}]
            """
        guard case .endpointSlice(let slice) = try decode(.endpointSlice, text, &decoder) else { return }
        #expect(slice.endpoints.isEmpty && decoder.notes.isEmpty)
    }
    @Test(arguments: ["{}", "{kubernetes.io/service-name: \"\"}", "null"])
    func row44ASliceWithoutServiceIsIgnoredAndInFilesNoted(labels: String) throws {
        let text = "{metadata: {name: a, namespace: b, labels: \(labels)}, addressType: IPv4}"
        for isFile in [false, true] {
            var options = ObjectDecoder.Options()
            options.slicesNeedService = isFile
            var decoder = ObjectDecoder(options: options)
            guard case .endpointSlice(let slice) = try decode(.endpointSlice, text, &decoder) else { return }
            #expect(slice.service == nil)
            #expect(
                decoder.notes.map(\.path) == (isFile ? ["metadata.labels[\"kubernetes.io/service-name\"]"] : []))
        }
    }
    /// The key of a port is name and protocol together.
    @Test func row1_portsOfDifferentProtocolsMayShareNameAndNumber() throws {
        let ports =
            "ports: [{name: a, port: 80}, {name: a, port: 80, protocol: UDP}, {name: a, port: 80, protocol: SCTP}]"
        let service = try #require(try decodeService("metadata: {name: a, namespace: b}\nspec: {\(ports)}"))
        let slice = try #require(
            try decodeSlice("{metadata: {name: a, namespace: b}, addressType: IPv4, \(ports)}"))
        #expect(service.ports.map(\.transport) == [.tcp, .udp, .sctp])
        #expect(slice.ports.map(\.transport) == [.tcp, .udp, .sctp])
    }

    /// What cannot be served is left to the compiler, which says so; the rest of the service must not suffer.
    @Test func row11_anIngressThatCannotBeServedDoesNotRefuseTheService() throws {
        let text = """
            metadata: {name: a, namespace: b}
            spec: {clusterIP: 010.096.000.001}
            status: {loadBalancer: {ingress: [{ip: 127.0.0.1}, {hostname: lb.example}, {ip: 1.2.3.004}]}}
            """
        let service = try #require(try decodeService(text))
        #expect(service.ingress.map(\.address.description) == ["127.0.0.1", "1.2.3.4"])
        #expect(service.clusterIPs.map(\.description) == ["10.96.0.1"], "row 43: decimal, never octal")
    }

    @Test func row88_internalAddressesComeBeforeExternalOnes() throws {
        let text = """
            metadata: {name: a}
            status:
              addresses:
              - {type: ExternalIP, address: 203.0.113.7}
              - {type: Hostname, address: a}
              - {type: InternalIP, address: 192.168.0.2}
            """
        guard case .node(let node) = try decode(.node, text) else { throw TestFailure("not a node") }
        #expect(node.nodeIPs.map(\.description) == ["192.168.0.2", "203.0.113.7"])
    }

    @Test func notesBelongToOneObject() throws {
        var decoder = ObjectDecoder()
        let slice = "{metadata: {name: a, namespace: b}, addressType: IPv4, endpoints: [{addresses: [x]}]}"
        _ = try decode(.endpointSlice, slice, &decoder)
        #expect(!decoder.notes.isEmpty)
        _ = try decode(.namespace, "metadata: {name: a}", &decoder)
        #expect(decoder.notes.isEmpty)
    }
}
