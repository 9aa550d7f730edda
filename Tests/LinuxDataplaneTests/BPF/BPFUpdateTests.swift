/// Changes while traffic flows: nobody meets a hole, flows stay where they are, stale sockets are moved or ended.
import Addressing
import DataplaneIR
import Glibc
import Netns
import Reconcile
import Testing
import TestSupport

@testable import LinuxDataplane

@Suite(.requiresKernel(.netns, .cgroup2, .bpf)) struct BPFUpdateTests {
    static let vip = at("10.96.0.1:80")

    @Test(arguments: Pod.Kind.allCases) func aStormOfConnectionsMeetsNoHoleInAStormOfUpdates(kind: Pod.Kind) throws {
        try BPFTestNode.with { test in
            var random = SeededGenerator(for: "storm \(kind)")
            var service = BPFService(
                transport: kind.transport,
                frontends: [Frontend(.clusterIP, Self.vip.address, Self.vip.port)], cluster: [test.a.endpoint()])
            try test.applyAll([service.program])
            let storm = try test.client.storm(kind, to: Self.vip, threads: 2, timeoutMs: 5000)
            // When each set of endpoints began to be put in force.
            var history: [(begin: UInt64, names: Set<String>)] = [(0, ["a"])]
            for _ in 0..<(kind == .tcp ? 1500 : 300) {
                let set = [[test.a], [test.b], [test.a, test.b]].randomElement(using: &random) ?? [test.a]
                service.cluster = set.map { $0.endpoint() }
                // Idle ones make the block larger or smaller, so that it moves between places of all sizes.
                service.spare = (0..<Int.random(in: 0..<20, using: &random)).map {
                    SocketAddress(IPAddress(v4: 0x0a09_0000 + UInt32($0)), 1)
                }
                history.append((monotonicNs(), Set(set.map(\.name))))
                try test.update(service.program)
                if Int.random(in: 0..<8, using: &random) == 0 { try test.dataplane.collectGarbage() }
            }
            let connections = try storm.stop()
            let reasons = try test.dataplane.counters()
            #expect(reasons["unreachable_inconsistent"] == 0)
            #expect(connections.count > 100)
            var wrong: [String] = []
            for connection in connections {
                // In force at some moment of the connection: begun before its end, and the next not begun and applied
                // before its start.
                let first = history.lastIndex { $0.begin <= connection.start } ?? 0
                let allowed = history[max(first - 1, 0)...].prefix { $0.begin <= connection.end }
                    .reduce(into: Set<String>()) { $0.formUnion($1.names) }
                // A connected UDP socket may be sent to another backend while it waits for the answer.
                if kind == .udpConnected, connection.error == ETIMEDOUT { continue }
                if let name = connection.name, allowed.contains(name) { continue }
                wrong.append("\(connection.name ?? "nobody") errno \(connection.error), allowed \(allowed)")
            }
            #expect(wrong.isEmpty, "\(wrong.count) of \(connections.count): \(wrong.prefix(3))")
        }
    }

    @Test func aServiceWithManyFrontendsChangesAtOnce() throws {
        try BPFTestNode.with { test in
            var service = BPFService(
                frontends: (0..<50).map { Frontend(.clusterIP, IPAddress(v4: 0x0a60_0100 + $0), 80) },
                cluster: [test.a.endpoint()])
            let first = try test.applyAll([service.program])
            #expect(first.operations > 100)
            service.cluster = [test.b.endpoint()]
            #expect(try test.update(service.program).operations == 1)
            for number in [0, 17, 49] as [UInt32] {
                let vip = SocketAddress(IPAddress(v4: 0x0a60_0100 + number), 80)
                #expect(try test.client.flow(.tcp, to: vip, count: 5).names == ["b"])
            }
            #expect(try test.update(service.program).operations == 0)
        }
    }

    @Test func aFrontendMovesFromOneServiceToAnotherWithoutAHole() throws {
        try BPFTestNode.with { test in
            let vip = Frontend(.clusterIP, Self.vip.address, Self.vip.port)
            var one = BPFService(name: "one", frontends: [vip], cluster: [test.a.endpoint()])
            var two = BPFService(name: "two", frontends: [clusterIP("10.96.0.2:80")], cluster: [test.b.endpoint()])
            try test.applyAll([one.program, two.program])
            let storm = try test.client.storm(.tcp, to: Self.vip, threads: 2, timeoutMs: 5000)
            for _ in 0..<200 {
                swap(&one.frontends, &two.frontends)
                try test.update(one.program, two.program)
            }
            // And from a service that goes in the same plan.
            for _ in 0..<50 {
                two.frontends = [vip]
                try test.update(two.program, remove: [one.program.id])
                one.frontends = [vip]
                try test.update(one.program, remove: [two.program.id])
            }
            let connections = try storm.stop()
            #expect(connections.count > 100)
            #expect(Set(connections.map(\.error)) == [0])
            #expect(try test.counter("unreachable_inconsistent") == 0)
            #expect(try test.dataplane.verify(quick: false) == [])
        }
    }

    // MARK: UDP

    private func dns(_ cluster: [SocketAddress], spare: [SocketAddress] = []) -> BPFService {
        BPFService(
            transport: .udp, frontends: [Frontend(.clusterIP, Self.vip.address, Self.vip.port)], cluster: cluster,
            spare: spare)
    }

    /// Spec rows 111, 116.
    @Test(arguments: [Pod.Kind.udp, .udpConnected]) func aUDPFlowStaysWithItsBackendWhileThatServes(kind: Pod.Kind)
        throws
    {
        try BPFTestNode.with { test in
            let both = [test.a.endpoint(), test.b.endpoint()]
            try test.applyAll([dns(both).program])
            let socket = try test.client.open(kind, to: Self.vip)
            let first = socket.opening.names
            #expect(first.count == 1)
            let (mine, other) = first == ["a"] ? (both[0], both[1]) : (both[1], both[0])
            // Not selected any more, but serving.
            #expect(try test.update(dns([other], spare: [mine]).program).staleFlowsRemoved == 0)
            for _ in 0..<10 { #expect(try socket.ask().names == first) }
            #expect(try test.client.flow(kind, to: Self.vip, count: 10).names.isDisjoint(with: first))
        }
    }

    /// Spec rows 114, 118, 134: an unconnected socket finds the new set with its next datagram.
    @Test func anUnconnectedUDPSocketIsSteeredAway() throws {
        try BPFTestNode.with { test in
            try test.applyAll([dns([test.a.endpoint()]).program])
            let socket = try test.client.open(.udp, to: Self.vip)
            #expect(socket.opening.names == ["a"])
            try test.update(dns([test.b.endpoint()]).program)
            #expect(try socket.ask().names == ["b"])
            try test.update(dns([]).program)
            #expect(try socket.ask().errors == [ECONNREFUSED: 1])
            try test.update(dns([test.a.endpoint()]).program)
            #expect(try socket.ask().names == ["a"])
        }
    }

    /// Spec rows 114-120, 134: a connected one is moved, in the pod's own network namespace, and only it.
    @Test func connectedUDPSocketsOfARemovedBackendAreMoved() throws {
        try BPFTestNode.with { test in
            try test.applyAll([dns([test.a.endpoint()]).program])
            for client in [test.client, test.node.host, test.b] {
                let stale = try client.open(.udpConnected, to: Self.vip)
                #expect(stale.opening.names == ["a"])
                // Not translated: not ours to end.
                let direct = try client.open(.udpConnected, to: test.a.endpoint())
                #expect(direct.opening.names == ["a"])
                #expect(try test.update(dns([test.b.endpoint()]).program).staleFlowsRemoved == 1)
                #expect(try stale.ask().names == ["b"])
                #expect(try direct.ask().names == ["a"])
                #expect(try test.recordedBackends() == [test.b.endpoint()])
                try stale.close()
                try direct.close()
                // The kernel frees what a closed socket had when nobody can be reading it any more.
                try eventually("the closed socket is forgotten") { try test.recordedBackends() == [] }
                try test.update(dns([test.a.endpoint()]).program)
            }
        }
    }

    private func expectEnded(_ socket: OpenSocket) throws {
        let result = try socket.ask()
        // The socket is not connected any more. Whoever waits in a receive gets ECONNABORTED.
        #expect(result.errors == [EDESTADDRREQ: 1], "\(result)")
    }

    @Test func aSocketThatItsProgramConnectedElsewhereIsLeftAlone() throws {
        try BPFTestNode.with { test in
            try test.applyAll([dns([test.a.endpoint()]).program])
            try test.client.namespace().run { () throws in
                try InCgroup.run(test.client.cgroup) { () throws(TestFailure) in
                    let socket = try TestSocket(SOCK_DGRAM)
                    try socket.connect(Self.vip)
                    try socket.connect(test.a.endpoint())
                    let receipt = try? test.update(dns([test.b.endpoint()]).program)
                    #expect(receipt?.staleFlowsRemoved == 0)
                    #expect(socket.send() == 0 && socket.answer() == "a")
                }
            }
        }
    }

    @Test func connectedUDPSocketsAreEndedWhenTheServiceGoesAlsoWithoutAnAgent() throws {
        try BPFTestNode.with { test in
            let service = dns([test.a.endpoint()]).program
            try test.applyAll([service])
            let first = try test.client.open(.udpConnected, to: Self.vip)
            #expect(try test.update(remove: [service.id]).staleFlowsRemoved == 1)
            try expectEnded(first)
            try test.applyAll([service])
            let second = try test.client.open(.udpConnected, to: Self.vip)
            let third = try test.client.open(.udpConnected, to: Self.vip)
            // Nothing changed while no agent was there: the sockets live.
            try test.restart()
            #expect(try test.applyAgain().staleFlowsRemoved == 0)
            #expect(try second.ask().names == ["a"])
            // The backend went while no agent was there.
            try test.restart()
            #expect(try test.applyAll([dns([test.b.endpoint()]).program]).staleFlowsRemoved == 2)
            for socket in [second, third] { #expect(try socket.ask().names == ["b"]) }
            // The service went while no agent was there.
            try test.restart()
            #expect(try test.applyAll([]).staleFlowsRemoved == 2)
            try expectEnded(third)
            #expect(try test.recordedBackends() == [])
        }
    }

    /// Others' changes cost a socket that waits nothing.
    @Test func aSocketThatWaitsIsConnectedAnewOnlyWhenThereIsSomebody() throws {
        try BPFTestNode.with { test in
            var service = dns([test.a.endpoint()])
            (service.local, service.internalPolicy) = (service.cluster, .local)
            var other = dns([test.b.endpoint()])
            (other.name, other.frontends) = ("other", [clusterIP("10.96.0.2:53")])
            try test.applyAll([service.program, other.program])
            let socket = try test.client.open(.udpConnected, to: Self.vip)
            (service.local, service.cluster) = ([], [test.b.endpoint()])
            try test.update(service.program)
            #expect(try test.counter("connect_parked") == 1)
            other.cluster = [test.a.endpoint()]
            try test.update(other.program)
            try test.update(remove: [other.program.id])
            #expect(try test.counter("connect_parked") == 1)
            service.local = service.cluster
            #expect(try test.update(service.program).staleFlowsRemoved == 0, "it waited, it went to nobody")
            #expect(try socket.ask().names == ["b"])
        }
    }

    /// Its endpoints stay the same. No rules serve what waits here.
    @Test func aSocketThatWaitsUnderPolicyLocalIsTakenUpUnderCluster() throws {
        try BPFTestNode.with { test in
            var service = dns([test.a.endpoint()])
            (service.local, service.internalPolicy) = (service.cluster, .local)
            try test.applyAll([service.program])
            let socket = try test.client.open(.udpConnected, to: Self.vip)
            (service.local, service.cluster) = ([], [test.b.endpoint()])
            try test.update(service.program)
            #expect(try test.recordedBackends() == [Self.vip])
            service.internalPolicy = .cluster
            try test.update(service.program)
            #expect(try socket.ask().names == ["b"])
        }
    }

    /// Where pods can be told apart, policy Local of an external address is not for them (spec rows 77-79).
    @Test func aSocketThatWaitsAtAnExternalAddressGoesToAnyEndpoint() throws {
        try BPFTestNode.with { test in
            var service = dns([test.a.endpoint()])
            service.frontends = [Frontend(.externalIP, at("192.0.2.1:53").address, 53)]
            service.externalPolicy = .local
            try test.applyAll([service.program])
            let socket = try test.client.open(.udpConnected, to: at("192.0.2.1:53"))
            #expect(socket.opening.names == ["a"])
            service.cluster = []
            try test.update(service.program)
            #expect(try test.counter("connect_parked") == 1)
            service.cluster = [test.b.endpoint()]
            try test.update(service.program)
            #expect(try socket.ask().names == ["b"])
        }
    }

    /// What was found out about a socket and one backend says nothing about it and another.
    @Test func aSocketThatWentElsewhereIsNotUnreachable() throws {
        try BPFTestNode.with { test in
            try test.applyAll([dns([test.a.endpoint()]).program])
            let socket = try test.client.open(.udpConnected, to: Self.vip)
            let cookie = try #require(try test.connected().list { $1 }.keys.first)
            let listed = StaleSockets.Socket(dialled: Self.vip, backend: test.b.endpoint(), hasService: true)
            let outcome = try StaleSockets(cgroup: test.options.cgroup, linksPerContainer: 1000).mend([cookie: listed])
            #expect(outcome.missing.isEmpty && outcome.moved + outcome.ended == 0, "\(outcome)")
            test.dataplane.unreachableSockets[cookie] = test.b.endpoint()
            #expect(try test.update(dns([test.b.endpoint()]).program).staleFlowsRemoved == 1)
            #expect(try socket.ask().names == ["b"])
            #expect(try test.counter("udp_sockets_unreachable") == 0)
        }
    }

    /// Nobody can be asked for it, so it goes where it went. That is counted, and tried again when somebody comes.
    @Test func aSocketInANamespaceWithoutProcessesIsCounted() throws {
        try BPFTestNode.with { test in
            try test.applyAll([dns([test.a.endpoint()]).program])
            // Opened there, and kept in the namespace of this process.
            let kept = try test.client.namespace().run { () throws in
                try InCgroup.run(test.client.cgroup) { () throws(TestFailure) -> Int32 in
                    let socket = try TestSocket(SOCK_DGRAM)
                    try socket.connect(Self.vip)
                    return dup(socket.descriptor)
                }
            }
            defer { close(kept) }
            for backend in [test.b, test.b, test.a, test.b] {
                #expect(try test.update(dns([backend.endpoint()]).program).staleFlowsRemoved == 0)
                try test.dataplane.collectGarbage()
                #expect(try test.recordedBackends() == [test.a.endpoint()])
            }
            // Twice, for it was good again in between.
            #expect(try test.counter("udp_sockets_unreachable") == 2)
            let other = try test.client.open(.udpConnected, to: Self.vip)
            try test.dataplane.collectGarbage()
            #expect(try test.counter("udp_sockets_ended") == 0, "not at every change")
            test.dataplane.unreachableRest = .zero
            try test.dataplane.collectGarbage()
            #expect(try test.counter("udp_sockets_ended") == 1)
            #expect(try other.ask().names == ["b"])
        }
    }

    @Test func onlyPickedSocketsAreKept() throws {
        try BPFTestNode.with { test in
            try test.applyAll([dns([test.a.endpoint()]).program])
            let sockets = try (0..<3).map { _ in try test.client.open(.udpConnected, to: Self.vip) }
            #expect(try test.connected().list { $1 }.count == sockets.count)
            #expect(try test.connected().list { _, _ in nil as Int? }.isEmpty)
        }
    }

    /// Spec row 112: TCP connections are left alone.
    @Test func tcpConnectionsOutliveTheirEndpoint() throws {
        try BPFTestNode.with { test in
            var service = BPFService(
                frontends: [Frontend(.clusterIP, Self.vip.address, Self.vip.port)], cluster: [test.a.endpoint()])
            try test.applyAll([service.program])
            let socket = try test.client.open(.tcp, to: Self.vip)
            service.cluster = [test.b.endpoint()]
            try test.update(service.program)
            #expect(try socket.ask().names == ["a"])
            try test.update(remove: [service.program.id])
            #expect(try socket.ask().names == ["a"])
        }
    }

    @Test func moreDestinationsThanASocketRemembers() throws {
        try BPFTestNode.with { test in
            let services = (0..<20).map { number in
                BPFService(
                    name: "s\(number)", transport: .udp,
                    frontends: [Frontend(.clusterIP, IPAddress(v4: 0x0a60_0200 + UInt32(number)), 53)],
                    cluster: [test.a.endpoint()])
            }
            try test.applyAll(services.map(\.program))
            let names = try test.client.namespace().run { () throws in
                try InCgroup.run(test.client.cgroup) { () throws(TestFailure) -> [SocketAddress] in
                    let socket = try TestSocket(SOCK_DGRAM)
                    var answers: [SocketAddress] = []
                    for _ in 0..<2 {
                        for number in 0..<20 as Range<UInt32> {
                            answers.append(try socket.ask(SocketAddress(IPAddress(v4: 0x0a60_0200 + number), 53)))
                        }
                    }
                    return answers
                }
            }
            let expected = (0..<20).map { SocketAddress(IPAddress(v4: 0x0a60_0200 + UInt32($0)), 53) }
            #expect(names == expected + expected)
        }
    }
}

extension BPFTestNode {
    /// Of the connected UDP sockets that we have translated.
    fileprivate func recordedBackends() throws -> [SocketAddress] {
        try connected().list { $1.backendAddress }.map(\.value)
    }
    fileprivate func connected() throws -> ConnectedUDPSockets {
        try ConnectedUDPSockets(origins: try #require(dataplane.maps.descriptors["socket_origin"]))
    }
}
