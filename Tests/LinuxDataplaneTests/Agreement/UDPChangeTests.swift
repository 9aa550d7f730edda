/// UDP sockets that never close, across every change of endpoints and of the service: none may stay with a backend or a
/// service that is gone (spec rows 111-134). On both dataplanes, from a pod, from the node and from outside.
import Addressing
import Cluster
import DataplaneIR
import Glibc
import TestSupport
import Testing

@Suite(.serialized, .requiresKernel(.root, .netns, .cgroup2, .bpf))
struct UDPChangeTests {
    @Test(arguments: DataplaneKind.allCases)
    func rows114to125_noSocketStaysWithWhatIsGone(_ kind: DataplaneKind) throws {
        try Lab.with { lab in
            let test = try UDPTest(kind, lab)
            try test.serve([test.near])
            try test.everybodyHears(test.near, "row 125: the first datagram after the endpoint appears")
            try test.serve([test.far])
            try test.everybodyHears(test.far, "row 114: the endpoint was replaced")
            try test.serve([])
            try test.nobodyHears("row 118: scaled to zero")
            try test.serve([test.near])
            try test.everybodyHears(test.near, "row 115: scaled up again")
            let other = SocketAddress(test.near.address, 9090)
            try test.serve([other])
            try test.everybodyHears(other, "row 124: another target port")

            try test.node.apply([.delete(ObjectID(.service, test.service.name))])
            try test.nobodyHears("row 119: the service was deleted")
            try test.change { _ in }
            try test.everybodyHears(other, "row 119: the service is back")

            try test.change { $0.ports[0].nodePort = 30054 }
            try test.nobodyHears("row 120: another node port", to: .nodePort)
            try test.everybodyHears(other, "row 120: the rest is not disturbed", to: .clusterIP, .loadBalancer)
            try test.change { $0.ports[0].nodePort = 30053 }
            try test.everybodyHears(other, "row 120: the node port is back")
        }
    }

    @Test(arguments: DataplaneKind.allCases)
    func rows6and7_noSocketStaysWithAServiceThatIsNoneAnyMore(_ kind: DataplaneKind) throws {
        try Lab.with { lab in
            let test = try UDPTest(kind, lab)
            try test.serve([test.near])
            try test.everybodyHears(test.near, "at first")
            try test.change { $0.type = .externalName }
            try test.nobodyHears("row 7: ExternalName")
            try test.change { $0.type = .loadBalancer }
            try test.everybodyHears(test.near, "row 7: and back")
            try test.change { $0.hasHeadlessLabel = true }
            try test.nobodyHears("row 41: the headless label")
            try test.change { $0.hasHeadlessLabel = false }
            try test.everybodyHears(test.near, "row 41: and back")
        }
    }

    @Test(arguments: DataplaneKind.allCases)
    func rows29and116_whatDoesNotConcernAFlowLeavesIt(_ kind: DataplaneKind) throws {
        try Lab.with { lab in
            let test = try UDPTest(kind, lab)
            try test.serve([test.far])
            try test.everybodyHears(test.far, "at first")
            try test.serve([test.far, test.near])
            try test.everybodyHears(test.far, "row 111: another endpoint more")
            try test.change { $0.affinitySeconds = 10800 }
            try test.everybodyHears(test.far, "row 29: affinity")
            try test.change { $0.affinitySeconds = nil }
            try test.everybodyHears(test.far, "row 29: no affinity")
            try test.change {
                $0.internalTrafficPolicy = .local
                $0.externalTrafficPolicy = .local
            }
            try test.everybodyHears(test.far, "row 116: left out by policy Local, but serving")
            try test.serve([test.near])
            try test.everybodyHears(test.near, "row 127: gone under policy Local")
            try test.serve([test.far])
            try test.nobodyHears("row 99: policy Local and none here", to: .clusterIP)
            try test.serve([test.far, test.near])
            try test.everybodyHears(test.near, "row 127: an endpoint is back here", to: .clusterIP)
        }
    }
}

