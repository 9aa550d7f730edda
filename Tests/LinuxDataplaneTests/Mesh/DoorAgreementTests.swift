// Who gets a connection to a pod of the mesh, by its modes, its ports and who comes: both dataplanes do what MeshDoor
// says, by real connections.
import Addressing
import DataplaneIR
import LinuxDataplane
import Netns
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf, .nftables)) struct DoorAgreementTests {
    typealias Variant = SteeringFixture.Variant
    private static let ports: [UInt16] = [8080, 8081, MeshProgram.tunnelPort]

    @Test(arguments: Variant.allCases) func whoComesIsMetAsTheModesSay(_ variant: Variant) throws {
        var random = SeededGenerator()
        try SteeringFixture.with(variant) { test in
            // As a second interface's, or a link-local one: Kubernetes does not know of it.
            let unknown = IPAddress(v4: 0x0af4_01c8)
            try test.server.run(["ip", "address", "add", "\(unknown)/32", "dev", "eth0"])
            for port in Self.ports { try test.server.listen(.tcp, SocketAddress(unknown, port)) }
            try test.server.listen(.tcp, MeshProgram.tunnelPort)
            let outside = try test.lab.addExternalClient()
            let programs =
                MeshPodProgram.Mode.allCases.map { ($0, [:], []) }
                + [(.permissive, [8080: .strict], [8081]), (.strict, [8081: .permissive], [8080])]
                + (0..<6).map { _ in Self.program(&random) }
            for (index, (mode, modes, probes)) in programs.enumerated() {
                try index == 0 ? test.attach(mode, modes, probes: probes) : test.change(mode, modes, probes: probes)
                let door = MeshDoor(test.pod.addresses)
                // eBPF tells probes by their sockets, see OwnSocketsTests.
                let node: MeshDoor.Visitor = variant == .ebpf ? .anybody : .probe
                let visitors = [
                    (test.server, .itself), (test.node.host, node), (test.client, .anybody), (outside, .anybody),
                ]
                for (from, visitor) in visitors {
                    for address in [test.server.v4, test.server.v6, unknown] {
                        for port in Self.ports {
                            let destination = SocketAddress(address, port)
                            let expected = Self.names[door.verdict(for: visitor, to: destination)]
                            let found = try test.answer(from, destination)
                            #expect(
                                found == expected,
                                "\(from.name) to \(destination), \(mode), \(modes), probes at \(probes)")
                        }
                    }
                }
            }
        }
    }

    private static let names: [MeshDoor.Verdict: String] = [
        .tunnel: "tunnel", .application: "server", .refused: "refused",
    ]

    private static func program(
        _ random: inout SeededGenerator
    ) -> (MeshPodProgram.Mode, [UInt16: MeshPodProgram.Mode], Set<UInt16>) {
        let modes = MeshPodProgram.Mode.allCases
        var (ports, probes): ([UInt16: MeshPodProgram.Mode], Set<UInt16>) = ([:], [])
        for port: UInt16 in [8080, 8081, 9000] {
            if random.oneIn(2) { ports[port] = modes.randomElement(using: &random) }
            if random.oneIn(2) { probes.insert(port) }
        }
        return (modes.randomElement(using: &random) ?? .strict, ports, probes)
    }
}
