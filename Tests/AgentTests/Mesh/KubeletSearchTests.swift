/// A pod's process is not taken for kubelet, whatever it is called and wherever it listens.
import Addressing
import Glibc
import Netns
import Testing
import TestSupport

@testable import Agent

@Suite(.requiresKernel(.root, .netns, .cgroup2)) struct KubeletSearchTests {
    @Test func aNameAloneProvesNothing() throws {
        let folder = try TemporaryDirectory()
        let program = folder.path + "/kubelet"
        try #require(symlink("/bin/sleep", program) == 0 && chmod(folder.path, 0o755) == 0)
        try Lab.with { lab in
            let node = try lab.addNode()
            let pretender = try node.addPod("a").spawn(["unshare", "--mount", program, "1000"])
            let user = try node.host.spawn(["setpriv", "--reuid", "65534", program, "1000"])
            let kubelet = try node.host.spawn([program, "1000"])
            for process in [pretender, user, kubelet] {
                try eventually("called kubelet") { readText("/proc/\(process.pid)/comm") == "kubelet\n" }
            }
            for process in [pretender, user] {
                var search = KubeletSearch()
                #expect(search.process { $0 == process.pid } == nil)
            }
            var other = KubeletSearch()
            #expect(other.process { $0 == kubelet.pid } == kubelet.pid)
            // Another node's of the same machine.
            var neighbour = KubeletSearch()
            #expect(neighbour.process { ![pretender.pid, user.pid, kubelet.pid].contains($0) } == nil)
        }
    }

    /// As in k3s and MicroK8s, where it is part of another program.
    @Test func aProgramOfAnotherNameIsToldByItsPort() throws {
        try Lab.with { lab in
            let namespace = try lab.addNode().namespace()
            let (listener, _) = try namespace.run {
                try listen(at: SocketAddress(IPAddress(v4: 0x7f00_0001), KubeletSearch.port))
            }
            let pretender = try ChildProcess(["unshare", "--mount", "sleep", "1000"], descriptors: [listener])
            try eventually("it runs") { readText("/proc/\(pretender.pid)/comm") == "sleep\n" }
            let found = {
                var search = KubeletSearch()
                return try namespace.run { search.process { $0 != getpid() } }
            }
            #expect(try found() == nil)
            let program = try ChildProcess(["sleep", "1000"], descriptors: [listener])
            close(listener)
            #expect(try found() == program.pid)
        }
    }
}
