// Which of several mounts of cgroup v2 is taken.
import Testing

@testable import Netns

@Suite struct CgroupMountTests {
    private func paths(_ mountinfo: String) -> [String] { CgroupMount.all(mountinfo: mountinfo).map(\.path) }

    @Test func aHybridHostHasItBesideTheHierarchiesOfV1() {
        let host = """
            32 23 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,size=4096k
            33 32 0:29 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate
            34 32 0:30 / /sys/fs/cgroup/systemd rw,nosuid shared:11 - cgroup cgroup rw,name=systemd
            """
        #expect(paths(host) == ["/sys/fs/cgroup/unified"])
        // The same in a container that has it at another place.
        #expect(paths(host.replacing(" /sys/fs/cgroup", with: " /host/cgroup")) == ["/host/cgroup/unified"])
    }

    @Test func aContainerTakesTheHostsHierarchyAndNotItsOwnGroup() {
        let ownNamespace = """
            900 880 0:27 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw
            901 880 0:27 /../../../.. /host/cgroup rw,nosuid - cgroup2 cgroup rw
            902 880 0:27 /../../../../system.slice /host/system rw,nosuid - cgroup2 cgroup rw
            """
        #expect(paths(ownNamespace) == ["/host/cgroup", "/host/system", "/sys/fs/cgroup"])
        let hostsNamespace = """
            900 880 0:27 /kubepods/pod1/a /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw
            901 880 0:27 / /host/cgroup rw,nosuid master:9 - cgroup2 cgroup rw
            """
        #expect(paths(hostsNamespace) == ["/host/cgroup", "/sys/fs/cgroup"])
    }

    @Test func aChildCanBeMadeInIt() {
        let twice = """
            900 880 0:27 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw
            901 880 0:27 / /host/cgroup rw,nosuid - cgroup2 cgroup rw
            """
        #expect(paths(twice) == ["/host/cgroup", "/sys/fs/cgroup"])
    }

    @Test func whatIsNoneIsNotTaken() {
        #expect(paths("").isEmpty && paths("nonsense\n - \n1 2 - cgroup2\n").isEmpty)
        #expect(paths("1 2 0:1 / /a\\040b rw - cgroup2 none rw") == ["/a b"])
        #expect(paths("1 2 0:1 / /a rw - tmpfs cgroup2 rw").isEmpty)
    }
}
