/// What a program sees when it talks to a service: every way of opening a socket, both families.
import Addressing
import DataplaneIR
import Glibc
import LinuxDataplane
import Netns
import Reconcile
import Testing
import TestSupport

@Suite(.requiresKernel(.netns, .cgroup2, .bpf)) struct BPFTranslationTests {
    static let v4 = at("10.96.0.1:80")
    static let v6 = at("[fd00:96::1]:80")

    @Test func everyKindOfSocketReachesBothEndpointsAndSeesTheServiceAsItsPeer() throws {
        try BPFTestNode.with { test in
            var programs: [ServiceProgram] = []
            for transport in [TransportProtocol.tcp, .udp] {
                for family in AddressFamily.allCases {
                    let vip = family == .ipv4 ? Self.v4 : Self.v6
                    programs.append(
                        BPFService(
                            transport: transport, family: family,
                            frontends: [Frontend(.clusterIP, vip.address, vip.port)],
                            cluster: [test.a.endpoint(family), test.b.endpoint(family)]
                        ).program)
                }
            }
            try test.applyAll(programs)
            for client in [test.client, test.node.host] {
                for kind in Pod.Kind.allCases {
                    for (vip, isMapped) in [(Self.v4, false), (Self.v6, false), (Self.v4, true)] {
                        let result = try client.flow(kind, to: vip, count: 40, isMapped: isMapped)
                        let what: Comment = "\(client.name) \(kind) \(vip) mapped \(isMapped): \(result)"
                        #expect(result.answered == 40, what)
                        #expect(result.names == ["a", "b"], what)
                        #expect(Set(result.peers.keys) == [vip], what)
                    }
                }
            }
            // A pod keeps its source address: there is no packet to rewrite.
            let result = try test.client.flow(.tcp, to: Self.v4, count: 4)
            #expect(Set(result.clients.keys) == [test.client.v4])
            #expect(try test.counter("unreachable_inconsistent") == 0)
            #expect(try test.counter("connect_translated") > 0)
        }
    }

    @Test func anEndpointReachesItselfThroughItsService() throws {
        try BPFTestNode.with { test in
            try test.applyAll([
                BPFService(frontends: [clusterIP("10.96.0.1:80")], cluster: [test.a.endpoint()]).program
            ])
            #expect(try test.a.flow(.tcp, to: Self.v4).names == ["a"])
        }
    }

    /// Spec rows 98, 102, 103, 105.
    @Test func refusals() throws {
        try BPFTestNode.with { test in
            let udp = BPFService(
                name: "dns", transport: .udp, frontends: [clusterIP("10.96.0.2:53")], cluster: []
            ).program
            try test.applyAll([
                BPFService(
                    frontends: [
                        clusterIP("10.96.0.1:80"), Frontend(.externalIP, IPAddress("203.0.113.7"), 80),
                        Frontend(.nodePort, nil, 30080),
                    ]
                ).program, udp,
            ])
            let refused = [
                Self.v4, at("203.0.113.7:80"), SocketAddress(test.node.host.v4, 30080), at("10.96.0.1:81"),
            ]
            for destination in refused {
                #expect(try test.client.flow(.tcp, to: destination).errors == [ECONNREFUSED: 1], "\(destination)")
            }
            #expect(try test.client.flow(.tcp, to: Self.v4, isMapped: true).errors == [ECONNREFUSED: 1])
            for kind in [Pod.Kind.udp, .udpConnected] {
                #expect(try test.client.flow(kind, to: at("10.96.0.2:53")).errors == [ECONNREFUSED: 1])
            }
            // Passed through: nobody on the way answers.
            for untouched in ["10.96.9.9:80", "203.0.113.7:81"] {
                let result = try test.client.flow(.tcp, to: at(untouched), timeoutMs: 2000)
                #expect(result.errors == [ENETUNREACH: 1], "\(untouched) \(result)")
            }
            test.nodeProgram.serviceCIDRs = [try #require(IPPrefix("10.96.0.0/16"))]
            try test.update()
            #expect(try test.client.flow(.tcp, to: at("10.96.9.9:80")).errors == [EHOSTUNREACH: 1])
            #expect(try test.client.flow(.udp, to: at("10.96.9.9:80")).errors == [EHOSTUNREACH: 1])
            #expect(try test.client.flow(.tcp, to: Self.v4).errors == [ECONNREFUSED: 1])
            let reasons = try test.dataplane.counters()
            #expect(reasons["unreachable_unallocated"] == 2)
            #expect(reasons["refused_wrong_port"] == 1)
        }
    }

    @Test func aClusterIPStaysKnownWhileOneOfItsPortsIsLeft() throws {
        try BPFTestNode.with { test in
            let tcp = BPFService(frontends: [clusterIP("10.96.0.1:80")], cluster: [test.a.endpoint()]).program
            let udp = BPFService(transport: .udp, frontends: [clusterIP("10.96.0.1:53")]).program
            try test.applyAll([tcp, udp])
            try test.update(remove: [tcp.id])
            #expect(try test.client.flow(.tcp, to: Self.v4).errors == [ECONNREFUSED: 1])
            try test.update(remove: [udp.id])
            #expect(try test.client.flow(.tcp, to: Self.v4, timeoutMs: 2000).errors == [ENETUNREACH: 1])
            #expect(try test.dataplane.verify(quick: false) == [])
        }
    }

    /// The hooks see the TCP socket below it, but its name is asked of the MPTCP socket.
    @Test func anMPTCPSocketSeesTheServiceAsItsPeer() throws {
        guard readText("/proc/sys/net/mptcp/enabled").hasPrefix("1") else { return }
        try BPFTestNode.with { test in
            try test.applyAll([BPFService(frontends: [clusterIP("10.96.0.1:80")], cluster: [test.a.endpoint()]).program]
            )
            let peer = try test.client.namespace().run { () throws in
                try InCgroup.run(test.client.cgroup) { () throws(TestFailure) in
                    let socket = try TestSocket(SOCK_STREAM, protocol: 262)
                    try socket.connect(Self.v4)
                    return try socket.peer()
                }
            }
            #expect(peer == Self.v4)
        }
    }

    /// Alone, without rules beside it.
    @Test func replacingABackendEndsNoSocketThatLeftIt() throws {
        try BPFTestNode.with { test in
            var dns = BPFService(
                transport: .udp, frontends: [clusterIP("10.96.0.1:80")], cluster: [test.a.endpoint()])
            try test.applyAll([dns.program])
            dns.cluster = [test.b.endpoint()]
            let (replaced, cut) = (dns.program, test)
            let answers = try test.client.namespace().run { () throws in
                try InCgroup.run(test.client.cgroup) { () throws(TestFailure) -> [SocketAddress] in
                    let socket = try TestSocket(SOCK_DGRAM)
                    try socket.connect(Self.v4)
                    try socket.disconnect()
                    var answers = [try socket.ask(cut.a.endpoint())]
                    do {
                        let receipt = try cut.update(replaced)
                        #expect(receipt.staleFlowsRemoved == 0)
                    } catch { throw TestFailure("\(error)") }
                    answers.append(try socket.ask(cut.a.endpoint()))
                    return answers
                }
            }
            #expect(answers == [test.a.endpoint(), test.a.endpoint()])
        }
    }

    /// Without rules beside it the last name counts.
    @Test func aSocketThatSendsToABackendItselfSeesItsOwnName() throws {
        try BPFTestNode.with { test in
            try test.applyAll([
                BPFService(transport: .udp, frontends: [clusterIP("10.96.0.1:80")], cluster: [test.a.endpoint()])
                    .program
            ])
            let asked = [Self.v4, test.a.endpoint(), Self.v4, test.a.endpoint()]
            let answered = try test.client.namespace().run { () throws in
                try InCgroup.run(test.client.cgroup) { () throws(TestFailure) -> [SocketAddress] in
                    let socket = try TestSocket(SOCK_DGRAM)
                    var answered: [SocketAddress] = []
                    for name in asked { answered.append(try socket.ask(name)) }
                    return answered
                }
            }
            #expect(answered == asked)
        }
    }

    /// A datagram socket may be connected again, to something that is no service.
    @Test func aSocketConnectedElsewhereForgetsTheService() throws {
        try BPFTestNode.with { test in
            try test.applyAll([
                BPFService(transport: .udp, frontends: [clusterIP("10.96.0.1:80")], cluster: [test.a.endpoint()])
                    .program
            ])
            let peers = try test.client.namespace().run { () throws in
                try InCgroup.run(test.client.cgroup) { () throws(TestFailure) -> [SocketAddress] in
                    let socket = try TestSocket(SOCK_DGRAM)
                    try socket.connect(Self.v4)
                    let first = try socket.peer()
                    try socket.connect(test.b.endpoint())
                    return [first, try socket.peer()]
                }
            }
            #expect(peers == [Self.v4, test.b.endpoint()])
        }
    }
}
