// Changes of the node and of the cluster's ranges are in force at once, without a restart (spec rows 93, 104, 164-167).
import AdminAPI
import Addressing
import Cluster
import DataplaneIR
import NodeControl
import TestSupport
import Testing

@testable import Agent

@Suite struct LiveNodeTests {
    private func node(_ edit: (inout Node) -> Void) -> ClusterObject {
        var node = Node(name: "node-a")
        edit(&node)
        return .node(node)
    }
    private func prefixes(_ text: String...) -> [IPPrefix] { text.compactMap { IPPrefix($0) } }

    @Test("row 104: ServiceCIDR objects")
    func serviceCIDRs() async throws {
        try await AgentRig.run { rig in
            rig.synced()
            try await rig.inSync()
            let ranges = prefixes("10.96.0.0/16", "fd00:96::/112")
            rig.send(.serviceCIDR(ServiceCIDR(name: "kubernetes", cidrs: ranges)))
            try await soon("known") { rig.dataplane.node?.serviceCIDRs == ranges }
            rig.delete(ObjectID(.serviceCIDR, ObjectName("", "kubernetes")))
            try await soon("forgotten") { rig.dataplane.node?.serviceCIDRs == [] }
        }
    }

    @Test("rows 164, 165: the zone label, and the node's end")
    func zone() async throws {
        try await AgentRig.run { rig in
            var slice = EndpointSlice(name: ObjectName("default", "web-1"), serviceName: "web", addressType: .ipv4)
            slice.ports = [EndpointSlice.Port(port: 8080)]
            slice.endpoints = (1...2).map {
                EndpointSlice.Endpoint(IPAddress(v4: 0x0a01_0000 + $0), nodeName: nil, forZones: ["zone-\($0)"])
            }
            rig.send(webService(), .endpointSlice(slice), node { $0.labels["topology.kubernetes.io/zone"] = "zone-1" })
            rig.synced()
            try await rig.inSync()
            let endpoints = { () -> [String] in
                let program = rig.dataplane.programs.values.first
                return program.map { $0.backends[$0.clusterRange].map(\.address.description) } ?? []
            }
            #expect(endpoints() == ["10.1.0.1:8080"])
            rig.send(node { $0.labels["topology.kubernetes.io/zone"] = "zone-2" })
            try await soon("the other zone") { endpoints() == ["10.1.0.2:8080"] }
            // Another label: nothing to write.
            let plans = rig.dataplane.plans.count
            rig.send(
                node {
                    $0.labels["topology.kubernetes.io/zone"] = "zone-2"
                    $0.labels["color"] = "red"
                })
            _ = try await rig.ask(AgentStatus.self, .status)
            #expect(rig.dataplane.plans.count == plans && rig.board.now.nodeEligible)
            rig.delete(ObjectID(.node, ObjectName("", "node-a")))
            try await soon("hints are ignored") { endpoints() == ["10.1.0.1:8080", "10.1.0.2:8080"] }
            try await soon("row 144") { !rig.board.now.nodeEligible }
        }
    }

    @Test("row 166: podCIDRs, also those that come late")
    func podCIDRs() async throws {
        var configuration = AgentConfiguration(nodeName: "node-a")
        configuration.detectLocal = .nodeCIDR
        try await AgentRig.run(configuration) { rig in
            rig.send(node { _ in })
            rig.synced()
            try await rig.inSync()
            #expect(rig.dataplane.node?.detector == LocalDetector.none)
            #expect(rig.board.status.warnings.contains { $0.contains("podCIDRs") })
            for range in ["10.1.0.0/24", "10.2.0.0/24"] {
                rig.send(node { $0.podCIDRs = prefixes(range) })
                try await soon("\(range)") { rig.dataplane.node?.detector == .cidrs(prefixes(range)) }
            }
        }
    }

    @Test("row 167: the node's own address")
    func nodeIP() async throws {
        try await AgentRig.run { rig in
            let addresses = [IPAddress(v4: 0xc0a8_0001), IPAddress(v4: 0xc0a8_0002)]
            rig.agent.mailbox.send(.addresses(Set(addresses.map { LocalAddress($0) })))
            rig.synced()
            for address in addresses {
                rig.send(node { $0.nodeIPs = [address] })
                try await soon("\(address)") { rig.dataplane.node?.nodePortAddresses == [address] }
            }
        }
    }

    @Test("row 144: an API server that does not know the node")
    func unknownNode() async throws {
        var configuration = AgentConfiguration(nodeName: "node-a")
        configuration.source = .kubernetes(kubeconfig: nil)
        try await AgentRig.run(configuration) { rig in
            #expect(rig.board.now.nodeEligible, "row 146: healthy during startup")
            rig.synced()
            try await rig.inSync()
            #expect(!rig.board.now.nodeEligible)
            rig.send(node { _ in })
            try await soon("known now") { rig.board.now.nodeEligible }
        }
    }
}
