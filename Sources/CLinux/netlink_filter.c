#include "netlink_filter.h"
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
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

int clinux_keep_translated_flows(int descriptor) {
    /* CTA_STATUS behind nlmsghdr and nfgenmsg; its value, big-endian as loads are, behind the attribute's header. */
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_IMM, 16 + 4),
        BPF_STMT(BPF_LDX | BPF_IMM, CTA_STATUS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_NLATTR),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 3, 0),
        BPF_STMT(BPF_MISC | BPF_TAX, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_IND, 4),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, IPS_DST_NAT, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    return setsockopt(descriptor, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}
