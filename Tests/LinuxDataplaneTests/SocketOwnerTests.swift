// What /proc says of a socket's owner.
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
        #expect(SocketOwner.socketInode("socket:[4711]") == 4711)
        #expect(SocketOwner.socketInode("pipe:[4711]") == nil)
        #expect(SocketOwner.socketInode("/tmp/socket:[4711]") == nil)
    }

    private static let uid = "0a1b2c3d-0000-1111-2222-333344445555"
    private static let underscored = "0a1b2c3d_0000_1111_2222_333344445555"
}
