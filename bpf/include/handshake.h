/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What names a connection at both of its ends, and the container that made a socket. */
#ifndef HEDDLE_HANDSHAKE_H
#define HEDDLE_HANDSHAKE_H

#include "kernel.h"

/* Acknowledged is one more at the client: its SYN. */
static __always_inline struct heddle_handshake handshake_of_client(struct bpf_sock_ops *ctx)
{
	struct heddle_handshake handshake = {
		.client = READ_ONCE(ctx->snd_una) - (__u32)READ_ONCE(ctx->bytes_acked) + 1,
		.server = READ_ONCE(ctx->rcv_nxt) - (__u32)READ_ONCE(ctx->bytes_received),
	};

	return handshake;
}

static __always_inline struct heddle_handshake handshake_of_server(struct bpf_sock_ops *ctx)
{
	struct heddle_handshake handshake = {
		.client = READ_ONCE(ctx->rcv_nxt) - (__u32)READ_ONCE(ctx->bytes_received),
		.server = READ_ONCE(ctx->snd_una) - (__u32)READ_ONCE(ctx->bytes_acked),
	};

	return handshake;
}

/* Where the socket was made: a pod may make network namespaces without end, but not cgroups. */
static __always_inline __u64 container_of_socket(struct bpf_sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	return tcp ? ((struct sock *)tcp)->sk_cgrp_data.cgroup->kn->id : 0;
}

#endif
