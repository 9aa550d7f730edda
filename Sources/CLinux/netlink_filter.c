#include "netlink_filter.h"
#include <arpa/inet.h>
#include <linux/filter.h>
#include <sys/socket.h>

int clinux_ignore_netlink_port(int descriptor, uint32_t port_id) {
    /* nlmsg_pid is at byte 12; loads are big-endian. */
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(port_id), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    return setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}
