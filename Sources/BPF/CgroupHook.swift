/// The places in the life of a cgroup's sockets where a program can be attached, named as libbpf's sections are.
import CLibbpf

package enum CgroupHook: String, Sendable {
    case connect4, connect6, sendmsg4, sendmsg6, recvmsg4, recvmsg6, getpeername4, getpeername6
    case sockOps = "sock_ops"
    case getsockopt, setsockopt

    var attachType: bpf_attach_type {
        switch self {
        case .connect4: BPF_CGROUP_INET4_CONNECT
        case .connect6: BPF_CGROUP_INET6_CONNECT
        case .sendmsg4: BPF_CGROUP_UDP4_SENDMSG
        case .sendmsg6: BPF_CGROUP_UDP6_SENDMSG
        case .recvmsg4: BPF_CGROUP_UDP4_RECVMSG
        case .recvmsg6: BPF_CGROUP_UDP6_RECVMSG
        case .getpeername4: BPF_CGROUP_INET4_GETPEERNAME
        case .getpeername6: BPF_CGROUP_INET6_GETPEERNAME
        case .sockOps: BPF_CGROUP_SOCK_OPS
        case .getsockopt: BPF_CGROUP_GETSOCKOPT
        case .setsockopt: BPF_CGROUP_SETSOCKOPT
        }
    }
}
