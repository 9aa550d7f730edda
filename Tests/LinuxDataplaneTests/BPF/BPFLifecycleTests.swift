/// What outlives the agent, what a successor makes of it, and what can be done without either.
import Addressing
import BPF
import CDataplaneABI
import DataplaneIR
import Glibc
import LinuxDataplane
import Observation
import Reconcile
import Testing
import TestSupport

@Suite(.requiresKernel(.netns, .cgroup2, .bpf)) struct BPFLifecycleTests {
    static let vip = at("10.96.0.1:80")

    private func services(_ test: BPFTestNode) -> [ServiceProgram] {
        let all = BPFService(
            frontends: [
                clusterIP("10.96.0.1:80"), Frontend(.externalIP, IPAddress("203.0.113.7"), 80),
                Frontend(.nodePort, nil, 30080),
            ], cluster: [test.a.endpoint(), test.b.endpoint()], local: [test.b.endpoint()],
            spare: [at("10.9.9.9:1")], internalPolicy: .cluster, externalPolicy: .local, affinitySeconds: 60)
        let v6 = BPFService(
            transport: .udp, family: .ipv6, frontends: [clusterIP("[fd00:96::1]:53")], cluster: [test.a.endpoint(.ipv6)]
        )
        let empty = BPFService(name: "empty", frontends: [clusterIP("10.96.0.2:80")])
        return [all.program, v6.program, empty.program].sorted { $0.id < $1.id }
    }

    @Test func aSuccessorAdoptsEverythingAndWritesNothing() throws {
        try BPFTestNode.with { test in
            test.nodeProgram.serviceCIDRs = [try #require(IPPrefix("10.96.0.0/16"))]
            try test.applyAll(services(test))
            let before = try BPFDump.read(bpffs: test.options.bpffs)
            for _ in 0..<2 {
                try test.restart()
                // Nothing of it is in doubt before the first plan: the old programs go on with the same maps.
                #expect(try test.client.flow(.tcp, to: Self.vip).answered == 1)
                let receipt = try test.applyAgain()
                // Only the links are switched to the new programs.
                #expect(receipt.operations == 8)
                #expect(try test.applyAgain().operations == 0)
                #expect(try test.dataplane.verify(quick: false) == [])
            }
            let after = try BPFDump.read(bpffs: test.options.bpffs)
            #expect(after?.frontends == before?.frontends)
        }
    }

    @Test func onlyMapsThatCanFillUpHaveALimit() throws {
        try BPFTestNode.with { test in
            try test.applyAll(services(test))
            let usage = try test.dataplane.capacity()
            #expect(usage.filter { $0.maxEntries > 0 && $0.entries >= $0.maxEntries } == [])
            #expect(usage.first { $0.name == "meta" }?.entries == 1)
        }
    }

    @Test func aSuccessorRemovesWhatIsNotDesiredAnyMore() throws {
        try BPFTestNode.with { test in
            let all = services(test)
            try test.applyAll(all)
            try test.restart()
            try test.applyAll([])
            #expect(try test.dataplane.verify(quick: false) == [])
            #expect(try BPFDump.read(bpffs: test.options.bpffs)?.frontends == [])
            #expect(try test.client.flow(.tcp, to: Self.vip, timeoutMs: 2000).errors == [ENETUNREACH: 1])
            try test.applyAll(all)
            #expect(try test.client.flow(.tcp, to: Self.vip, count: 20).answered == 20)
        }
    }

    @Test func otherSizesReplaceTheMapsWithoutAHole() throws {
        try BPFTestNode.with { test in
            try test.applyAll(services(test))
            let open = try test.client.open(.udpConnected, to: at("[fd00:96::1]:53"))
            let storm = try test.client.storm(.tcp, to: Self.vip, timeoutMs: 5000)
            for size in [8192, 2048, 4096] {
                try test.restart { $0.sizes.backends = size }
                let receipt = try test.applyAgain()
                #expect(receipt.staleFlowsRemoved == 0)
                let usage = try test.dataplane.capacity()
                #expect(usage.first { $0.name == "backends" }?.maxEntries == size)
                #expect(try test.dataplane.verify(quick: false) == [])
            }
            #expect(try open.ask().names == ["a"])
            let connections = try storm.stop()
            #expect(Set(connections.map(\.error)) == [0])
            #expect(connections.count > 10)
            #expect(directoryEntries(test.options.bpffs) == ["links", "maps"])
        }
    }

    /// A release with another layout comes, or an older one comes back: the proxy learns what each connection dialled.
    @Test func anotherLayoutLosesNoConnectionToTheProxy() throws {
        try BPFTestNode.with { test in
            let proxy = SocketAddress(test.node.host.v4, 15001)
            test.nodeProgram.proxyListeners = [proxy]
            try test.node.host.listen(.tcp, proxy, name: "@dialled")
            let routed = Frontend(.clusterIP, Self.vip.address, Self.vip.port, action: .proxy)
            try test.applyAll([BPFService(frontends: [routed], cluster: [test.a.endpoint()]).program])
            let storm = try test.client.storm(.tcp, to: Self.vip, threads: 2, timeoutMs: 5000)
            for _ in 0..<10 {
                let pinned = try #require(try BPFDescriptor.pinned(at: test.options.bpffs + "/maps/meta"))
                let meta = try BPFMap<UInt32, heddle_meta>(pinned, name: "meta")
                var other = try #require(try meta.lookup(0))
                other.schema_version += 1
                try meta.update(0, other)
                try test.restart()
                try test.applyAgain()
            }
            let connections = try storm.stop()
            #expect(Set(connections.map(\.error)) == [0])
            #expect(Set(connections.map(\.name)) == [Self.vip.description])
            #expect(connections.count > 100)
        }
    }

    @Test func aSwitchOfMapsThatWasInterruptedIsFinished() throws {
        try BPFTestNode.with { test in
            try test.applyAll(services(test))
            // Made but never filled: the old maps stay in force.
            try test.restart { $0.sizes.backends = 8192 }
            try test.restart { $0.sizes.backends = 4096 }
            #expect(directoryEntries(test.options.bpffs) == ["links", "maps"])
            #expect(try test.applyAgain().operations == 8)
            // Filled and switched to, but not yet in place.
            let maps = test.options.bpffs + "/maps"
            #expect(rename(maps, test.options.bpffs + "/maps_new") == 0)
            try test.restart()
            #expect(directoryEntries(test.options.bpffs) == ["links", "maps"])
            #expect(try test.applyAgain().operations == 8)
        }
    }

    @Test func cleanupLeavesNothingAndTouchesNothingElse() throws {
        try BPFTestNode.with { test in
            try test.applyAll(services(test))
            let foreign = test.options.bpffs + "/foreign"
            #expect(mkdir(foreign, 0o700) == 0)
            // Older agents had these two besides.
            let origins = try #require(try BPFDescriptor.pinned(at: test.options.bpffs + "/maps/socket_origin"))
            for former in ["/maps/udp_sockets", "/links/sock_release"] {
                try origins.pin(at: test.options.bpffs + former)
            }
            let removed = try BPFCleanup.run(bpffs: test.options.bpffs)
            #expect(removed.count == 8 + 18 + 2 + 2)
            #expect(directoryEntries(test.options.bpffs) == ["foreign"])
            #expect(try BPFDump.read(bpffs: test.options.bpffs) == nil)
            rmdir(foreign)
            #expect(try BPFCleanup.run(bpffs: test.options.bpffs) == [test.options.bpffs])
            #expect(try BPFCleanup.run(bpffs: test.options.bpffs) == [])
            // A dataplane that still runs notices and puts everything back.
            #expect(try test.dataplane.verify(quick: true).count == 8 + 18)
            try test.applyAgain()
            #expect(try test.dataplane.verify(quick: false) == [])
            #expect(try test.client.flow(.tcp, to: Self.vip).answered == 1)
        }
    }

    /// A connection that is on its way to the proxy when nothing more is steered there: the proxy asks then what its
    /// client dialled, and answers 503 if nobody knows.
    @Test func whatTheProxyAsksGoesLast() throws {
        try BPFTestNode.with { test in
            test.nodeProgram.proxyListeners = [SocketAddress(test.node.host.v4, 15001)]
            try test.applyAll(services(test))
            var left: [[String]] = []
            try BPFCleanup.run(
                bpffs: test.options.bpffs,
                settle: { left += ["links", "maps"].map { directoryEntries("\(test.options.bpffs)/\($0)") } })
            try #require(left.count == 2)
            #expect(left[0].sorted() == ["getsockopt", "sock_ops"])
            #expect(left[1].contains("proxy_dialled") && left[1].contains("socket_origin"))
            #expect(directoryEntries(test.options.bpffs) == [])
        }
    }

    @Test func dumpShowsWhatIsInForce() throws {
        try BPFTestNode.with { test in
            test.nodeProgram.detector = .none
            try test.applyAll(services(test))
            let dump = try #require(try BPFDump.read(bpffs: test.options.bpffs))
            #expect(dump.node == test.node.name)
            #expect(dump.dataplane == "ebpf")
            #expect(dump.generation == 1)
            let lines = dump.frontends.map {
                "\($0.address) \($0.port) \($0.protocol) \($0.kind) \($0.service) \($0.action) \($0.policy) "
                    + "\($0.affinitySeconds) \($0.backends.map { "\($0.address):\($0.port) \($0.state) \($0.local)" })"
            }
            let (a, b) = ("\(test.a.v4):8080 active false", "\(test.b.v4):8080 active true")
            #expect(
                Set(lines) == [
                    "10.96.0.1 80 TCP ClusterIP default/web:http balance Cluster 60 [\"\(a)\", \"\(b)\"]",
                    "203.0.113.7 80 TCP ExternalIP default/web:http balance Local 60 [\"\(b)\"]",
                    "* 30080 TCP NodePort default/web:http balance Local 60 [\"\(b)\"]",
                    "fd00:96::1 53 UDP ClusterIP default/web:http balance Cluster 0 "
                        + "[\"\(test.a.v6):8080 active false\"]",
                    "10.96.0.2 80 TCP ClusterIP default/empty:http reject Cluster 0 []",
                ])
            let usage = try test.dataplane.capacity()
            #expect(usage.map(\.name) == dump.maps.map(\.name))
            // An empty trie takes nothing. Before Linux 6.4 the kernel tells what a map may take at most, and of what
            // sockets carry nothing.
            let uncounted = usage.filter { $0.bytes == 0 }.map(\.name)
            let isOld = KernelNeed.Version.running < .init(6, 4)
            #expect(Set(uncounted) == (isOld ? ["socket_origin", "socket_flows", "proxy_dialled"] : ["service_cidrs"]))
            #expect(usage.first { $0.name == "frontends" }?.entries == 5 + 3)
            #expect(dump.maps.first { $0.name == "frontends" }?.entries == 5 + 3)
            #expect(try BPFDump.counters(bpffs: test.options.bpffs)?["unreachable_inconsistent"] == 0)
        }
    }

    @Test func thingsThatCannotWorkAreSaidInASentence() throws {
        try BPFTestNode.with { test in
            let outcome = { (change: (inout BPFDataplaneOptions) -> Void) -> String in
                var options = test.options
                change(&options)
                do {
                    _ = try BPFDataplane(options: options)
                    return "made"
                } catch {
                    return "\(error)"
                }
            }
            #expect(outcome { $0.bpffs = "/tmp/hd-nowhere" }.contains("--bpffs"))
            #expect(outcome { $0.sizes.frontends = 0 }.contains("frontends"))
            for cgroup in ["/tmp", "/nonexistent"] {
                try test.restart { $0.cgroup = cgroup }
                let error = #expect(throws: DataplaneError.self) { try test.applyAll([]) }
                #expect(error?.description.contains("--cgroup") == true)
            }
        }
    }
}
