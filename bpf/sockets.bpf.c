// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Lists the connected UDP sockets that go to a backend of a service. They pass no hook when they send, so userspace
// must find those of a backend that is gone, and sock_diag shows storage of TCP sockets only. Run over socket_origin.
#include "kernel.h"
#include <bpf/bpf_endian.h>

#define TCP_ESTABLISHED 1 /* of a UDP socket: connected */

static __always_inline struct heddle_address peer_of(const struct sock_common *sk)
{
	const __u32 *word = sk->skc_v6_daddr.in6_u.u6_addr32;

	if (sk->skc_family == AF_INET6)
		return address_of(word[0], word[1], word[2], word[3]);
	return address_of(0, 0, bpf_htonl(0xffff), sk->skc_daddr);
}

SEC("iter/bpf_sk_storage_map")
int udp_sockets(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	const struct heddle_origin *origin = ctx->value;
	struct heddle_udp_socket line = {};
	struct sock *sk = ctx->sk;
	struct heddle_address peer;

	if (!sk || !origin || sk->sk_protocol != IPPROTO_UDP || sk->__sk_common.skc_state != TCP_ESTABLISHED)
		return 0;
	line.origin = *origin;
	peer = peer_of(&sk->__sk_common);
	/* Else it was connected once more while our programs were not attached. */
	if (!same_address(&line.origin.backend, &peer) || line.origin.backend_port != sk->__sk_common.skc_dport)
		return 0;
	line.cookie = bpf_get_socket_cookie(sk);
	bpf_seq_write(seq, &line, sizeof(line));
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
