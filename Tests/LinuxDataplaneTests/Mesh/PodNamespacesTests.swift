// Which network namespace is a pod's.
import Addressing
import LinuxDataplane
import Netns
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns, .cgroup2)) struct PodNamespacesTests {
    @Test func podsAreFoundByTheirAddresses() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let other = try lab.addNode()
            let pods = [try node.addPod("a"), try node.addPod("b")]
            let far = try other.addPod("far")
            for pod in pods + [far] { try pod.listen(.tcp, 8080) }
            try node.host.listen(.tcp, 8080)
            let wanted = Set((pods + [far, node.host]).flatMap { [$0.v4, $0.v6] })
            let cgroup = node.cgroup
            let found = try node.namespace().run {
                let namespaces = PodNamespaces(cgroup: cgroup)
                return namespaces.find(wanted, among: try namespaces.inhabited())
            }
            #expect(Set(found.keys) == Set(pods.flatMap { [$0.v4, $0.v6] }))
            for pod in pods {
                for address in [pod.v4, pod.v6] {
                    guard case .found(let namespace) = found[address] else {
                        Issue.record("\(address) is not found")
                        continue
                    }
                    #expect(namespace.id == (try pod.namespace().id))
                }
            }
        }
    }

    @Test func twoWithTheSameAddressAreNeither() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let (a, b) = (try node.addPod("a"), try node.addPod("b"))
            try b.run(["ip", "address", "add", "\(a.v4)/32", "dev", "lo"])
            for pod in [a, b] { try pod.listen(.tcp, 8080) }
            let cgroup = node.cgroup
            let found = try node.namespace().run {
                let namespaces = PodNamespaces(cgroup: cgroup)
                return namespaces.find([a.v4, a.v6], among: try namespaces.inhabited())
            }
            guard case .ambiguous(2) = found[a.v4], case .found = found[a.v6] else {
                Issue.record("\(found)")
                return
            }
        }
    }
}
