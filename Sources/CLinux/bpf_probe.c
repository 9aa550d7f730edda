#define _GNU_SOURCE
#include "bpf_probe.h"

#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int bpf_call(int command, union bpf_attr *attr)
{
    int fd = (int)syscall(__NR_bpf, command, attr, sizeof(*attr));
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

int clinux_probe_cgroup_bpf(void)
{
    /* r0 = 1; exit: "let the connect pass". */
    struct bpf_insn allow[] = {
        { .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1 },
        { .code = BPF_JMP | BPF_EXIT },
    };
    union bpf_attr program;
    memset(&program, 0, sizeof(program));
    program.prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR;
    program.expected_attach_type = BPF_CGROUP_INET4_CONNECT;
    program.insns = (unsigned long)allow;
    program.insn_cnt = sizeof(allow) / sizeof(allow[0]);
    program.license = (unsigned long)"GPL";
    if (bpf_call(BPF_PROG_LOAD, &program) != 0)
        return -1;

    union bpf_attr map;
    memset(&map, 0, sizeof(map));
    map.map_type = BPF_MAP_TYPE_ARRAY;
    map.key_size = 4;
    map.value_size = 8;
    map.max_entries = 1;
    return bpf_call(BPF_MAP_CREATE, &map);
}
