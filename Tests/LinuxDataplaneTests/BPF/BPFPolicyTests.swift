/// Which endpoints a caller may reach: kinds of frontends, traffic policies, affinity.
import Addressing
import DataplaneIR
import Observation
import Glibc
import LinuxDataplane
import Reconcile
import Testing
import TestSupport

@Suite(.requiresKernel(.netns, .cgroup2, .bpf)) struct BPFPolicyTests {
    static let external = at("203.0.113.7:80")

    /// Endpoint a stands for a remote one, b for one of this node.
    private func service(_ test: BPFTestNode) -> BPFService {
        BPFService(
            frontends: [
                clusterIP("10.96.0.1:80"), Frontend(.externalIP, Self.external.address, 80),
                Frontend(.loadBalancer, IPAddress("203.0.113.8"), 80), Frontend(.nodePort, nil, 30080),
            ], cluster: [test.a.endpoint(), test.b.endpoint()], local: [test.b.endpoint()])
    }
    private func externals(_ test: BPFTestNode) -> [SocketAddress] {
        [Self.external, at("203.0.113.8:80"), SocketAddress(test.node.host.v4, 30080)]
    }

    @Test func everyKindOfFrontendBalances() throws {
        try BPFTestNode.with { test in
            try test.applyAll([service(test).program])
            for client in [test.client, test.node.host] {
                for frontend in externals(test) + [at("10.96.0.1:80")] {
                    let result = try client.flow(.tcp, to: frontend, count: 30)
                    #expect(result.names == ["a", "b"], "\(client.name) \(frontend) \(result)")
                    #expect(Set(result.peers.keys) == [frontend])
                }
            }
        }
    }

    /// Spec rows 30, 31, 34.
    @Test func internalPolicyLocal() throws {
        try BPFTestNode.with { test in
            var service = service(test)
            service.internalPolicy = .local
            try test.applyAll([service.program])
            #expect(try test.client.flow(.tcp, to: at("10.96.0.1:80"), count: 20).names == ["b"])
            #expect(try test.client.flow(.tcp, to: Self.external, count: 30).names == ["a", "b"])
            service.local = []
            try test.update(service.program)
            #expect(try test.client.flow(.tcp, to: at("10.96.0.1:80")).errors == [EHOSTUNREACH: 1])
            #expect(try test.client.flow(.udp, to: at("10.96.0.1:80")).errors == [ECONNREFUSED: 1])
            service.cluster = []
            try test.update(service.program)
            #expect(try test.client.flow(.tcp, to: at("10.96.0.1:80")).errors == [ECONNREFUSED: 1])
        }
    }

    /// Spec rows 77-79.
    @Test func externalPolicyLocal() throws {
        try BPFTestNode.with { test in
            var service = service(test)
            service.externalPolicy = .local
            try test.applyAll([service.program])
            for frontend in externals(test) {
                #expect(try test.client.flow(.tcp, to: frontend, count: 30).names == ["a", "b"], "\(frontend)")
                #expect(try test.node.host.flow(.tcp, to: frontend, count: 30).names == ["a", "b"], "\(frontend)")
            }
            test.nodeProgram.detector = .none
            try test.update()
            for frontend in externals(test) {
                #expect(try test.client.flow(.tcp, to: frontend, count: 20).names == ["b"], "\(frontend)")
                #expect(try test.node.host.flow(.tcp, to: frontend, count: 30).names == ["a", "b"], "\(frontend)")
            }
            service.local = []
            try test.update(service.program)
            #expect(try test.client.flow(.tcp, to: Self.external).errors == [EHOSTUNREACH: 1])
            #expect(try test.client.flow(.tcp, to: at("10.96.0.1:80"), count: 30).names == ["a", "b"])
        }
    }

    /// Spec rows 88, 92, 94, 95.
    @Test func nodePortsAnswerOnTheirAddressesOnly() throws {
        try BPFTestNode.with { test in
            let other = BPFService(
                name: "other", frontends: [Frontend(.externalIP, test.node.host.v4, 30081)],
                cluster: [test.b.endpoint()])
            let nodePort = BPFService(frontends: [Frontend(.nodePort, nil, 30081)], cluster: [test.a.endpoint()])
            let nodePort6 = BPFService(
                family: .ipv6, frontends: [Frontend(.nodePort, nil, 30081)], cluster: [test.a.endpoint(.ipv6)])
            try test.applyAll([nodePort.program, nodePort6.program])
            let target = SocketAddress(test.node.host.v4, 30081)
            #expect(try test.client.flow(.tcp, to: target).names == ["a"])
            #expect(try test.client.flow(.tcp, to: SocketAddress(test.node.host.v6, 30081)).names == ["a"])
            for loopback in ["127.0.0.1:30081", "[::1]:30081"] {
                #expect(try test.node.host.flow(.tcp, to: at(loopback)).errors == [ECONNREFUSED: 1])
            }
            // An address goes before a node port.
            try test.update(other.program)
            #expect(try test.client.flow(.tcp, to: target, count: 10).names == ["b"])
            test.nodeProgram.nodePortAddresses = []
            try test.update(remove: [other.program.id])
            #expect(try test.client.flow(.tcp, to: target).errors == [ECONNREFUSED: 1])
        }
    }

    @Test func nodePortsOnLoopbackWhenAskedFor() throws {
        try BPFTestNode.with { test in
            test.nodeProgram.nodePortLoopback = true
            let service = BPFService(frontends: [Frontend(.nodePort, nil, 30081)], cluster: [test.a.endpoint()])
            let service6 = BPFService(
                family: .ipv6, frontends: [Frontend(.nodePort, nil, 30081)], cluster: [test.a.endpoint(.ipv6)])
            try test.applyAll([service.program, service6.program])
            for loopback in ["127.0.0.1:30081", "127.0.0.2:30081", "[::1]:30081"] {
                #expect(try test.node.host.flow(.tcp, to: at(loopback)).names == ["a"], "\(loopback)")
                // A pod's loopback is its own.
                #expect(try test.client.flow(.tcp, to: at(loopback)).errors == [ECONNREFUSED: 1])
            }
            for own in ["127.0.0.1:30081", "[::1]:30081"] {
                try test.node.host.listen(.tcp, at(own), name: "own")
                #expect(try test.node.host.flow(.tcp, to: at(own)).names == ["own"], "\(own)")
            }
            #expect(try test.node.host.flow(.tcp, to: at("127.0.0.2:30081")).names == ["a"])
        }
    }

    /// Spec rows 24-28.
    @Test func affinityKeepsAClientWithItsEndpointWhileThatIsUsable() throws {
        try BPFTestNode.with { test in
            var service = service(test)
            service.affinitySeconds = 600
            try test.applyAll([service.program])
            let vip = at("10.96.0.1:80")
            let first = try test.client.flow(.tcp, to: vip, count: 20)
            #expect(first.names.count == 1, "\(first)")
            // One memory for all frontends; it survives other changes of the service and restarts.
            #expect(try test.client.flow(.tcp, to: Self.external, count: 10).names == first.names)
            service.spare = [at("10.9.9.9:1")]
            try test.update(service.program)
            try test.restart()
            try test.applyAgain()
            #expect(try test.client.flow(.tcp, to: vip, count: 10).names == first.names)
            let rest = first.names == ["a"] ? test.b.endpoint() : test.a.endpoint()
            // Gone and back within the timeout: the memory went with it, so both may be chosen again.
            service.cluster = [rest]
            service.local = []
            try test.update(service.program)
            #expect(try test.client.flow(.tcp, to: vip, count: 10).names.isDisjoint(with: first.names))
            service.cluster = [test.a.endpoint(), test.b.endpoint()]
            try test.update(service.program)
            #expect(try test.client.flow(.tcp, to: vip, count: 10).names.isDisjoint(with: first.names))
            service.affinitySeconds = nil
            try test.update(service.program)
            #expect(try test.client.flow(.tcp, to: vip, count: 30).names == ["a", "b"])
        }
    }

    /// Spec row 27: the memory counts only among the endpoints that the policy allows.
    @Test func affinityStaysWithinTheRangeInUse() throws {
        try BPFTestNode.with { test in
            test.nodeProgram.detector = .none
            var service = service(test)
            service.affinitySeconds = 600
            service.externalPolicy = .local
            try test.applyAll([service.program])
            for _ in 0..<10 {
                _ = try test.client.flow(.tcp, to: at("10.96.0.1:80"))
                #expect(try test.client.flow(.tcp, to: Self.external).names == ["b"])
            }
        }
    }

    @Test func affinityEndsWithItsTimeout() throws {
        try BPFTestNode.with { test in
            var service = service(test)
            service.affinitySeconds = 1
            try test.applyAll([service.program])
            let vip = at("10.96.0.1:80")
            let first = try test.client.flow(.tcp, to: vip).names
            // Every try starts the second anew, so tries lie further apart than that.
            var next = ContinuousClock.now + .milliseconds(1200)
            try eventually("another endpoint is chosen", within: .seconds(40)) {
                guard ContinuousClock.now > next else { return false }
                let names = try test.client.flow(.tcp, to: vip).names
                next = .now + .milliseconds(1200)
                return names != first
            }
        }
    }

    /// A client is a network namespace, and a pod may make those without end.
    @Test func whoMakesClientsWithoutEndCrowdsOutNobodyElse() throws {
        try BPFTestNode.with {
            $0.sizes.affinity = 4096
        } _: { test in
            var service = service(test)
            service.affinitySeconds = 600
            try test.applyAll([service.program])
            let vip = at("10.96.0.1:80")
            let first = try test.client.flow(.tcp, to: vip).names
            // Two minutes may begin meanwhile.
            let (share, attempts) = (256, 2 * 256 + 60)
            try test.b.crowd(to: vip, count: attempts)
            #expect(try test.counter("affinity_share_full") >= 60)
            let affinity = try #require(try test.dataplane.capacity().first { $0.name == "affinity" })
            #expect((share...2 * share + 1).contains(affinity.entries))
            #expect(try test.client.flow(.tcp, to: vip, count: 10).names == first)
            let another = try test.a.flow(.tcp, to: vip, count: 20)
            #expect(another.names.count == 1, "it has a share of its own: \(another)")
        }
    }

    @Test func whatOnlyTheCompanionCanDoIsLeftToItOrRefused() throws {
        for companion in [true, false] {
            try BPFTestNode.with {
                $0.companionHandlesSourceRanges = companion
            } _: { test in
                let range = try #require(IPPrefix("10.0.0.0/8"))
                let filtered = BPFService(
                    frontends: [
                        clusterIP("10.96.0.1:80"),
                        Frontend(.loadBalancer, IPAddress("203.0.113.8"), 80, sourceRanges: [range]),
                    ], cluster: [test.a.endpoint()]
                ).program
                let sctp = BPFService(
                    name: "sctp", transport: .sctp, frontends: [clusterIP("10.96.0.2:80")], cluster: [test.a.endpoint()]
                ).program
                let receipt = try test.applyAll([filtered, sctp])
                #expect(Set(receipt.refused.keys) == (companion ? [] : [filtered.id, sctp.id]))
                #expect(try test.client.flow(.tcp, to: at("10.96.0.1:80")).names == ["a"])
                #expect(
                    try test.client.flow(.tcp, to: at("203.0.113.8:80"), timeoutMs: 2000).errors == [ENETUNREACH: 1])
                // Its cluster IP is in use all the same.
                #expect(try test.client.flow(.tcp, to: at("10.96.0.2:80")).errors == [ECONNREFUSED: 1])
                #expect(try test.applyAgain().operations == 0)
            }
        }
    }
}
