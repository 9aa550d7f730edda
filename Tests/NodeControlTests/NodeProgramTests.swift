// What the node's own facts become, by spec row.
import Addressing
import Cluster
import DataplaneIR
import Testing

@testable import NodeControl

@Suite struct NodeProgramTests {
    private func configuration(_ edit: (inout NodeSettings) -> Void = { _ in }) -> NodeSettings {
        var configuration = NodeSettings(nodeName: "n1")
        edit(&configuration)
        return configuration
    }
    private func addresses(_ text: String...) -> Set<IPAddress> { Set(text.compactMap { IPAddress($0) }) }
    private func prefixes(_ text: String...) -> [IPPrefix] { text.compactMap { IPPrefix($0) } }

    private func inputs(_ edit: (inout NodeInputs) -> Void = { _ in }) -> NodeInputs {
        var inputs = NodeInputs()
        var node = Node(name: "n1")
        node.nodeIPs = ["192.168.0.2", "2001:db8::1"].compactMap { IPAddress($0) }
        inputs.node = node
        let all = addresses("127.0.0.1", "::1", "192.168.0.2", "192.168.1.2", "2001:db8::1", "2001:db8:1::1")
        inputs.addresses = Set(all.map { LocalAddress($0) })
        edit(&inputs)
        return inputs
    }

    @Test("row 88: primary is the Node object's address of each family")
    func primary() {
        let result = nodeProgram(configuration(), inputs())
        #expect(result.program.nodePortAddresses == addresses("192.168.0.2", "2001:db8::1"))
        #expect(result.warnings.isEmpty)
    }

    @Test("row 88: without a Node object nothing is served, and that is said")
    func primaryWithoutNode() {
        let result = nodeProgram(configuration(), inputs { $0.node = nil })
        #expect(result.program.nodePortAddresses.isEmpty)
        #expect(result.warnings.count == 1)
    }

    @Test("row 89: addresses inside the ranges, as they are now")
    func ranges() {
        let asked = configuration { $0.nodePortAddresses = .cidrs(prefixes("192.168.0.0/24", "2001:db8:1::/64")) }
        #expect(nodeProgram(asked, inputs()).program.nodePortAddresses == addresses("192.168.0.2", "2001:db8:1::1"))
        let more = inputs { $0.addresses.formUnion(addresses("192.168.0.9").map { LocalAddress($0) }) }
        #expect(
            nodeProgram(asked, more).program.nodePortAddresses.contains(addresses("192.168.0.9").first ?? .init(v4: 0)))
    }

    @Test("rows 90, 92: everything but loopback")
    func everything() {
        let all = addresses("192.168.0.2", "192.168.1.2", "2001:db8::1", "2001:db8:1::1")
        let zero = configuration { $0.nodePortAddresses = .cidrs(prefixes("0.0.0.0/0", "::/0")) }
        #expect(nodeProgram(zero, inputs()).program.nodePortAddresses == all)
        #expect(
            nodeProgram(configuration { $0.nodePortAddresses = .all }, inputs()).program.nodePortAddresses == all)
        let loopback = configuration { $0.nodePortAddresses = .cidrs(prefixes("127.0.0.0/8", "::1/128")) }
        let result = nodeProgram(loopback, inputs())
        #expect(result.program.nodePortAddresses.isEmpty)
        #expect(result.warnings.contains { $0.contains("loopback") })
    }

    @Test("row 91: ranges of one family only leave the other unrestricted, with a warning")
    func otherFamily() {
        let asked = configuration { $0.nodePortAddresses = .cidrs(prefixes("192.168.0.0/24")) }
        let result = nodeProgram(asked, inputs())
        #expect(result.program.nodePortAddresses == addresses("192.168.0.2", "2001:db8::1", "2001:db8:1::1"))
        #expect(result.warnings.contains { $0.contains("IPv6") })
    }

    @Test("row 96: a service's address on an interface is no node-port address, unless it is the node's own")
    func serviceAddresses() {
        let asked = configuration { $0.nodePortAddresses = .all }
        let result = nodeProgram(asked, inputs { $0.serviceAddresses = addresses("192.168.1.2", "192.168.0.2") })
        #expect(result.program.nodePortAddresses == addresses("192.168.0.2", "2001:db8::1", "2001:db8:1::1"))
    }

    @Test("row 84: the detector, first range of each family")
    func detectors() {
        #expect(nodeProgram(configuration(), inputs()).program.detector == .none)
        let cluster = configuration { $0.clusterCIDRs = prefixes("10.0.0.0/8", "fd00::/64", "11.0.0.0/8") }
        #expect(nodeProgram(cluster, inputs()).program.detector == .cidrs(prefixes("10.0.0.0/8", "fd00::/64")))
        let node = configuration { $0.detectLocal = .nodeCIDR }
        #expect(nodeProgram(node, inputs()).program.detector == .none)
        #expect(nodeProgram(node, inputs()).warnings.contains { $0.contains("podCIDRs") })
        let later = inputs { $0.node?.podCIDRs = prefixes("10.1.0.0/24") }
        #expect(nodeProgram(node, later).program.detector == .cidrs(prefixes("10.1.0.0/24")))
        #expect(
            nodeProgram(configuration { $0.detectLocal = .bridge("br0") }, inputs()).program.detector == .bridge("br0"))
    }

    @Test("row 85: what arrives on the interface with the node's address is from no pod of this node")
    func uplinks() {
        let asked = configuration { $0.clusterCIDRs = prefixes("10.0.0.0/8", "2001:db8::/32") }
        var uplink = LocalAddress(IPAddress(v4: 0xc0a8_0002))
        (uplink.interface, uplink.network) = ("eth0", prefixes("192.168.0.2/24").first)
        #expect(nodeProgram(asked, inputs { $0.addresses.insert(uplink) }).program.uplinks == ["eth0"])
        let flat = configuration { $0.clusterCIDRs = prefixes("192.168.0.0/16") }
        #expect(nodeProgram(flat, inputs { $0.addresses.insert(uplink) }).program.uplinks.isEmpty)
        let byNode = configuration { $0.detectLocal = .nodeCIDR }
        #expect(nodeProgram(byNode, inputs { $0.addresses.insert(uplink) }).program.uplinks.isEmpty)
    }

    @Test("row 103: service ranges and the plain facts are handed on")
    func facts() {
        let asked = configuration {
            $0.masqueradeAll = true
            $0.nodePortLoopback = true
        }
        let program = nodeProgram(asked, inputs { $0.serviceCIDRs = prefixes("172.30.0.0/16") }).program
        #expect(program.nodeName == "n1" && program.masqueradeAll && program.nodePortLoopback)
        #expect(program.serviceCIDRs == prefixes("172.30.0.0/16"))
        #expect(program.localAddresses == inputs().interfaceAddresses)
    }
}
