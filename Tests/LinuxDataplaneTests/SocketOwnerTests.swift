// What /proc says of a socket's owner.
import Glibc
import Testing

@testable import LinuxDataplane

@Suite struct SocketOwnerTests {
    @Test(arguments: [
        ("0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod\(underscored).slice/cri-1.scope", uid),
        ("0::/kubepods.slice/kubepods-pod\(underscored).slice/cri-1.scope", uid),
        ("0::/kubepods/besteffort/pod\(uid)/1234", uid),
        ("0::/system.slice/ssh.service", nil), ("0::/pod", nil), ("", nil), ("0::/user/podman-\(uid)", nil),
    ]) func podsAreToldByTheirCgroup(_ cgroup: String, _ expected: String?) {
        #expect(SocketOwner.podUID(cgroup: cgroup) == expected)
    }

    @Test func onlySocketsHaveInodes() {
        #expect(DescriptorSearch.socketInode("socket:[4711]".utf8) == 4711)
        #expect(DescriptorSearch.socketInode("pipe:[4711]".utf8) == nil)
        #expect(DescriptorSearch.socketInode("/tmp/socket:[4711]".utf8) == nil)
    }

    /// Processes may have any number of descriptors, and share them.
    @Test func aContainerIsLookedAtUpToABound() throws {
        let others = (0..<200).map { _ in dup(0) }
        let last = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        defer { for descriptor in others + [last] { close(descriptor) } }
        var info = stat()
        try #require(fstat(last, &info) == 0)
        let inode = UInt32(info.st_ino)
        for (limit, isFound) in [(100, false), (100_000, true)] {
            var search = DescriptorSearch(limit: limit)
            var found: [Int32] = []
            for _ in 0..<2 {
                search.find([inode], among: [getpid(), getpid()]) { _, _, descriptor in
                    found.append(descriptor)
                    return false
                }
            }
            #expect(found == (isFound ? [last, last, last, last] : []))
            #expect(search.looked <= limit && search.looked >= 100)
        }
    }

    @Test func listenersOfAPortAreToldFromItsConnections() {
        let table = """
              sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
               0: 0100007F:2809 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100
               1: 0100007F:2809 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100
               2: 00000000:2810 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100
            """
        #expect(SocketOwner.listeners(table, port: 10249) == [4711])
        #expect(SocketOwner.listeners(table, port: 80) == [])
        let wide = "head\n 0: \(String(repeating: "0", count: 32)):2810 \(String(repeating: "0", count: 32)):0000 0A"
        #expect(SocketOwner.listeners(wide + " 0:0 00:0 0 0 0 4714 1", port: 10256) == [4714])
    }

    private static let uid = "0a1b2c3d-0000-1111-2222-333344445555"
    private static let underscored = "0a1b2c3d_0000_1111_2222_333344445555"
}
