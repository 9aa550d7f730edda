/// What the dataplane leaves in a real kernel: readable, minimal, adopted after a restart, repaired after tampering.
import Addressing
import DataplaneIR
import Glibc
import LinuxDataplane
import Netns
import Reconcile
import Testing
import TestSupport

@Suite(.requiresKernel(.netns, .nftables)) struct NftablesDataplaneTests {
    private func everyKind() throws -> [TestService] {
        let all = ["10.1.0.1:8080 local", "10.1.0.2:8080", "10.1.0.3:8080 local terminating"]
        let vip = try address("192.0.2.10")
        return [
            TestService(
                frontends: [
                    Frontend(.clusterIP, try address("10.96.0.1"), 80), Frontend(.nodePort, nil, 30080),
                    Frontend(
                        .loadBalancer, vip, 80, sourceRanges: [try prefix("10.0.0.0/8"), try prefix("10.1.0.0/16")]),
                ], cluster: all, sharedLocal: 1),
            TestService(
                name: "local",
                frontends: [
                    Frontend(.clusterIP, try address("10.96.0.2"), 80), Frontend(.nodePort, nil, 30081),
                    Frontend(.externalIP, vip, 81),
                ], cluster: all, sharedLocal: 2, internalPolicy: .local, externalPolicy: .local),
            TestService(
                name: "sticky",
                frontends: [Frontend(.clusterIP, try address("10.96.0.3"), 80), Frontend(.nodePort, nil, 30082)],
                cluster: all, affinity: 10800),
            TestService(name: "empty", frontends: [Frontend(.clusterIP, try address("10.96.0.4"), 80)]),
            TestService(
                name: "elsewhere",
                frontends: [Frontend(.clusterIP, try address("10.96.0.5"), 80), Frontend(.externalIP, vip, 82)],
                cluster: all, internalPolicy: .local, externalPolicy: .local),
            TestService(
                name: "six", transport: .udp, family: .ipv6,
                frontends: [Frontend(.clusterIP, try address("fd00::1"), 53), Frontend(.nodePort, nil, 30083)],
                cluster: ["[fd01::1]:53", "[fd01::2]:53 local"], sharedLocal: 1, affinity: 60),
        ]
    }
    private func node(_ detector: LocalDetector = .none) throws -> NodeProgram {
        var node = NodeProgram(nodeName: "n1")
        node.nodePortAddresses = [try address("192.168.0.2"), try address("2001:db8::2")]
        node.localAddresses = node.nodePortAddresses.union([try address("10.0.0.2")])
        node.serviceCIDRs = [try prefix("10.96.0.0/16"), try prefix("10.97.0.0/16"), try prefix("fd00::/112")]
        node.detector = detector
        return node
    }

    @Test(arguments: ["none", "cidr", "bridge", "prefix"])
    func listingIsReadableAndReadsBack(_ mode: String) throws {
        let detector: LocalDetector =
            switch mode {
            case "cidr": .cidrs([try prefix("10.1.0.0/17"), try prefix("fd01::/65")])
            case "bridge": .bridge("cni0")
            case "prefix": .interfacePrefix("veth")
            default: .none
            }
        try NetworkNamespace.anonymous().run {
            let feeder = PlanFeeder(try NftablesDataplane(), node: try node(detector))
            try feeder.apply(try everyKind(), full: true)
            for family in ["ip", "ip6"] {
                let listing = try shell("nft list table \(family) heddle")
                if family == "ip" {
                    #expect(listing.contains("comment \"default/web:http ClusterIP Cluster\" : goto cluster-ip-lb-3"))
                    #expect(listing.contains("numgen random mod 3 map @endpoints"))
                }
                try shell("nft list table \(family) heddle > /tmp/hd-\(getpid())-\(mode).nft")
                defer { unlink("/tmp/hd-\(getpid())-\(mode).nft") }
                try shell("nft delete table \(family) heddle")
                try shell("nft -f /tmp/hd-\(getpid())-\(mode).nft")
                #expect(try shell("nft list table \(family) heddle") == listing)
            }
        }
    }

    @Test func whatIsWrittenVerifiesAndIsWrittenOnce() throws {
        try NetworkNamespace.anonymous().run {
            let dataplane = try NftablesDataplane()
            let feeder = PlanFeeder(dataplane, node: try node())
            #expect(try feeder.apply(try everyKind(), full: true).operations > 0)
            #expect(try dataplane.verify(quick: false) == [])
            #expect(try feeder.apply(try everyKind(), full: true).operations == 0)
            #expect(try feeder.apply(try everyKind()).operations == 0)
            #expect(try dataplane.verify(quick: true) == [])
        }
    }

    @Test func anotherAgentAdoptsTheTable() throws {
        try NetworkNamespace.anonymous().run {
            let feeder = PlanFeeder(try NftablesDataplane(), node: try node())
            try feeder.apply(try everyKind(), full: true)
            let before = try shell("nft -a list ruleset")
            let second = PlanFeeder(try NftablesDataplane(), node: try node())
            #expect(try second.apply(try everyKind(), full: true).operations == 0)
            #expect(try shell("nft -a list ruleset") == before)
            #expect(try second.dataplane.verify(quick: false) == [])
            // One that no longer has any of the services leaves nothing of them.
            let third = PlanFeeder(try NftablesDataplane(), node: try node())
            try third.apply([], full: true)
            try third.dataplane.collectGarbage()
            #expect(try third.dataplane.verify(quick: false) == [])
            let listing = try shell("nft list ruleset")
            #expect(!listing.contains("default/") && !listing.contains("lb-3") && !listing.contains("affinity-"))
        }
    }

    @Test func everyDeletionLeavesNothingBehind() throws {
        try NetworkNamespace.anonymous().run {
            let dataplane = try NftablesDataplane()
            let feeder = PlanFeeder(dataplane, node: try node())
            try feeder.apply([], full: true)
            let empty = try shell("nft list ruleset | grep -v generation")
            let services = try everyKind()
            try feeder.apply(services)
            #expect(try dataplane.verify(quick: false) == [])
            try feeder.apply([], removing: services.map(\.id))
            #expect(try dataplane.verify(quick: false) == [])
            try dataplane.collectGarbage()
            #expect(try dataplane.verify(quick: false) == [])
            #expect(try shell("nft list ruleset | grep -v generation") == empty)
            #expect(try NftablesCleanup.run() == ["table ip heddle", "table ip6 heddle"])
            #expect(try shell("nft list ruleset") == "")
        }
    }
}