/// A service with every kind of frontend, and sockets to all of them.
private final class UDPTest {
    let node: NodeUnderTest
    private(set) var service = Service(name: ObjectName("ns", "dns"))
    let near: SocketAddress
    let far: SocketAddress
    private var clients: [Client] = []

    init(_ kind: DataplaneKind, _ lab: Lab) throws {
        node = try NodeUnderTest(kind, lab: lab)
        near = SocketAddress(node.pods[1].v4, 8080)
        far = SocketAddress(node.remotePods[0].v4, 8080)
        let (clusterIP, balancer) = (IPAddress(v4: 0x0a60_0035), IPAddress(v4: 0x0a60_0335))
        service.type = .loadBalancer
        service.clusterIPs = [clusterIP]
        service.ingress = [Service.Ingress(balancer)]
        service.ports = [Service.Port(name: "p", transport: .udp, port: 53)]
        service.ports[0].nodePort = 30053
        let frontends: [(Frontend.Kind, SocketAddress)] = [
            (.clusterIP, SocketAddress(clusterIP, 53)), (.loadBalancer, SocketAddress(balancer, 53)),
            (.nodePort, SocketAddress(node.node.host.v4, 30053)),
        ]
        for pod in [node.pods[0], node.node.host, node.client] {
            for socket in [LabPod.Kind.udp, .udpConnected] {
                clients += frontends.map { Client(pod, socket, $0.0, $0.1) }
            }
        }
        // No endpoint yet: what is sent now must not hold anybody later.
        try node.apply([.upsert(.service(service))])
        for client in clients { _ = try client.ask() }
    }

    func change(_ edit: (inout Service) -> Void) throws {
        edit(&service)
        try node.apply([.upsert(.service(service))])
    }
    func serve(_ endpoints: [SocketAddress]) throws {
        var slice = EndpointSlice(name: ObjectName("ns", "dns-1"), serviceName: "dns", addressType: .ipv4)
        slice.ports = [.init(name: "p", transport: .udp, port: endpoints.first?.port ?? 8080)]
        slice.endpoints = endpoints.map {
            .init($0.address, nodeName: $0.address == near.address ? RandomCluster.nodeName : "node-b")
        }
        try node.apply([.upsert(.endpointSlice(slice))])
    }

    func everybodyHears(_ endpoint: SocketAddress, _ why: String, to kinds: Frontend.Kind...) throws {
        for client in clients where kinds.isEmpty || kinds.contains(client.frontend) {
            try eventually("\(why): \(client) hears \(endpoint)") { try client.ask() == endpoint.description }
            #expect(try client.ask() == endpoint.description, "\(why): and goes on: \(client)")
        }
    }
    func nobodyHears(_ why: String, to kinds: Frontend.Kind...) throws {
        for client in clients where kinds.isEmpty || kinds.contains(client.frontend) {
            #expect(try client.ask() == nil, "\(why): \(client)")
        }
    }
}

/// Does what a sturdy program does: keeps its socket, and opens another only when that one is past use.
private final class Client: CustomStringConvertible {
    let frontend: Frontend.Kind
    private let pod: LabPod
    private let socketKind: LabPod.Kind
    private let destination: SocketAddress
    private var socket: TestSupport.OpenSocket?

    init(_ pod: LabPod, _ socketKind: LabPod.Kind, _ frontend: Frontend.Kind, _ destination: SocketAddress) {
        self.pod = pod
        self.socketKind = socketKind
        self.frontend = frontend
        self.destination = destination
    }

    /// Who answered; nil: nobody.
    func ask() throws -> String? {
        let result: FlowResult
        if let socket {
            result = try socket.ask()
        } else {
            let opened = try pod.open(socketKind, to: destination, timeoutMs: 100)
            socket = opened
            result = opened.opening
        }
        if let name = result.names.first { return name }
        // Silence and "port unreachable" pass; anything else says that this socket will not do any more.
        if !Set(result.errors.keys).isSubset(of: [ETIMEDOUT, ECONNREFUSED]) {
            try socket?.close()
            socket = nil
        }
        return nil
    }
    var description: String { "\(socketKind) from \(pod.name) to \(frontend.rawValue)" }
}
