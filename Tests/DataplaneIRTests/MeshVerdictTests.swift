/// What becomes of connections of pods of the mesh.
import Addressing
import DataplaneIR
import Testing

@Suite struct MeshVerdictTests {
    private let client = IPAddress(v4: 0x0a00_0005)
    private let server = IPAddress(v4: 0x0a00_0107)
    private let plain = IPAddress(v4: 0x0a00_0108)
    private let outsider = IPAddress(v4: 0x0a00_0006)
    private let clusterIP = IPAddress(v4: 0x0a60_0001)
    private let listener = SocketAddress(IPAddress(v4: 0xc0a8_0002), 15001)

    private func interpreter(_ edit: (inout NodeProgram) -> Void = { _ in }) -> Interpreter {
        var node = NodeProgram(nodeName: "n")
        node.proxyListeners = [listener]
        node.mesh.pods = [client: MeshPodProgram(name: "ns/client", uid: "1")]
        node.mesh.enrolled = [client, server]
        edit(&node)
        let service = ServiceProgram(
            id: id, frontends: [Frontend(.clusterIP, clusterIP, 80, action: .tunnel)],
            backends: [Backend(SocketAddress(server, 8080))], clusterRange: 0..<1, localRange: 0..<0)
        return Interpreter(DataplaneProgram(node: node, services: [service.id: service]))
    }
    private let id = ServicePortID(namespace: "ns", service: "s", portName: "p", transport: .tcp, family: .ipv4)

    private func flow(
        _ source: IPAddress, _ address: IPAddress, _ port: UInt16 = 8080, _ transport: TransportProtocol = .tcp
    ) -> Flow {
        Flow(
            source: source, destination: SocketAddress(address, port), transport: transport,
            origin: .interface("cni0"))
    }

    @Test func aServiceWithEndpointsInTheMesh() {
        let interpreter = interpreter()
        #expect(interpreter.verdict(for: flow(client, clusterIP, 80)) == .proxy(service: id, listener: listener))
        let other = interpreter.explain(flow(outsider, clusterIP, 80))
        #expect(other.verdict.isBalanced && other.decisions.allSatisfy { $0.source != Interpreter.enrolment })
        #expect(interpreter.verdict(for: flow(client, clusterIP, 81)) == .reject)
    }

    @Test func addressesOfPods() {
        let interpreter = interpreter()
        let explained = interpreter.explain(flow(client, server))
        #expect(explained.verdict == .proxy(service: nil, listener: listener))
        #expect(
            explained.decisions.map(\.description) == [
                "istio.io/dataplane-mode, heddle.io/mesh: 10.0.0.5 and 10.0.1.7 are pods of the mesh: "
                    + "to the L7 proxy at 192.168.0.2:15001"
            ])
        for other in [
            flow(outsider, server), flow(client, plain), flow(client, client), flow(client, server, 15008),
            flow(client, server, 53, .udp),
        ] { #expect(interpreter.verdict(for: other) == .passthrough, "\(other)") }
        let itself = interpreter.explain(flow(client, client)).decisions.map(\.description)
        #expect(itself.first == "10.0.0.5:8080: a pod that dials itself: left alone")
    }

    /// Whoever has an address there counts as enrolled, but for services.
    @Test func whereNobodyIsListed() throws {
        let range = try #require(IPPrefix("10.0.0.0/8"))
        let services = try #require(IPPrefix("10.96.0.0/12"))
        let interpreter = interpreter { ($0.mesh.unlisted, $0.serviceCIDRs) = ([range], [services]) }
        let explained = interpreter.explain(flow(client, plain))
        #expect(explained.verdict == .proxy(service: nil, listener: listener))
        #expect(explained.decisions.last?.outcome.contains("are not listed yet") == true)
        for other in [
            flow(outsider, plain), flow(client, client), flow(client, plain, 15008), flow(client, plain, 53, .udp),
            flow(client, IPAddress(v4: 0x0b00_0001)),
        ] { #expect(interpreter.verdict(for: other) == .passthrough, "\(other)") }
        #expect(interpreter.verdict(for: flow(client, clusterIP, 81)) == .reject)
        #expect(interpreter.verdict(for: flow(client, IPAddress(v4: 0x0a60_0002), 80)) == .drop)
    }

    @Test func withoutAListenerNothingLeavesInPlaintext() {
        let interpreter = interpreter { $0.proxyListeners = [] }
        #expect(interpreter.verdict(for: flow(client, server)) == .reject)
        #expect(interpreter.verdict(for: flow(client, clusterIP, 80)) == .reject)
        #expect(interpreter.verdict(for: flow(outsider, server)) == .passthrough)
    }

    /// What a STRICT pod of this node will say to who comes in the clear is told with the way there.
    @Test func theDoorOfAPod() {
        let near = IPAddress(v4: 0x0a00_0007)
        let interpreter = interpreter {
            $0.mesh.pods[near] = MeshPodProgram(
                name: "ns/near", uid: "2", mode: .strict, portModes: [9000: .permissive], probePorts: [8081])
        }
        func doors(_ flow: Flow) -> [String] {
            interpreter.explain(flow).decisions.filter { $0.source == Interpreter.door }.map(\.outcome)
        }
        #expect(
            doors(flow(outsider, near)) == [
                "STRICT at 10.0.0.7:8080 of ns/near: it takes tunnels only, and refuses this"
            ])
        for other in [
            flow(outsider, near, 9000), flow(outsider, near, 15008), flow(near, near), flow(outsider, server),
            flow(outsider, near, 8080, .udp),
        ] { #expect(doors(other) == [], "\(other)") }
        var probe = flow(outsider, near, 8081)
        #expect(doors(probe).count == 1)
        probe.origin = .node
        #expect(doors(probe) == [])
    }
}

extension Verdict {
    fileprivate var isBalanced: Bool { if case .balance = self { true } else { false } }
}
