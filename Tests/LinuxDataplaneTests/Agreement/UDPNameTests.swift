/// What NAT does for UDP sockets, both dataplanes do: answers have the name that was asked, and a connected socket
/// follows its service.
import Addressing
import Cluster
import Glibc
import Netns
import TestSupport
import Testing

@Suite(.serialized, .requiresKernel(.root, .netns, .cgroup2, .bpf))
struct UDPNameTests {
    private static let names = (at("10.96.0.53:53"), at("10.96.0.54:53"))

    @Test(arguments: DataplaneKind.allCases)
    func oneSocketKnowsABackendByThreeNames(kind: DataplaneKind) throws {
        try Lab.with { lab in
            let node = try serve(kind, lab)
            let backend = SocketAddress(node.pods[1].v4, 8080)
            let (asked, answered) = try onSocket(of: node) { socket throws(TestFailure) in
                let turns = [Self.names.0, backend, Self.names.1, backend, Self.names.0]
                var answered: [SocketAddress] = []
                for name in turns { answered.append(try socket.ask(name)) }
                let atOnce = [Self.names.0, backend, Self.names.1]
                for name in atOnce { try socket.send(name) }
                var together: Set<SocketAddress> = []
                for _ in atOnce { together.insert(try socket.sender()) }
                return (turns + atOnce.sorted(), answered + together.sorted())
            }
            #expect(asked == answered)
        }
    }

    @Test(arguments: DataplaneKind.allCases)
    func twoServicesOfABackendAreToldApartAtOnce(kind: DataplaneKind) throws {
        try Lab.with { lab in
            let node = try serve(kind, lab)
            let answered = try onSocket(of: node) { socket throws(TestFailure) in
                for name in [Self.names.0, Self.names.1] { try socket.send(name) }
                return Set([try socket.sender(), try socket.sender()])
            }
            #expect(answered == [Self.names.0, Self.names.1])
        }
    }

    /// A program that logs or counts over UDP connects once. `UDPFollowTests` has the rest.
    @Test(arguments: DataplaneKind.allCases)
    func aConnectedSocketFollowsItsService(kind: DataplaneKind) throws {
        try Lab.with { lab in
            let node = try serve(kind, lab)
            let (near, far) = (SocketAddress(node.pods[1].v4, 8080), SocketAddress(node.remotePods[0].v4, 8080))
            for client in [node.pods[0], node.node.host] {
                try node.serve(near)
                let socket = try client.open(.udpConnected, to: Self.names.0)
                #expect(socket.opening.names == [near.description])
                try node.serve(far)
                let result = try socket.ask()
                #expect(result.names == [far.description] && result.errors.isEmpty, "\(client.name): \(result)")
                try socket.close()
            }
        }
    }

    @Test(arguments: DataplaneKind.allCases)
    func aDisconnectedSocketForgetsTheService(kind: DataplaneKind) throws {
        try Lab.with { lab in
            let node = try serve(kind, lab)
            let backend = SocketAddress(node.pods[1].v4, 8080)
            let answered = try onSocket(of: node) { socket throws(TestFailure) in
                try socket.connect(Self.names.0)
                #expect(socket.send() == 0 && socket.answer() == backend.description)
                try socket.disconnect()
                return try socket.ask(backend)
            }
            #expect(answered == backend)
        }
    }

    /// Resolvers connect to a port of their own liking, to learn the address they would send from.
    @Test(arguments: DataplaneKind.allCases)
    func connectingToAPortThatTheClusterIPLacksSendsNothing(kind: DataplaneKind) throws {
        try Lab.with { lab in
            let node = try serve(kind, lab)
            let (own, errors) = try onSocket(of: node) { socket throws(TestFailure) in
                try socket.connect(SocketAddress(Self.names.0.address, 65535))
                let own = try socket.own()
                // The refusal of a datagram is told to the next call.
                return (own, [socket.send(), socket.send(), socket.send()])
            }
            #expect(own.address == node.pods[0].v4)
            #expect(errors[0] == 0 && errors.contains(ECONNREFUSED), "\(errors)")
        }
    }

    private func serve(_ kind: DataplaneKind, _ lab: Lab) throws -> NodeUnderTest {
        let node = try NodeUnderTest(kind, lab: lab)
        for (index, address) in [Self.names.0, Self.names.1].enumerated() {
            var service = Service(name: ObjectName("ns", "dns-\(index)"))
            service.clusterIPs = [address.address]
            service.ports = [Service.Port(name: "p", transport: .udp, port: address.port)]
            try node.apply([.upsert(.service(service))])
        }
        try node.serve(SocketAddress(node.pods[1].v4, 8080))
        return node
    }

    private func onSocket<R>(
        of node: NodeUnderTest, _ body: (borrowing TestSocket) throws(TestFailure) -> R
    ) throws -> R {
        let client = node.pods[0]
        return try client.namespace().run { () throws in
            try InCgroup.run(client.cgroup) { () throws(TestFailure) in
                let socket = try TestSocket(SOCK_DGRAM)
                return try body(socket)
            }
        }
    }
}

extension NodeUnderTest {
    /// Both services have this endpoint and no other.
    fileprivate func serve(_ endpoint: SocketAddress) throws {
        for index in 0...1 {
            var slice = EndpointSlice(
                name: ObjectName("ns", "dns-\(index)-1"), serviceName: "dns-\(index)", addressType: .ipv4)
            slice.ports = [.init(name: "p", transport: .udp, port: endpoint.port)]
            slice.endpoints = [.init(endpoint.address, nodeName: RandomCluster.nodeName)]
            try apply([.upsert(.endpointSlice(slice))])
        }
    }
}
