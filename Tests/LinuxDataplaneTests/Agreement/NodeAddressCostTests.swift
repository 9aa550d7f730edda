/// Node ports and load balancers cost the same however many addresses the node has: they are entries without an
/// address, beside one list of addresses.
import Addressing
import Cluster
import DataplaneIR
import Observation
import Reconcile
import Testing
import TestSupport

@Suite(.serialized, .requiresKernel(.root, .netns, .cgroup2, .bpf))
struct NodeAddressCostTests {
    private static let services: UInt32 = 40

    private struct Cost: Equatable {
        /// Kernel entries written for all services at once, without the addresses themselves.
        var start = 0
        /// For another endpoint of one service.
        var edit = 0
        /// Entries by map, without the maps of addresses.
        var entries: [String: Int] = [:]
    }

    @Test(arguments: DataplaneKind.allCases)
    func entriesAndWritesDoNotMultiplyWithNodeAddresses(_ kind: DataplaneKind) throws {
        let one = try cost(kind, addresses: 1)
        #expect(one.start > 3 * Int(Self.services) && one.edit > 0 && !one.entries.isEmpty, "\(one)")
        #expect(try cost(kind, addresses: 200) == one)
    }

    private func cost(_ kind: DataplaneKind, addresses: UInt32) throws -> Cost {
        try Lab.with { lab in
            let node = try NodeUnderTest(kind, lab: lab)
            let local = Set((0..<addresses).map { IPAddress(v4: 0xc0a8_6401 + $0) })
            node.nodeProgram.nodePortAddresses = local
            node.nodeProgram.localAddresses = local
            var cost = Cost()
            let changes = (0..<Self.services).flatMap { [Self.service($0), Self.slice($0, endpoints: 3)] }
            // One list of the addresses in each dataplane, the companion's included.
            let lists = node.dataplanes.count * Int(addresses)
            cost.start = try node.apply(changes).map(\.operations).reduce(0, +) - lists
            cost.edit = try node.apply([Self.slice(0, endpoints: 4)]).map(\.operations).reduce(0, +)
            for usage in try node.dataplanes.flatMap({ try $0.capacity() })
            where !usage.name.contains("nodeport-ips") && usage.name != "node_addresses" {
                cost.entries[usage.name] = usage.entries
            }
            return cost
        }
    }

    private static func service(_ number: UInt32) -> Change {
        var service = Service(name: ObjectName("ns", "svc-\(number)"))
        service.type = .loadBalancer
        service.clusterIPs = [IPAddress(v4: 0x0a60_0001 + number)]
        service.ingress = [Service.Ingress(IPAddress(v4: 0x0a60_0401 + number))]
        service.ports = [Service.Port(name: "p", transport: .tcp, port: 80)]
        service.ports[0].nodePort = 30000 + UInt16(number)
        return .upsert(.service(service))
    }
    private static func slice(_ number: UInt32, endpoints: UInt32) -> Change {
        var slice = EndpointSlice(
            name: ObjectName("ns", "svc-\(number)-1"), serviceName: "svc-\(number)", addressType: .ipv4)
        slice.ports = [.init(name: "p", transport: .tcp, port: 8080)]
        slice.endpoints = (1...endpoints).map { .init(IPAddress(v4: 0x0af4_0100 + $0)) }
        return .upsert(.endpointSlice(slice))
    }
}
