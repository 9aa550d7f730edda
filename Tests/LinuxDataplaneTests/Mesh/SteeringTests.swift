// Who gets a connection to a pod of the mesh, by real connections, under both dataplanes.
import Addressing
import DataplaneIR
import Glibc
import LinuxDataplane
import Netns
import Reconcile
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf, .nftables)) struct SteeringTests {
    typealias Variant = SteeringFixture.Variant

    @Test(arguments: Variant.allCases) func tunnelsComeInWhateverListensThere(_ variant: Variant) throws {
        try SteeringFixture.with(variant) { test in
            try test.server.listen(.tcp, 15008, name: "application")
            for family in AddressFamily.allCases {
                #expect(try test.answer(test.client, 15008, family) == "application")
            }
            try test.attach(.permissive)
            let outside = try test.lab.addExternalClient()
            for from in [test.client, test.node.host, outside] {
                for family in AddressFamily.allCases {
                    #expect(try test.answer(from, 15008, family) == "tunnel", "\(from.name) \(family)")
                    #expect(try test.answer(from, 8080, family) == "server", "\(from.name) \(family)")
                }
            }
            // The pod itself may ask its own application.
            #expect(try test.answer(test.server, 15008, .ipv4) == "application")
            #expect(try test.run { $0.drift(of: test.pod) }.isEmpty)
        }
    }

    @Test(arguments: Variant.allCases) func strictRefusesWhatIsNotTunnelled(_ variant: Variant) throws {
        try SteeringFixture.with(variant) { test in
            try test.attach(.strict)
            let outside = try test.lab.addExternalClient()
            for from in [test.client, test.node.host, outside] {
                for family in AddressFamily.allCases {
                    #expect(try test.answer(from, 8080, family) == "refused", "\(from.name) \(family)")
                    #expect(try test.answer(from, 15008, family) == "tunnel", "\(from.name) \(family)")
                }
            }
            for family in AddressFamily.allCases {
                #expect(try test.answer(test.server, 8080, family) == "server", "the pod to itself, \(family)")
            }
            try test.server.listen(.tcp, SocketAddress(IPAddress(v4: 0x7f00_0001), 9000), name: "inner")
            #expect(try test.answer(test.server, SocketAddress(IPAddress(v4: 0x7f00_0001), 9000)) == "inner")
        }
    }

    @Test(arguments: Variant.allCases) func modesChangeAndConnectionsGoOn(_ variant: Variant) throws {
        try SteeringFixture.with(variant) { test in
            try test.attach(.permissive)
            let open = try test.client.open(.tcp, to: SocketAddress(test.server.v4, 8080))
            #expect(open.opening.hits == ["server": 1])
            try test.change(.strict)
            #expect(try test.answer(test.client, 8080, .ipv4) == "refused")
            #expect(try open.ask().hits == ["server": 1])
            try test.change(.disable)
            #expect(try test.answer(test.client, 8080, .ipv4) == "server")
            #expect(try test.answer(test.client, 15008, .ipv4) == "tunnel")
            try test.change(.strict)
            try test.run { try $0.release(test.pod, keepingConnections: true) }
            #expect(try test.answer(test.client, 8080, .ipv4) == "server")
            #expect(try test.answer(test.client, 15008, .ipv4) == "refused")
            #expect(try open.ask().hits == ["server": 1])
            try open.close()
        }
    }

    /// Also where the first rules of the pod come with connection tracking that knows of nothing yet.
    @Test(arguments: Variant.allCases) func connectionsFromBeforeGoOn(_ variant: Variant) throws {
        try SteeringFixture.with(variant) { test in
            let open = try test.client.open(.tcp, to: SocketAddress(test.server.v4, 8080))
            #expect(open.opening.hits == ["server": 1])
            try test.attach(.strict, [8080: .strict])
            #expect(try test.answer(test.client, 8080, .ipv4) == "refused")
            #expect(try open.ask().hits == ["server": 1])
            try open.close()
        }
    }

    @Test(arguments: Variant.allCases) func portsMayHaveTheirOwnMode(_ variant: Variant) throws {
        try SteeringFixture.with(variant) { test in
            try test.attach(.strict, [8081: .permissive])
            #expect(try test.answer(test.client, 8080, .ipv4) == "refused")
            #expect(try test.answer(test.client, 8081, .ipv6) == "server")
            try test.change(.permissive, [8080: .strict])
            #expect(try test.answer(test.client, 8080, .ipv6) == "refused")
            #expect(try test.answer(test.client, 8081, .ipv4) == "server")
            try test.change(.permissive)
            #expect(try test.answer(test.client, 8080, .ipv6) == "server")
        }
    }

    /// As link-local addresses and second interfaces are.
    @Test(arguments: Variant.allCases) func anAddressNobodyToldOfIsNoWayRoundStrict(_ variant: Variant) throws {
        try SteeringFixture.with(variant) { test in
            let other = SocketAddress(IPAddress(v4: 0x0af4_01c8), 8080)
            try test.server.run(["ip", "address", "add", "\(other.address)/32", "dev", "eth0"])
            try test.server.listen(.tcp, other)
            try test.attach(.permissive)
            #expect(try test.answer(test.client, other) == "server")
            try test.change(.strict)
            #expect(try test.answer(test.client, other) == "refused")
            #expect(try test.answer(test.server, other) == "server")
        }
    }

    @Test(arguments: Variant.allCases) func withoutAProxyAndAnAgentTunnelsAreRefused(_ variant: Variant) throws {
        try SteeringFixture.with(variant) { test in
            try test.server.listen(.tcp, 15008, name: "application")
            try test.attach(.strict)
            test.closeEnds()
            try eventually("the listener's end") { try test.answer(test.client, 15008, .ipv4) == "refused" }
            #expect(try test.answer(test.client, 8080, .ipv4) == "refused")
        }
    }

    @Test(arguments: Variant.allCases) func theNextAgentGoesOn(_ variant: Variant) throws {
        try SteeringFixture.with(variant) { test in
            try test.attach(.strict)
            try test.restart()
            #expect(try test.answer(test.client, 8080, .ipv4) == "refused")
            #expect(try test.answer(test.client, 15008, .ipv4) == "tunnel")
            try test.attach(.permissive)
            #expect(try test.answer(test.client, 8080, .ipv4) == "server")
            #expect(try test.answer(test.client, 15008, .ipv4) == "tunnel")
            #expect(try test.run { $0.drift(of: test.pod) + $0.strangers(beside: test.pod) }.isEmpty)
            try test.restart()
            try test.run { try $0.releaseOthers(than: []) }
            #expect(try test.answer(test.client, 15008, .ipv4) == "refused")
        }
    }

    /// The program's answer must be the same for the SYN and for the ACK that proves it.
    @Test(arguments: Variant.allCases) func cookiesChangeNothing(_ variant: Variant) throws {
        try SteeringFixture.with(variant) { test in
            try test.server.run(["sh", "-c", "echo 2 > /proc/sys/net/ipv4/tcp_syncookies"])
            try test.attach(.strict, [8081: .permissive])
            for family in AddressFamily.allCases {
                #expect(try test.answer(test.client, 15008, family) == "tunnel")
                #expect(try test.answer(test.client, 8080, family) == "refused")
                #expect(try test.answer(test.client, 8081, family) == "server")
            }
        }
    }

    /// Nothing of ours may keep it: not the link, and not the table.
    @Test func aPodsNamespaceEndsWithIt() throws {
        try SteeringFixture.with(.ebpf) { test in
            try test.attach(.strict)
            let inode = test.pod.namespace.id.inode
            #expect(access("\(test.node.bpffs)/mesh/links/ns_\(inode)", F_OK) == 0)
            try test.run { try $0.release(test.pod, keepingConnections: false) }
            #expect(access("\(test.node.bpffs)/mesh/links/ns_\(inode)", F_OK) != 0)
        }
    }

    @Test func aProgramOfSomebodyElseIsReported() throws {
        try SteeringFixture.with(.ebpf) { test in
            try test.attach(.strict)
            #expect(try test.run { $0.strangers(beside: test.pod) }.isEmpty)
            let elsewhere = test.node.bpffs + "-other"
            defer { _ = try? BPFSteering.remove(bpffs: elsewhere) }
            let stranger = try BPFSteering(bpffs: elsewhere)
            for listener in try stranger.attach(test.pod).values { close(listener) }
            let found = try test.run { $0.strangers(beside: test.pod) }
            #expect(found.count == 1 && found[0].detail.contains("somebody else"))
            try stranger.release(test.pod, keepingConnections: false)
        }
    }

    /// A container with CAP_NET_ADMIN can do that.
    @Test func aTableThatWasFlushedIsDrift() throws {
        try SteeringFixture.with(.nftables) { test in
            try test.attach(.strict)
            try test.server.run(["nft", "flush", "ruleset"])
            #expect(try test.run { $0.drift(of: test.pod) }.count == 1)
            try test.attach(.strict)
            #expect(try test.run { $0.drift(of: test.pod) }.isEmpty)
            #expect(try test.answer(test.client, 8080, .ipv4) == "refused")
        }
    }
}
