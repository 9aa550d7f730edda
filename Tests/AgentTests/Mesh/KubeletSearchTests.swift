/// A pod's process is not taken for kubelet, whatever it is called.
import Glibc
import Testing
import TestSupport

@testable import Agent

@Suite(.requiresKernel(.root, .netns, .cgroup2)) struct KubeletSearchTests {
    @Test func aNameAloneProvesNothing() throws {
        let folder = try TemporaryDirectory()
        let program = folder.path + "/kubelet"
        try #require(symlink("/bin/sleep", program) == 0)
        try Lab.with { lab in
            let node = try lab.addNode()
            let pretender = try node.addPod("a").spawn(["unshare", "--mount", program, "1000"])
            let kubelet = try node.host.spawn([program, "1000"])
            for process in [pretender, kubelet] {
                try eventually("called kubelet") { readText("/proc/\(process.pid)/comm") == "kubelet\n" }
            }
            var (one, other) = (KubeletSearch(), KubeletSearch())
            #expect(one.process { $0 == pretender.pid } == nil)
            #expect(other.process { $0 == kubelet.pid } == kubelet.pid)
            // Another node's of the same machine.
            var neighbour = KubeletSearch()
            #expect(neighbour.process { ![pretender.pid, kubelet.pid].contains($0) } == nil)
        }
    }
}
