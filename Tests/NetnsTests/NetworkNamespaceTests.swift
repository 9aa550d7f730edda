/// Network namespaces: made, found, entered and left again without a trace on the calling thread.
import Glibc
import Netns
import TestSupport
import Testing

@Suite(.requiresKernel(.root, .netns)) struct NetworkNamespaceTests {
    private struct Refused: Error, Equatable { let reason: String }

    @Test func theCallersNamespaceStaysTheSame() throws {
        let before = try NetworkNamespace.current()
        let other = try NetworkNamespace.anonymous()
        let inside = try other.run { try NetworkNamespace.current() }
        #expect(inside.id == other.id)
        #expect(other.id != before.id)
        #expect(try NetworkNamespace.current().id == before.id)
        #expect(try NetworkNamespace(pid: getpid()).id == before.id)
    }

    @Test func aNamedNamespaceCanBeOpenedUntilItIsRemoved() throws {
        let name = "hd-\(getpid())-named"
        let path = "\(NetworkNamespace.directory)/\(name)"
        let made = try NetworkNamespace.create(named: name)
        #expect(try NetworkNamespace(path: path).id == made.id)
        #expect(throws: NetnsError.self) { try NetworkNamespace.create(named: name) }
        #expect(try NetworkNamespace(path: path).id == made.id, "the failed second creation left the first alone")
        try NetworkNamespace.remove(named: name)
        try NetworkNamespace.remove(named: name)
        #expect(!directoryEntries(NetworkNamespace.directory).contains(name))
    }

    @Test func loopbackWorksInside() throws {
        let code = try NetworkNamespace.anonymous().run {
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
            defer { close(descriptor) }
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
            address.sin_port = UInt16(1).bigEndian
            return withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0 ? 0 : errno
                }
            }
        }
        #expect(code == ECONNREFUSED, "a refusal needs a working loopback; without it the network is unreachable")
    }

    @Test func errorsOfTheBodyKeepTheirType() throws {
        let namespace = try NetworkNamespace.anonymous()
        let error = #expect(throws: Refused.self) {
            try namespace.run(refusal: { Refused(reason: $0.description) }) { () throws(Refused) -> Int in
                throw Refused(reason: "mine")
            }
        }
        #expect(error == Refused(reason: "mine"))
    }

    @Test func whatIsNoNamespaceIsNamedInTheError() throws {
        let error = #expect(throws: NetnsError.self) { try NetworkNamespace(path: "/proc/1/ns/none") }
        #expect(error?.description == "cannot open network namespace /proc/1/ns/none: No such file or directory")
        // A file that is no namespace can be opened, but not entered.
        let file = try NetworkNamespace(path: "/dev/null")
        let entering = #expect(throws: NetnsError.self) { try file.run {} }
        #expect(entering?.code == EINVAL)
    }
}

@Suite struct CgroupTreeTests {
    @Test func onlyCgroup2DirectoriesAreTaken() {
        let error = #expect(throws: NetnsError.self) { try CgroupTree(path: "/tmp") }
        #expect(error?.description.contains("not on a cgroup v2 mount") == true)
        #expect(throws: NetnsError.self) { try CgroupTree(path: "/nowhere") }
    }

    @Test(.requiresKernel(.root, .netns, .cgroup2)) func aProcessIsFoundInItsDirectory() throws {
        try Lab.with { lab in
            let node = try lab.addNode()
            let pod = try node.addPod("a")
            let process = try pod.spawn(["sleep", "1000"])
            let tree = try CgroupTree(path: node.cgroup)
            try eventually("moved there") { try tree.directory(of: process.pid) == pod.cgroup }
            #expect(CgroupTree.holds(pod.cgroup, process.pid) && !CgroupTree.holds(node.host.cgroup, process.pid))
            #expect(!CgroupTree.holds(node.cgroup + "/gone", process.pid))
            #expect(try tree.directory(of: 1) == nil)
        }
    }
}
