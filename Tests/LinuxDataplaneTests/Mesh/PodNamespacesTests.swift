// Which network namespace is a pod's.
import Addressing
import Glibc
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

    /// A container may make namespaces and give itself any address in them.
    @Test func whatAContainerMakesForItselfIsNoPod() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let (victim, tenant) = (try node.addPod("victim"), try node.addPod("tenant"))
            try victim.listen(.tcp, 8080)
            let directory = try TemporaryDirectory()
            let claim = "ip address add \(victim.v4)/32 dev lo; echo > \(directory.path)/done; sleep 60"
            let process = try tenant.spawn(["unshare", "--net", "sh", "-c", claim])
            try eventually("the address is claimed") { readText(directory.path + "/done") == "\n" }
            let cgroup = node.cgroup
            let found = try node.namespace().run {
                let namespaces = PodNamespaces(cgroup: cgroup)
                return namespaces.find([victim.v4], among: try namespaces.inhabited())
            }
            process.signal(SIGKILL)
            guard case .found(let namespace) = found[victim.v4], namespace.id == (try victim.namespace().id) else {
                Issue.record("\(found)")
                return
            }
        }
    }
}
