/// A node of a lab: its own network namespace and cgroup subtree, in which an agent can be started.
package import Addressing
package import Netns

package final class LabNode {
    package let name: String
    /// 1 for the first node.
    package let index: Int
    /// The subtree an agent of this node attaches to.
    package let cgroup: String
    /// Processes of the node itself, outside any pod.
    package let host: Pod
    package private(set) var pods: [Pod] = []
    let gateways: (v4: IPAddress, v6: IPAddress)
    package let podCIDRs: [IPPrefix]
    private unowned let lab: Lab

    init(lab: Lab, name: String, index: Int, cgroup: String) {
        self.lab = lab
        self.name = name
        self.index = index
        self.cgroup = "\(cgroup)/\(name)"
        gateways = (LabAddress.v4(0x0af4_0001 | UInt32(index) << 8), LabAddress.v6(0x244, UInt64(index), 1))
        podCIDRs = [(gateways.v4, 24), (gateways.v6, 64)].compactMap { IPPrefix($0.0, length: $0.1) }
        host = Pod(
            name: name, nodeName: name, v4: LabAddress.v4(0xc0a8_3200 + UInt32(index)),
            v6: LabAddress.v6(0x50, 0, UInt64(index)),
            namespacePath: "\(NetworkNamespace.directory)/\(lab.prefix)-\(name)", cgroup: self.cgroup + "/host")
    }

    package func namespace() throws -> NetworkNamespace { try host.namespace() }

    /// A directory on bpffs for an agent of this node; gone with the lab.
    package var bpffs: String { "\(Sweep.bpffs)/\(lab.prefix)-\(name)" }

    /// A pod on this node; its name is unique in the lab.
    package func addPod(_ name: String) throws -> Pod {
        let number = pods.count + 11
        // The last number is written with the same digits in both families: 10.244.1.11 and fd00:244:1::11.
        let digits = UInt64(String(number), radix: 16) ?? UInt64(number)
        let pod = Pod(
            name: name, nodeName: self.name, v4: LabAddress.v4(0x0af4_0000 | UInt32(index) << 8 | UInt32(number)),
            v6: LabAddress.v6(0x244, UInt64(index), digits),
            namespacePath: "\(NetworkNamespace.directory)/\(lab.prefix)-\(name)", cgroup: "\(cgroup)/\(name)")
        try lab.makeNamespace(name, cgroup: "\(self.name)/\(name)", forwarding: false)
        try lab.ip(
            self.name,
            """
            link add pod\(number) type veth peer name eth0 netns \(lab.prefix)-\(name)
            link set pod\(number) master cni0 up
            link set pod\(number) type bridge_slave hairpin on
            """)
        try lab.ip(
            name,
            """
            link set eth0 up
            address add \(pod.v4)/32 dev eth0
            address add \(pod.v6)/128 dev eth0 nodad
            route add \(gateways.v4) dev eth0 scope link
            route add default via \(gateways.v4)
            route add \(gateways.v6) dev eth0
            route add default via \(gateways.v6)
            """)
        pods.append(pod)
        return pod
    }
}
