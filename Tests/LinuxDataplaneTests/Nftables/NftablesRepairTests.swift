/// Failures, tampering, foreign tables, and what others can see: errors name the operation, the last good state stays,
/// every difference is found and repaired.
import Addressing
import DataplaneIR
import Glibc
import LinuxDataplane
import Netns
import Observation
import Reconcile
import Synchronization
import Testing
import TestSupport

@Suite(.requiresKernel(.netns, .nftables)) struct NftablesRepairTests {
    private func web(_ count: Int = 3, name: String = "web", _ number: Int = 1) throws -> TestService {
        TestService(
            name: name,
            frontends: [Frontend(.clusterIP, try address("10.96.0.\(number)"), 80), Frontend(.nodePort, nil, 30080)],
            cluster: (1...count).map { "10.1.0.\($0):8080 local" }, sharedLocal: 1, externalPolicy: .local)
    }

    @Test(arguments: [
        "nft delete table ip heddle", "nft delete table ip6 heddle", "nft flush chain ip heddle services",
        "nft flush set ip heddle cluster-ips", "nft flush table ip heddle",
        "nft delete element ip heddle service-ips '{ 10.96.0.1 . tcp . 80 }'",
        "nft delete element ip heddle endpoints '{ 10.96.0.1 . tcp . 80 . 1 }'",
        "nft add element ip heddle endpoints '{ 10.96.0.1 . tcp . 80 . 7 : 10.9.9.9 . 1 }'",
        "nft add element ip heddle cluster-ips '{ 10.96.0.77 }'", "nft insert rule ip heddle services drop",
        "nft add chain ip heddle mine", "nft add set ip heddle mine '{ type mark; }'",
        "nft add rule ip heddle nat-prerouting accept",
        "nft 'delete element ip heddle service-ips { 10.96.0.1 . tcp . 80 };"
            + " add element ip heddle service-ips { 10.96.0.1 . tcp . 80 : drop }'",
    ])
    func tamperingIsFoundAndRepaired(_ command: String) throws {
        try NetworkNamespace.anonymous().run {
            let dataplane = try NftablesDataplane()
            let feeder = PlanFeeder(dataplane)
            try feeder.apply([try web()], full: true)
            let before = try shell("nft list ruleset | grep -v generation")
            let monitor = try NftablesMonitor(ownPort: dataplane.portID)
            dataplane.monitor = monitor
            try shell(command)
            guard monitor.wait(milliseconds: 5000) else { throw TestFailure("the monitor saw nothing") }
            guard try !dataplane.verify(quick: false).isEmpty else { throw TestFailure("not noticed") }
            try feeder.apply([try web()], full: true)
            try dataplane.collectGarbage()
            let drift = try dataplane.verify(quick: false)
            guard drift.isEmpty else { throw TestFailure("not repaired: \(drift)") }
            let lines = { (text: String) in text.split(separator: "\n").sorted() }
            let after = try shell("nft list ruleset | grep -v generation")
            guard lines(after) == lines(before) else { throw TestFailure("differs: \(after)") }
            guard !monitor.wait(milliseconds: 0) else { throw TestFailure("the monitor reports our own commits") }
        }
    }

    /// An incremental plan that meets a tampered table fails, and the retry repairs everything by itself.
    @Test func aPlanThatMeetsTamperingRecoversOnRetry() throws {
        try NetworkNamespace.anonymous().run {
            let dataplane = try NftablesDataplane()
            let feeder = PlanFeeder(dataplane)
            try feeder.apply([try web()], full: true)
            try shell("nft delete table ip heddle")
            do {
                try feeder.apply([try web(4)])
                throw TestFailure("a plan for a table that is gone succeeded")
            } catch let error as DataplaneError {
                guard error.code == ENOENT, error.description.contains("ip heddle") else { throw error }
            }
            try feeder.apply([try web(4)])
            let drift = try dataplane.verify(quick: false)
            guard drift.isEmpty else { throw TestFailure("\(drift)") }
        }
    }

    @Test(arguments: ["add chain", "add to", "delete from", "delete chain", "commit"])
    func anyWriteMayFail(_ what: String) throws {
        let isFailing = Mutex(false)
        let faults = FaultInjector { operation in
            isFailing.withLock { $0 } && operation.hasPrefix(what) ? ENOMEM : nil
        }
        try withoutActuallyEscaping({ () throws -> Void in
            let dataplane = try NftablesDataplane(faults: faults)
            let feeder = PlanFeeder(dataplane)
            try feeder.apply([try web()], full: true)
            let entries = "nft list map ip heddle service-ips; nft list map ip heddle service-nodeports"
            let before = try shell(entries)
            isFailing.withLock { $0 = true }
            do {
                try feeder.apply([try web(2)])
                try dataplane.collectGarbage()
                throw TestFailure("nothing failed")
            } catch let error as DataplaneError {
                guard error.code == ENOMEM, error.operation.hasPrefix(what) else { throw error }
            }
            // Only the collection of garbage comes after the switch.
            guard try shell(entries) == before || what == "delete chain" else {
                throw TestFailure("half of the plan is in force")
            }
            isFailing.withLock { $0 = false }
            try feeder.apply([try web(2)])
            try dataplane.collectGarbage()
            let drift = try dataplane.verify(quick: false)
            guard drift.isEmpty else { throw TestFailure("\(drift)") }
        }) { body in try NetworkNamespace.anonymous().run { try body() } }
    }

    @Test func aForeignTableIsLeftAlone() throws {
        try NetworkNamespace.anonymous().run {
            try shell("nft add table ip heddle '{ comment \"somebody else\"; }'")
            let dataplane = try NftablesDataplane()
            do {
                try PlanFeeder(dataplane).apply([try web()], full: true)
                throw TestFailure("a foreign table was taken over")
            } catch let error as DataplaneError {
                guard error.description.contains("somebody else"),
                    error.description.contains("nft delete table ip heddle")
                else { throw error }
            }
            try NftablesCleanup.run()
            guard try shell("nft list tables").contains("ip heddle") else { throw TestFailure("it is gone") }
        }
    }

    @Test func aTableOfAnotherSchemaIsReplaced() throws {
        try NetworkNamespace.anonymous().run {
            try shell("nft add table ip heddle '{ comment \"heddle schema=0 node=n1\"; }'")
            try shell("nft add map ip heddle endpoints '{ type mark : mark; }'")
            let dataplane = try NftablesDataplane()
            try PlanFeeder(dataplane).apply([try web()], full: true)
            let drift = try dataplane.verify(quick: false)
            guard drift.isEmpty else { throw TestFailure("\(drift)") }
        }
    }

    @Test func theKernelTellsTheServicesWithoutAnAgent() throws {
        let dump = try NetworkNamespace.anonymous().run {
            guard try NftablesDump.read() == nil else { throw TestFailure("a dump of nothing") }
            let feeder = PlanFeeder(try NftablesDataplane())
            var sticky = try web(2, name: "sticky", 2)
            (sticky.frontends, sticky.affinity) = ([Frontend(.clusterIP, try address("10.96.0.2"), 80)], 600)
            sticky.cluster = ["10.1.0.1:80 local", "10.1.0.2:80 terminating"]
            var empty = sticky
            (empty.name, empty.cluster, empty.sharedLocal, empty.affinity) = ("empty", [], 0, nil)
            empty.frontends = [Frontend(.clusterIP, try address("10.96.0.3"), 80)]
            try feeder.apply([try web(4), sticky, empty], full: true)
            // A slot that is garbage already is not shown.
            try feeder.apply([try web(3)])
            return try NftablesDump.read()
        }
        let read = try #require(dump)
        #expect(read.node == "n1" && read.generation == 2 && read.dataplane == "nftables")
        #expect(
            read.frontends.map(\.service) == [
                "default/empty:http", "default/sticky:http", "default/web:http", "default/web:http",
            ])
        #expect(read.frontends.map(\.action) == ["reject", "balance", "balance", "balance"])
        #expect(read.frontends.map(\.address) == ["10.96.0.3", "10.96.0.2", "10.96.0.1", "*"])
        #expect(read.frontends.map(\.backends.count) == [0, 2, 3, 3])
        #expect(read.frontends.map(\.policy) == ["Cluster", "Cluster", "Cluster", "Local"])
        #expect(read.frontends[1].affinitySeconds == 600)
        #expect(read.frontends[1].backends.map(\.state) == ["active", "terminating"])
        #expect(read.frontends[1].backends.map(\.local) == [true, false])
        #expect(read.maps.first { $0.name == "ip heddle service-ips" }?.entries == 2)
    }

    @Test func probeSaysWhatWorks() throws {
        let results = try NetworkNamespace.anonymous().run {
            let results = NftablesProbe.run()
            guard try shell("nft list ruleset").isEmpty else { throw TestFailure("the probe left something") }
            return results
        }
        #expect(results.count == 3 && results.allSatisfy { $0.ok }, "\(results)")
    }

    @Test func onlyWhatTheCompanionIsForIsCarried() throws {
        let listing = try NetworkNamespace.anonymous().run {
            let dataplane = try NftablesDataplane(options: NftablesOptions(companion: .external))
            let feeder = PlanFeeder(dataplane)
            try feeder.apply([try web()], full: true)
            guard try dataplane.verify(quick: false).isEmpty else { throw TestFailure("drift") }
            return try shell("nft list table ip heddle")
        }
        #expect(listing.contains("NodePort") && !listing.contains("ClusterIP"))
    }
}
