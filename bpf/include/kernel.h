/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The few fields of kernel structs that are read; where they lie is found when the program is loaded. */
#ifndef HEDDLE_KERNEL_H
#define HEDDLE_KERNEL_H

#include "common.h"

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)


struct net {
	__u64 net_cookie;
};

struct possible_net___kernel {
	struct net *net;
};

struct sock_common {
	struct possible_net___kernel skc_net;
	__u32 skc_daddr;
	__u32 skc_rcv_saddr;
	__u16 skc_dport; /* network order */
	__u16 skc_family;
	unsigned char skc_state;
	unsigned long skc_flags;
	struct in6_addr___kernel {
		union {
			__u32 u6_addr32[4];
		} in6_u;
	} skc_v6_rcv_saddr;
	struct in6_addr___kernel skc_v6_daddr;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
	int sk_err;
	struct sock_cgroup_data sk_cgrp_data;
};
/* enum sock_flags: a FIN has come in. */
#define SOCK_DONE 1

struct inet_sock {
	__u16 inet_sport; /* stays when the connection ends, unlike skc_num */
};

struct inet_connection_sock {
	struct inet_sock icsk_inet;
};

struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u64 bytes_received; /* with one for the FIN */
	__u64 bytes_sent;     /* with what was sent again */
	__u64 bytes_retrans;
	__u32 srtt_us; /* eighths of a microsecond */
};

/* What a program holds of an MPTCP connection; the connection itself is made of TCP sockets. */
struct mptcp_sock {
	struct inet_connection_sock sk;
};

struct task_struct {
	int tgid;
	char comm[16];
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
};

#pragma clang attribute pop

#endif
