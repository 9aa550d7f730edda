/// The clients against a real kernel, each test in a network namespace of its own.
import Addressing
import Glibc
import Netlink
import Netns
import TestSupport
import Testing

private let refusal: String? = {
    do {
        _ = try NetworkNamespace.anonymous()
        return nil
    } catch { return "\(error)" }
}()
private let required = getenv("HEDDLE_REQUIRE_KERNEL_TESTS") != nil

@Suite(.enabled(if: refusal == nil || required, "no network namespaces here"))
struct KernelClientTests {
    @Test func listsAddressesAndHearsOfNewOnes() throws {
        try NetworkNamespace.anonymous().run {
            let client = try AddressClient()
            let loopback = try #require(IPAddress("127.0.0.1"))
            #expect(try client.addresses().contains { $0.address == loopback && $0.prefixLength == 8 })
            while try client.waitForChange(milliseconds: 0) {}
            try addLoopbackAddress(10, 9, 8, 7)
            #expect(try client.waitForChange(milliseconds: 5_000))
            let added = try #require(IPAddress("10.9.8.7"))
            #expect(try client.addresses().contains { $0.address == added && $0.interfaceIndex == 1 })
        }
    }

    @Test func knowsWhichInterfaceLeadsTo() throws {
        try NetworkNamespace.anonymous().run {
            try run(["ip", "link", "add", "blue", "type", "veth", "peer", "name", "red"])
            for link in ["blue", "red"] { try run(["ip", "link", "set", link, "up"]) }
            for (network, address) in [("10.9.0.0/16", "10.9.8.7"), ("fd00:9::/32", "fd00:9::7")] {
                let address = try #require(IPAddress(address))
                #expect(try RouteQuery.interface(to: address) == nil)
                try run(["ip", "route", "add", network, "dev", "blue"])
                #expect(try RouteQuery.interface(to: address) == "blue")
            }
            #expect(try RouteQuery.interface(to: IPAddress(v4: 0x7f00_0001)) == "lo")
        }
    }

    @Test func errorsNameTheOperation() throws {
        try NetworkNamespace.anonymous().run {
            let socket = try NetlinkSocket(.route)
            // RTM_NEWADDR for an interface that does not exist.
            let error = #expect(throws: NetlinkError.self) {
                try socket.request(type: 20, operation: "add address to interface 999") { request in
                    request.append(UInt32(2 | 32 << 8))
                    request.append(UInt32(999))
                    request.put(2, address: IPAddress(v4: 0x0a00_0001))
                }
            }
            #expect(error?.operation == "add address to interface 999")
            #expect(error?.code == ENODEV)
        }
    }

    @Test func listsAndDeletesConntrackEntries() throws {
        try NetworkNamespace.anonymous().run {
            let client = try ConntrackClient()
            for family in AddressFamily.allCases { #expect(try client.entries(family, .udp) == []) }
            let address = try #require(IPAddress("127.0.0.1"))
            let entry = ConntrackEntry(
                original: FlowTuple(
                    source: SocketAddress(address, 5), destination: SocketAddress(address, 53), transport: .udp),
                reply: FlowTuple(
                    source: SocketAddress(address, 53), destination: SocketAddress(address, 5), transport: .udp), id: 1)
            #expect(try client.delete(entry) == false)
        }
    }

    /// What was sent elsewhere is not even handed over by the kernel: a node may track a million flows.
    @Test func conntrackEntriesAreListedByDestination() throws {
        try NetworkNamespace.anonymous().run {
            try run(["ip", "link", "set", "lo", "up"])
            try run(["nft", "table inet t { chain c { type filter hook output priority 0; ct state new; }; }"])
            for family in AddressFamily.allCases {
                let loopback = family == .ipv4 ? IPAddress(v4: 0x7f00_0001) : IPAddress(high: 0, low: 1)
                for port in [UInt16(5301), 5302] { try sendDatagram(to: SocketAddress(loopback, port)) }
                let client = try ConntrackClient()
                var handedOver = 0
                func ports(_ address: IPAddress?, _ port: UInt16) throws -> [UInt16] {
                    try client.entries(family, .udp, to: .init(address, port)) { _ in
                        handedOver += 1
                        return true
                    }.map(\.original.destination.port)
                }
                #expect(try client.entries(family, .udp).count == 2)
                #expect(try ports(loopback, 5301) == [5301])
                #expect(try ports(nil, 5302) == [5302])
                #expect(
                    try ports(family == .ipv4 ? IPAddress(v4: 0x7f00_0002) : IPAddress(high: 0, low: 2), 5301) == [])
                #expect(handedOver == 2)
            }
        }
    }

    private func sendDatagram(to destination: SocketAddress) throws {
        let program = """
            import socket, sys
            family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
            socket.socket(family, socket.SOCK_DGRAM).sendto(b"x", (sys.argv[1], int(sys.argv[2])))
            """
        try run(["python3", "-c", program, "\(destination.address)", "\(destination.port)"])
    }

    private func addLoopbackAddress(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) throws {
        let socket = try NetlinkSocket(.route)
        try socket.request(type: 20, flags: 0x400, operation: "add address") { request in
            request.append(UInt32(2 | 32 << 8))
            request.append(UInt32(1))
            request.put(2, bytes: [a, b, c, d])
        }
    }
}
