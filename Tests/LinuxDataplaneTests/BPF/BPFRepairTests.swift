/// Writes that fail, maps that are full, and things that others did to our maps and links.
import Addressing
import BPF
import CDataplaneABI
import DataplaneIR
import Glibc
import LinuxDataplane
import Reconcile
import Synchronization
import Testing
import TestSupport

@Suite(.requiresKernel(.netns, .cgroup2, .bpf)) struct BPFRepairTests {
    static let vip = at("10.96.0.1:80")
    static let external = at("203.0.113.7:80")

    private func service(_ test: BPFTestNode, _ cluster: [SocketAddress]) -> BPFService {
        BPFService(frontends: [clusterIP("10.96.0.1:80")], cluster: cluster)
    }

    // MARK: Failing writes

    /// The n-th write fails, for every n, in a plan that adds, changes, moves and removes: what was there before works
    /// or what comes after does, and the same plan again succeeds.
    @Test func anyWriteMayFail() throws {
        let failAt = Mutex<Int>(.max)
        let faults = FaultInjector { _ in
            failAt.withLock { left in
                left -= 1
                return left == 0 ? ENOMEM : nil
            }
        }
        try BPFTestNode.with { test in
            let old = service(test, [test.a.endpoint()])
            var new = service(test, [test.b.endpoint()])
            new.frontends.append(Frontend(.externalIP, Self.external.address, 80))
            let other = BPFService(name: "other", frontends: [clusterIP("10.96.0.2:80")], cluster: [test.a.endpoint()])
            let added = BPFService(name: "added", frontends: [clusterIP("10.96.0.3:80")], cluster: [test.b.endpoint()])
            var failures = 0
            for number in 1... {
                failAt.withLock { $0 = .max }
                try test.restart(faults: faults)
                test.nodeProgram.serviceCIDRs = []
                try test.applyAll([old.program, other.program])
                #expect(try test.dataplane.verify(quick: false) == [])

                failAt.withLock { $0 = number }
                test.nodeProgram.serviceCIDRs = [try #require(IPPrefix("10.96.0.0/16"))]
                let update = { _ = try test.update(new.program, added.program, remove: [other.program.id]) }
                do {
                    try update()
                    break
                } catch let error as DataplaneError {
                    #expect(error.code == ENOMEM)
                }
                failures += 1
                let names = try test.client.flow(.tcp, to: Self.vip, count: 5).names
                #expect(names == ["a"] || names == ["b"], "failure \(number): \(names)")
                let extra = try test.client.flow(.tcp, to: Self.external, timeoutMs: 2000)
                #expect(names == ["a"] ? extra.errors == [ENETUNREACH: 1] : extra.names == ["b"], "failure \(number)")
                #expect(try !test.dataplane.verify(quick: true).isEmpty)
                if number % 2 == 0 { try test.restart() } else { try update() }
                try test.applyAgain()
                #expect(try test.dataplane.verify(quick: false) == [], "failure \(number)")
                #expect(try test.client.flow(.tcp, to: Self.external).names == ["b"])
                #expect(try test.client.flow(.tcp, to: at("10.96.0.3:80")).names == ["b"])
                #expect(try test.client.flow(.tcp, to: at("10.96.0.2:80")).errors == [EHOSTUNREACH: 1])
            }
            #expect(failures > 8)
        }
    }

    // MARK: Full maps

    @Test func aFullMapRefusesWholeServicesAndKeepsTheRest() throws {
        try BPFTestNode.with {
            $0.sizes.frontends = 12
            $0.sizes.services = 4
            $0.sizes.backends = 64
        } _: { test in
            try test.applyAll([service(test, [test.a.endpoint()]).program])
            let wide = BPFService(
                name: "wide", frontends: (0..<12).map { Frontend(.externalIP, IPAddress(v4: 0xcb00_7100 + $0), 80) },
                cluster: [test.a.endpoint()])
            let refused = try test.update(wide.program).refused
            #expect(refused[wide.program.id]?.contains("frontends is full") == true)
            #expect(try test.client.flow(.tcp, to: at("203.0.113.0:80"), timeoutMs: 2000).errors == [ENETUNREACH: 1])

            let many = (0..<100).map { SocketAddress(IPAddress(v4: 0x0a09_0000 + UInt32($0)), 1) }
            let grown = service(test, many)
            #expect(try test.update(grown.program).refused[grown.program.id]?.contains("backends has no room") == true)
            // Its last version stays.
            #expect(try test.client.flow(.tcp, to: Self.vip).names == ["a"])
            #expect(try test.dataplane.verify(quick: false) == [])

            let small = (0..<4).map {
                BPFService(name: "s\($0)", frontends: [Frontend(.externalIP, IPAddress(v4: 0xcb00_7200 + $0), 80)])
            }
            var receipt = try test.applyAll([service(test, [test.a.endpoint()]).program] + small.map(\.program))
            #expect(receipt.refused.count == 1)
            #expect(receipt.refused.values.first?.contains("services is full") == true)
            // One goes: the refused one takes its place in the same plan.
            let left = small.map(\.program).filter { receipt.refused[$0.id] == nil }
            let waiting = try #require(receipt.refused.keys.first)
            receipt = try test.update(
                try #require(small.map(\.program).first { $0.id == waiting }), remove: [left[0].id])
            #expect(receipt.refused.isEmpty)
            #expect(try test.dataplane.verify(quick: false) == [])
        }
    }

    @Test func blocksAreFoundAgainWhenTheArrayIsNearlyFull() throws {
        try BPFTestNode.with {
            $0.sizes.backends = 32
        } _: { test in
            let many = (0..<14).map { SocketAddress(IPAddress(v4: 0x0a09_0000 + UInt32($0)), 1) }
            var service = service(test, many)
            try test.applyAll([service.program])
            for round in 0..<50 {
                service.cluster = Array(many.dropFirst(round % 2))
                #expect(try test.update(service.program).refused.isEmpty)
            }
        }
    }

    // MARK: Tampering

    /// `damage` must be noticed by a quick or full audit, and be put right by a full plan.
    private func expectRepair(
        _ test: BPFTestNode, quick: Bool, _ object: String, _ damage: () throws -> Void,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        #expect(try test.dataplane.verify(quick: false) == [], sourceLocation: sourceLocation)
        try damage()
        let drift = try test.dataplane.verify(quick: quick)
        #expect(drift.contains { $0.object == object }, "\(drift)", sourceLocation: sourceLocation)
        try test.applyAgain()
        #expect(try test.dataplane.verify(quick: false) == [], sourceLocation: sourceLocation)
        #expect(try test.client.flow(.tcp, to: Self.vip).names == ["a"], sourceLocation: sourceLocation)
    }

    @Test func tamperingIsSeenAndPutRight() throws {
        try BPFTestNode.with { test in
            test.nodeProgram.serviceCIDRs = [try #require(IPPrefix("10.96.0.0/16"))]
            try test.applyAll([service(test, [test.a.endpoint()]).program])
            let pins = test.options.bpffs
            let pinned = { (name: String) throws in
                try #require(try BPFDescriptor.pinned(at: "\(pins)/maps/\(name)"))
            }
            let frontends = try BPFMap<heddle_frontend_key, heddle_frontend>(pinned("frontends"), name: "frontends")
            let services = try BPFMap<UInt32, UInt64>(pinned("services"), name: "services")
            let backends = try BPFMap<UInt32, heddle_backend>(pinned("backends"), name: "backends")
            let names = try BPFMap<UInt32, heddle_service_name>(pinned("service_names"), name: "service_names")
            let nodes = try BPFMap<heddle_address, UInt32>(pinned("node_addresses"), name: "node_addresses")
            let config = try BPFMap<UInt32, heddle_config>(pinned("config"), name: "config")
            let entries = try frontends.entries()
            let entry = try #require(entries.first { $0.key.scope == 0 })
            let slot = entry.value.slot

            try expectRepair(test, quick: false, "map frontends") { try frontends.delete(entry.key) }
            try expectRepair(test, quick: false, "map frontends") {
                var wrong = entry.value
                wrong.slot += 1
                try frontends.update(entry.key, wrong)
            }
            try expectRepair(test, quick: false, "map frontends") {
                for other in entries where other.key.scope == 2 { try frontends.delete(other.key) }
            }
            try expectRepair(test, quick: false, "map frontends") {
                var key = entry.key
                key.port = 99
                try frontends.update(key, entry.value)
            }
            try expectRepair(test, quick: false, "map services") { try services.update(slot, 0) }
            try expectRepair(test, quick: false, "map services") { try services.update(200, 12345) }
            try expectRepair(test, quick: false, "map backends") {
                let word = try #require(try services.lookup(slot))
                let base = UInt32(truncatingIfNeeded: word)
                var backend = try #require(try backends.lookup(base + 1))
                backend.port = 1
                try backends.update(base + 1, backend)
            }
            try expectRepair(test, quick: false, "map service_names") {
                for name in try names.entries() { try names.delete(name.key) }
            }
            try expectRepair(test, quick: false, "map node_addresses") {
                for address in try nodes.entries() { try nodes.delete(address.key) }
            }
            try expectRepair(test, quick: true, "map config") { try config.update(0, heddle_config()) }
            try expectRepair(test, quick: true, "map backends") { unlink("\(pins)/maps/backends") }
            try expectRepair(test, quick: true, "link connect4") { unlink("\(pins)/links/connect4") }
            for (object, taken, by) in [
                ("map backends", "maps/backends", "maps/services"),
                ("link connect6", "links/connect6", "links/connect4"),
            ] {
                try expectRepair(test, quick: true, object) {
                    let other = try #require(try BPFDescriptor.pinned(at: "\(pins)/\(by)"))
                    unlink("\(pins)/\(taken)")
                    try other.pin(at: "\(pins)/\(taken)")
                }
            }
        }
    }

    /// Asking about eleven links costs more than an update of a service.
    @Test func aPlanThatChangesNoHookLeavesThemToTheAudit() throws {
        try BPFTestNode.with { test in
            try test.applyAll([service(test, [test.a.endpoint()]).program])
            let link = try #require(try BPFDescriptor.pinned(at: test.options.bpffs + "/links/connect4"))
            try BPFLink(link).detach()
            try test.update(service(test, [test.b.endpoint()]).program)
            #expect(try test.dataplane.verify(quick: true).map(\.object) == ["link connect4"])
            // Hooks of the proxy are needed now: all are looked at.
            test.nodeProgram.proxyListeners = [SocketAddress(test.node.host.v4, 15001)]
            try test.update()
            #expect(try test.dataplane.verify(quick: true) == [])
            #expect(try test.client.flow(.tcp, to: Self.vip).names == ["b"])
        }
    }

    @Test func aDetachedLinkIsAttachedAgain() throws {
        try BPFTestNode.with { test in
            try test.applyAll([service(test, [test.a.endpoint()]).program])
            try expectRepair(test, quick: true, "link connect4") {
                let link = try #require(try BPFDescriptor.pinned(at: test.options.bpffs + "/links/connect4"))
                try BPFLink(link).detach()
                #expect(try test.client.flow(.tcp, to: Self.vip, timeoutMs: 2000).errors == [ENETUNREACH: 1])
            }
            // What lies in our directory and is not ours to keep.
            let link = try #require(try BPFDescriptor.pinned(at: test.options.bpffs + "/links/connect4"))
            try link.pin(at: test.options.bpffs + "/links/connect5")
            try test.applyAgain()
            #expect(!directoryEntries(test.options.bpffs + "/links").contains("connect5"))
        }
    }

    @Test func anotherCgroupTakesTheLinksAlong() throws {
        try BPFTestNode.with { test in
            try test.applyAll([service(test, [test.a.endpoint()]).program])
            try test.restart { $0.cgroup = test.client.cgroup }
            try test.applyAgain()
            #expect(try test.dataplane.verify(quick: false) == [])
            #expect(try test.client.flow(.tcp, to: Self.vip).names == ["a"])
            #expect(try test.b.flow(.tcp, to: Self.vip, timeoutMs: 2000).errors == [ENETUNREACH: 1])
        }
    }
}
