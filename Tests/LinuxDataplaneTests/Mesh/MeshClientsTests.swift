// The map that says whose connections become tunnels.
import Addressing
import BPF
import CDataplaneABI
import LinuxDataplane
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct MeshClientsTests {
    @Test func theMapHoldsJustTheseClients() throws {
        #expect(try !MeshClients(bpffs: "/sys/fs/bpf/heddle-none").set([7: []]), "there is no map yet")
        try BPFTestNode.with { test in
            let clients = MeshClients(bpffs: test.node.bpffs)
            #expect(try clients.set([7: [test.a.v4, test.a.v6], 8: [test.b.v6]]))
            guard let pinned = try BPFDescriptor.pinned(at: test.node.bpffs + "/maps/mesh_clients") else {
                Issue.record("the map is not pinned")
                return
            }
            let map = try BPFMap<UInt64, heddle_mesh_client>(pinned, name: "mesh_clients")
            let first = try map.lookup(7)
            #expect(first?.address.0.low == test.a.v4.low.bigEndian && first?.address.1.low == test.a.v6.low.bigEndian)
            #expect(try map.lookup(8)?.address.0.low == 0)
            #expect(try clients.set([8: [test.b.v6]]))
            #expect(try map.entries().map(\.key) == [8])
        }
    }
}
