/// Connected UDP sockets pass no hook when they send. Their service's backends change all the same, and they follow it
/// as under NAT: same socket, same own address, and the names of the service (spec rows 114-120, 134).
import Addressing
import Cluster
import DataplaneIR
import Glibc
import Reconcile
import TestSupport
import Testing

@testable import LinuxDataplane

@Suite(.serialized, .requiresKernel(.root, .netns, .cgroup2, .bpf))
struct UDPFollowTests {
    enum Way: String, CaseIterable, Sendable {
        case v4
        case v6
        /// An IPv6 socket to an IPv4 service.
        case mapped

        var family: AddressFamily { self == .v6 ? .ipv6 : .ipv4 }
    }

    @Test(arguments: DataplaneKind.allCases, Way.allCases)
    func aSocketFollowsItsService(kind: DataplaneKind, way: Way) throws {
        try Lab.with { lab in
            let test = try FollowTest(kind, lab)
            let nodePort = SocketAddress(test.node.node.host.address(way.family), FollowTest.nodePort)
            for client in [test.node.pods[0], test.node.node.host] {
                for service in [test.name(way.family), nodePort] {
                    try test.serve(test.near)
                    let socket = try client.open(.udpConnected, to: service, isMapped: way == .mapped)
                    let before = socket.opening
                    #expect(before.names == [test.endpoint(test.near, way.family)], "\(client.name): \(before)")
                    for (pod, isLast) in [(test.far, false), (test.near, false), (test.far, true)] {
                        try test.serve(pod)
                        // Programs that log or count only send. The answer to that is the next that is read.
                        if isLast { #expect(try socket.tell().errors.isEmpty) }
                        let after = try socket.ask()
                        #expect(after.names == [test.endpoint(pod, way.family)], "\(client.name): \(after)")
                        #expect(after.peers == [service: 2] && after.own == before.own, "\(client.name): \(after)")
                    }
                    try socket.close()
                }
            }
        }
    }

    /// Two sockets of a process, one that another process has open, too, and one that only the other has.
    @Test(arguments: DataplaneKind.allCases)
    func socketsOfSeveralProcessesFollow(kind: DataplaneKind) throws {
        try Lab.with { lab in
            let test = try FollowTest(kind, lab)
            try test.serve(test.near)
            let sockets = try (0..<4).map { _ in try test.open() }
            try sockets[2].lend()
            try sockets[3].lend()
            try sockets[3].launch()
            try test.serve(test.far)
            try sockets[3].land()
            for socket in sockets { #expect(try socket.ask().names == [test.endpoint(test.far)]) }
            for socket in sockets { try socket.close() }
        }
    }

    /// On its way from one process to another, nobody can be asked for it.
    @Test(arguments: DataplaneKind.allCases)
    func aSocketThatNoProcessHasOpenFollowsOrIsEnded(kind: DataplaneKind) throws {
        try Lab.with { lab in
            let test = try FollowTest(kind, lab)
            try test.serve(test.near)
            let (hidden, open) = (try test.open(), try test.open())
            try hidden.launch()
            try test.serve(test.far)
            try hidden.land()
            let after = try hidden.ask()
            switch kind {
            case .ebpf:
                #expect(after.errors == [EDESTADDRREQ: 1], "\(after)")
                #expect(try test.counters() == Self.counters(moved: 1, ended: 1))
            case .nftables: #expect(after.names == [test.endpoint(test.far)], "\(after)")
            }
            #expect(try open.ask().names == [test.endpoint(test.far)])
        }
    }

    /// A pod may have any number of descriptors: what is looked at is bounded, and what is not found within is ended.
    @Test func aSocketBehindMoreDescriptorsThanAreLookedAtIsEnded() throws {
        try Lab.with { lab in
            let test = try FollowTest(.ebpf, lab)
            try #require(test.node.dataplanes[0] as? BPFDataplane).linksPerContainer = 200
            try test.serve(test.near)
            let (hidden, other) = (try test.open(), try test.open(in: test.node.pods[2]))
            try hidden.lend(behind: 300)
            try hidden.launch()
            try test.serve(test.far)
            try hidden.land()
            #expect(try hidden.ask().errors == [EDESTADDRREQ: 1])
            #expect(try other.ask().names == [test.endpoint(test.far)], "another container's")
            #expect(try test.counters()["udp_sockets_ended"] == 1)
        }
    }

    /// Spec rows 98, 118, 125. Nothing goes to what is gone, and the same socket is good again.
    @Test(arguments: DataplaneKind.allCases)
    func theLastEndpointGoesAndAnotherComes(kind: DataplaneKind) throws {
        try Lab.with { lab in
            let test = try FollowTest(kind, lab)
            try test.serve(test.near)
            let socket = try test.open()
            try test.serve()
            // "Port unreachable" is told to the call after the one it answers.
            for _ in 0..<2 { #expect(try socket.ask().errors == [ECONNREFUSED: 1]) }
            #expect(try test.node.pods[0].flow(.udpConnected, to: test.name()).errors == [ECONNREFUSED: 1])
            try test.serve(test.far)
            let after = try socket.ask()
            #expect(after.names == [test.endpoint(test.far)] && after.peers == [test.name(): 2], "\(after)")
            #expect(try test.open().opening.names == [test.endpoint(test.far)])
        }
    }

    /// Spec rows 21-29: where a socket is sent, its client's other sockets go, too.
    @Test(arguments: DataplaneKind.allCases)
    func affinityHoldsForASocketThatIsMoved(kind: DataplaneKind) throws {
        try Lab.with { lab in
            let test = try FollowTest(kind, lab, affinitySeconds: 10800)
            try test.serve(test.near)
            let sockets = try (0..<4).map { _ in try test.open() }
            try test.serve(test.far, test.node.pods[2])
            var names = Set<String>()
            for socket in sockets { names.formUnion(try socket.ask().names) }
            names.formUnion(try test.node.pods[0].flow(.udpConnected, to: test.name(), count: 8).names)
            #expect(names.count == 1 && names.isSubset(of: [test.far, test.node.pods[2]].map { test.endpoint($0) }))
        }
    }

    /// Spec row 99: what it sends is dropped, as anybody's, until there is an endpoint here again.
    @Test func underPolicyLocalASocketWaitsForAnEndpointHere() throws {
        try Lab.with { lab in
            let test = try FollowTest(.ebpf, lab, policy: .local)
            try test.serve(test.near)
            let socket = try test.open()
            try test.serve(test.far)
            #expect(try socket.tell().errors.isEmpty)
            try test.serve(test.near)
            #expect(try socket.ask().names == [test.endpoint(test.near)])
            #expect(try test.counters() == Self.counters(moved: 1, ended: 0))
        }
    }

    private static func counters(moved: UInt64, ended: UInt64) -> [String: UInt64] {
        ["udp_sockets_moved": moved, "udp_sockets_ended": ended, "udp_sockets_unreachable": 0]
    }

    /// eBPF alone serves node ports there.
    @Test(arguments: AddressFamily.allCases)
    func aSocketToANodePortOnLoopbackFollows(family: AddressFamily) throws {
        try Lab.with { lab in
            let test = try FollowTest(.ebpf, lab)
            test.node.nodeProgram.nodePortLoopback = true
            try test.serve(test.near)
            let loopback = family == .ipv4 ? at("127.0.0.1:30053") : at("[::1]:30053")
            let socket = try test.node.node.host.open(.udpConnected, to: loopback)
            #expect(socket.opening.names == [test.endpoint(test.near, family)], "\(socket.opening)")
            try test.serve(test.far)
            let after = try socket.ask()
            #expect(after.names == [test.endpoint(test.far, family)] && after.peers == [loopback: 2], "\(after)")
        }
    }
}

/// A service of both families whose endpoints can be exchanged.
private final class FollowTest {
    static let nodePort: UInt16 = 30053
    let node: NodeUnderTest
    let near: LabPod
    let far: LabPod

    init(
        _ kind: DataplaneKind, _ lab: Lab, affinitySeconds: UInt32? = nil, policy: Service.TrafficPolicy = .cluster
    ) throws {
        node = try NodeUnderTest(kind, lab: lab)
        (near, far) = (node.pods[1], node.remotePods[0])
        var service = Service(name: ObjectName("ns", "log"))
        service.type = .nodePort
        service.clusterIPs = AddressFamily.allCases.map { name($0).address }
        service.ports = [Service.Port(name: "p", transport: .udp, port: name().port)]
        service.ports[0].nodePort = Self.nodePort
        service.affinitySeconds = affinitySeconds
        service.internalTrafficPolicy = policy
        try node.apply([.upsert(.service(service))])
    }

    func name(_ family: AddressFamily = .ipv4) -> SocketAddress {
        family == .ipv4 ? at("10.96.0.99:514") : at("[fd00:96::99]:514")
    }
    /// As a pod calls itself when it answers.
    func endpoint(_ pod: LabPod, _ family: AddressFamily = .ipv4) -> String {
        "\(SocketAddress(pod.address(family), 8080))"
    }

    func serve(_ pods: LabPod...) throws {
        for family in AddressFamily.allCases {
            var slice = EndpointSlice(
                name: ObjectName("ns", "log-\(family)"), serviceName: "log",
                addressType: family == .ipv4 ? .ipv4 : .ipv6)
            slice.ports = [.init(name: "p", transport: .udp, port: 8080)]
            slice.endpoints = pods.map {
                .init($0.address(family), nodeName: $0 === far ? "node-b" : RandomCluster.nodeName)
            }
            try node.apply([.upsert(.endpointSlice(slice))])
        }
    }

    func open(in pod: LabPod? = nil) throws -> TestSupport.OpenSocket {
        let socket = try (pod ?? node.pods[0]).open(.udpConnected, to: name())
        #expect(socket.opening.names.count == 1, "\(socket.opening)")
        return socket
    }

    func counters() throws -> [String: UInt64] {
        try node.dataplanes[0].counters().filter { $0.key.hasPrefix("udp_sockets_") }
    }
}
