/// What meshes stumble over: clients whose address becomes a node's, and sockets of several paths.
import Addressing
import Glibc
import Netns
import TestSupport
import Testing

private let hasMPTCP = readText("/proc/sys/net/mptcp/enabled").hasPrefix("1")

@Suite(.requiresKernel(.root, .netns, .cgroup2, .bpf)) struct MeshPitfallTests {
    private static let other: UInt16 = 9090

    /// It has the address of the node that also probes, and is let in nowhere for it.
    @Test(arguments: DataplaneKind.allCases) func aMasqueradedClientIsAStranger(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let mesh = try LabMesh(lab, dataplane, options: ["--node-port-addresses", "192.168.50.0/24"])
            let outside = try lab.addExternalClient()
            let (probed, unprobed): (UInt16, UInt16) = (30080, 30090)
            try mesh.far.listen(.tcp, Self.other)
            try mesh.manifests.write("outside", Self.nodePorts(mesh.far, probed: probed, unprobed: unprobed))
            try mesh.enrol([mesh.far])
            try mesh.waitUntilEnrolled([mesh.far])
            let entrance = { (node: Int, port: UInt16) in SocketAddress(mesh.nodes[node].host.v4, port) }
            let direct = SocketAddress(mesh.far.v4, TestService.targetPort)
            let nodes = Set(try mesh.nodes[1].host.flow(.tcp, to: direct).clients.keys)
            for port in [probed, unprobed] {
                var result: FlowResult?
                try eventually("it is let in") {
                    result = try outside.flow(.tcp, to: entrance(1, port))
                    return result?.answered == 1
                }
                #expect(result.map { Set($0.clients.keys) } == nodes, "it does not come by an address of the node")
                try eventually("by the other node, too") {
                    try outside.flow(.tcp, to: entrance(0, port)).answered == 1
                }
            }

            try mesh.manifests.write(
                "strict",
                """
                apiVersion: security.istio.io/v1
                kind: PeerAuthentication
                metadata: {name: default, namespace: default}
                spec: {mtls: {mode: STRICT}}
                """)
            for (node, port) in [(1, unprobed), (1, probed), (0, unprobed), (0, probed)] {
                // Nothing else tells them apart under nftables, at its own node's ports of probes (docs/mesh.md).
                let passes = dataplane == .nftables && node == 1 && port == probed
                try eventually("node \(node), port \(port): \(passes ? "as a probe" : "refused")") {
                    let result = try outside.flow(.tcp, to: entrance(node, port))
                    return passes ? result.answered == 1 : Set(result.errors.keys) == [ECONNREFUSED]
                }
            }
            // No process of this lab is kubelet; by an address it would be let in.
            let says = "kubelet was not found, and its probes of STRICT pods (default/far-answers) are refused"
            guard dataplane == .ebpf else { return }
            try eventually("agentctl status says so") { try mesh.agents[1].agentctl("status").contains(says) }
        }
    }

    private static func nodePorts(_ pod: Pod, probed: UInt16, unprobed: UInt16) -> String {
        """
        apiVersion: v1
        kind: Service
        metadata: {name: outside, namespace: default}
        spec:
          type: NodePort
          clusterIP: 10.96.0.99
          clusterIPs: [10.96.0.99]
          ipFamilies: [IPv4]
          ports:
          - {name: probed, port: 80, nodePort: \(probed), targetPort: \(TestService.targetPort)}
          - {name: unprobed, port: 90, nodePort: \(unprobed), targetPort: \(other)}
        ---
        apiVersion: discovery.k8s.io/v1
        kind: EndpointSlice
        metadata: {name: outside-1, namespace: default, labels: {kubernetes.io/service-name: outside}}
        addressType: IPv4
        ports: [{name: probed, port: \(TestService.targetPort)}, {name: unprobed, port: \(other)}]
        endpoints: [{addresses: ["\(pod.v4)"], conditions: {ready: true}, nodeName: \(pod.nodeName ?? "")}]
        """
    }

    /// Its connect passes the hooks on the TCP socket below, and its peer's name is asked of the one above.
    @Test(.enabled(if: hasMPTCP, "MPTCP is off: net.mptcp.enabled"), arguments: DataplaneKind.allCases)
    func socketsOfSeveralPathsGoThroughTunnels(dataplane: DataplaneKind) throws {
        try Lab.with { lab in
            let mesh = try LabMesh(lab, dataplane)
            let wire = try PacketCapture(of: "eth0", in: try mesh.nodes[1].namespace())
            for family in AddressFamily.allCases {
                try mesh.far.listen(
                    .tcp, SocketAddress(mesh.far.address(family), Self.other), name: "far-answers", isMultipath: true)
            }
            let enrolled = [mesh.client, mesh.near, mesh.far]
            try mesh.enrol(enrolled)
            try mesh.waitUntilEnrolled(enrolled)
            for family in AddressFamily.allCases {
                let direct = [TestService.targetPort, Self.other].map { SocketAddress(mesh.far.address(family), $0) }
                try eventually("the first tunnel over \(family)") {
                    wire.forget()
                    return try mesh.client.flow(.tcp, to: direct[0], isMultipath: true).answered == 1
                        && wire.count(of: "far-answers") == 0
                }
                wire.forget()
                for target in direct + [mesh.service.address(family)] {
                    for isMapped in [false, true] where !isMapped || family == .ipv4 {
                        let result = try mesh.client.flow(
                            .tcp, to: target, count: 5, isMapped: isMapped, isMultipath: true)
                        #expect(result.answered == 5 && Set(result.peers.keys) == [target], "\(target): \(result)")
                        guard direct.contains(target) else { continue }
                        // Under nftables an application sees its own pod (docs/mesh.md).
                        let client = dataplane == .ebpf ? mesh.client.address(family) : mesh.far.address(family)
                        #expect(Set(result.clients.keys) == [client], "\(target): \(result)")
                    }
                }
                #expect(wire.count(of: "far-answers") == 0, "somebody on the link can read it")
                #expect(try mesh.client.flow(.tcp, to: direct[1]).clients.count == 1, "a client of one path")
                let plain = try mesh.outsider.flow(.tcp, to: direct[1], isMultipath: true)
                #expect(Set(plain.clients.keys) == [mesh.outsider.address(family)], "\(plain)")
            }
        }
    }
}
