/// Two nodes with the real agents and proxies: what enrolled pods say to each other passes through tunnels, whatever
/// they dial, and nobody on the link can read it.
import Addressing
import Glibc
import Netns
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct MeshTests {
    @Test(arguments: DataplaneKind.allCases) func enrolledPodsSpeakThroughTunnels(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let mesh = try LabMesh(lab, dataplane)
            let wire = try PacketCapture(of: "eth0", in: try mesh.nodes[1].namespace())
            let direct = { (family: AddressFamily) in far(mesh, family) }
            let kubelet = try LabKubelet(on: mesh.nodes[1], probing: direct(.ipv4))

            // In the clear everybody reads along, and a connection of that time goes on.
            let old = try mesh.client.open(.tcp, to: direct(.ipv4))
            #expect(old.opening.names == ["far-answers"] && wire.count(of: "far-answers") > 0)

            let enrolled = [mesh.client, mesh.near, mesh.far]
            try mesh.enrol(enrolled)
            try mesh.waitUntilEnrolled(enrolled)
            // An agent knows of a pod before the kernel does.
            for family in AddressFamily.allCases {
                try eventually("the first tunnel over \(family)") {
                    wire.forget()
                    let first = try mesh.client.flow(.tcp, to: direct(family))
                    return first.answered == 1 && wire.count(of: "far-answers") == 0
                }
            }
            wire.forget()
            for family in AddressFamily.allCases {
                let one = try mesh.client.flow(.tcp, to: direct(family), count: 5)
                #expect(one.hits == ["far-answers": 5] && Set(one.peers.keys) == [direct(family)], "\(family): \(one)")
                // Under nftables an application sees its own pod (docs/mesh.md).
                let client = dataplane == .ebpf ? mesh.client.address(family) : mesh.far.address(family)
                #expect(Set(one.clients.keys) == [client], "\(family): \(one)")
                let web = mesh.service.address(family)
                let all = try mesh.client.flow(.tcp, to: web, count: 40)
                #expect(all.answered == 40 && all.names == ["far-answers", "near-answers"], "\(family): \(all)")
                #expect(Set(all.peers.keys) == [web], "\(family): \(all)")
                let itself = try mesh.near.flow(.tcp, to: web, count: 20)
                #expect(itself.hits.count == 2 && itself.failed == 0, "a pod that may reach itself: \(itself)")
            }
            #expect(wire.count(of: "far-answers") == 0, "somebody on the link can read it")
            #expect(try old.ask().names == ["far-answers"], "a connection from before was cut off")

            // Whoever is not enrolled goes on as before, as long as that is allowed.
            let plain = try mesh.outsider.flow(.tcp, to: direct(.ipv4), count: 3)
            #expect(plain.hits == ["far-answers": 3], "\(plain)")
            try mesh.manifests.write(
                "strict",
                """
                apiVersion: security.istio.io/v1
                kind: PeerAuthentication
                metadata: {name: default, namespace: default}
                spec: {mtls: {mode: STRICT}}
                """)
            for target in [direct(.ipv4), direct(.ipv6), SocketAddress(mesh.near.v4, TestService.targetPort)] {
                try eventually("\(target) refuses the outsider") {
                    Set(try mesh.outsider.flow(.tcp, to: target).errors.keys) == [ECONNREFUSED]
                }
                let inside = try mesh.client.flow(.tcp, to: target, count: 5)
                #expect(inside.answered == 5 && inside.failed == 0, "\(target): \(inside)")
            }

            try onlyKubeletProbes(mesh, kubelet, dataplane)
            try restartAgents(mesh, wire)
            try onlyKubeletProbes(mesh, kubelet, dataplane)

            try leave(mesh, enrolled, wire)
        }
    }

    /// Who dials the address of a pod that only a slice names waits, and is refused; once more is known of it, it is
    /// reached as it ought to be.
    @Test(arguments: DataplaneKind.allCases) func aPodThatNobodyHasToldOf(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let mesh = try LabMesh(lab, dataplane)
            let stranger = try mesh.nodes[1].addPod("stranger")
            try stranger.serve()
            let direct = SocketAddress(stranger.v4, TestService.targetPort)
            let wire = try PacketCapture(of: "eth0", in: try mesh.nodes[1].namespace())
            try mesh.manifests.write(
                "strangers",
                """
                apiVersion: discovery.k8s.io/v1
                kind: EndpointSlice
                metadata: {name: strangers, namespace: default}
                addressType: IPv4
                endpoints: [{addresses: [\(stranger.v4)], targetRef: {kind: Pod, namespace: default, name: stranger}}]
                """)
            try mesh.enrol([mesh.client])
            try mesh.waitUntilEnrolled([mesh.client])
            try eventually("refused, after a while") {
                wire.forget()
                let result = try mesh.client.flow(.tcp, to: direct, timeoutMs: 5000)
                return result.answered == 0 && wire.count(of: "stranger") == 0
            }
            wire.forget()
            #expect(try mesh.client.flow(.tcp, to: direct, timeoutMs: 5000).answered == 0)
            #expect(wire.count(of: "stranger") == 0, "something of it was sent")
            #expect(try mesh.outsider.flow(.tcp, to: direct).names == ["stranger"])

            try mesh.enrol([stranger], false)
            try eventually("it is in no mesh") {
                try mesh.client.flow(.tcp, to: direct, timeoutMs: 5000).names == ["stranger"]
            }
            try mesh.enrol([stranger])
            try mesh.waitUntilEnrolled([stranger])
            try eventually("a tunnel") {
                wire.forget()
                let result = try mesh.client.flow(.tcp, to: direct, timeoutMs: 5000)
                return result.names == ["stranger"] && wire.count(of: "stranger") == 0
            }

            for agent in mesh.agents { _ = try agent.stop() }
            _ = try mesh.agents[1].agentctl("cleanup")
            let tables = try stranger.run(["nft", "list", "tables"])
            #expect(!tables.contains("heddle_mesh"), "\(tables)")
            try eventually("everybody is served as before") {
                try mesh.outsider.flow(.tcp, to: direct).names == ["stranger"]
            }
        }
    }

    /// Out again: what is dialled now is in the clear, and tunnels that are open go on.
    private func leave(_ mesh: LabMesh, _ enrolled: [Pod], _ wire: PacketCapture) throws {
        let open = try AddressFamily.allCases.map { try mesh.client.hold(5, to: far(mesh, $0), intervalMs: 20) }
        mesh.manifests.remove("strict")
        try mesh.enrol(enrolled, false)
        try eventually("plaintext again") {
            wire.forget()
            let result = try mesh.client.flow(.tcp, to: far(mesh, .ipv4))
            return result.names == ["far-answers"] && wire.count(of: "far-answers") > 0
        }
        for held in open {
            let before = try held.report()
            try eventually("a tunnel from before goes on") { try held.report().exchanges > before.exchanges + 20 }
            let report = try held.release()
            #expect(report.alive == 5 && report.errors.isEmpty, "\(report)")
        }
    }

    /// Whatever is masqueraded has the node's address too.
    private func onlyKubeletProbes(_ mesh: LabMesh, _ kubelet: LabKubelet, _ dataplane: DataplaneKind) throws {
        try eventually("a STRICT pod lets kubelet's probe in") { try kubelet.probe() == "passes" }
        let other = try mesh.nodes[1].host.flow(.tcp, to: far(mesh, .ipv4))
        // Under nftables nothing else tells them apart (docs/mesh.md).
        #expect(dataplane == .nftables ? other.failed == 0 : Set(other.errors.keys) == [ECONNREFUSED], "\(other)")
    }

    private func far(_ mesh: LabMesh, _ family: AddressFamily) -> SocketAddress {
        SocketAddress(mesh.far.address(family), TestService.targetPort)
    }

    /// An agent's end and its successor's beginning cut no tunnel, and open nothing.
    private func restartAgents(_ mesh: LabMesh, _ wire: PacketCapture) throws {
        let held = try mesh.client.open(.tcp, to: far(mesh, .ipv6))
        #expect(held.opening.names == ["far-answers"])
        wire.forget()
        for agent in mesh.agents {
            try agent.killAbruptly()
            try agent.start()
            try agent.waitUntilInSync()
            #expect(try held.ask().names == ["far-answers"], "a tunnel was cut")
        }
        for _ in 0..<20 {
            let again = try mesh.client.flow(.tcp, to: far(mesh, .ipv4))
            let outsider = try mesh.outsider.flow(.tcp, to: far(mesh, .ipv4))
            #expect(again.answered == 1 && Set(outsider.errors.keys) == [ECONNREFUSED], "\(again) \(outsider)")
        }
        #expect(try held.ask().names == ["far-answers"], "a tunnel was cut")
        #expect(wire.count(of: "far-answers") == 0, "somebody on the link can read it")
    }
}
