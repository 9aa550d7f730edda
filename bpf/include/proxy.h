/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Connections to routed services go to the node's L7 proxy, which must learn what was dialled. It asks as it would ask
 * NAT, with getsockopt(SO_ORIGINAL_DST); the answer is written down under the client's own address and port when its
 * connect begins, before the first packet leaves. Attached only while something is routed.
 */
#ifndef HEDDLE_PROXY_H
#define HEDDLE_PROXY_H

#include "maps.h"

#define SO_ORIGINAL_DST 80 /* the same number for IPv4 and IPv6 */
#define SOL_IP 0
#define SOL_IPV6 41

static __always_inline bool is_to_proxy(const struct heddle_origin *origin)
{
	const volatile struct heddle_config *cfg = configuration();
	__u32 family = !is_ipv4(&origin->backend);

	return cfg && origin->backend_port == cfg->proxy_port && origin->backend.high == cfg->proxy_address[family].high &&
	       origin->backend.low == cfg->proxy_address[family].low;
}

/* The socket has its source address and port now, and has sent nothing yet. */
static __always_inline void note_client(struct bpf_sock_ops *ctx)
{
	struct heddle_client client = {};
	struct heddle_dialled dialled = {};
	struct bpf_sock *sk = ctx->sk;
	struct heddle_origin *origin;
	__u32 local4;

	if (!sk)
		return;
	origin = bpf_sk_storage_get(&socket_origin, sk, NULL, 0);
	if (!origin || !is_to_proxy(origin))
		return;
	/* Read before any branch: merged into one load at a computed offset, the verifier would refuse them. */
	client.address = address_of(READ_ONCE(ctx->local_ip6[0]), READ_ONCE(ctx->local_ip6[1]),
				    READ_ONCE(ctx->local_ip6[2]), READ_ONCE(ctx->local_ip6[3]));
	local4 = READ_ONCE(ctx->local_ip4);
	if (is_ipv4(&origin->dialled))
		client.address = address_of(0, 0, bpf_htonl(0xffff), local4);
	client.port = bpf_htons(ctx->local_port);
	dialled.address = origin->dialled;
	dialled.port = origin->dialled_port;
	bpf_map_update_elem(&proxy_clients, &client, &dialled, BPF_ANY);
}

static __always_inline const struct heddle_dialled *find_dialled(struct bpf_sock *sk)
{
	struct heddle_client client = {};
	__u32 peer4;

	client.address = address_of(READ_ONCE(sk->dst_ip6[0]), READ_ONCE(sk->dst_ip6[1]), READ_ONCE(sk->dst_ip6[2]),
				    READ_ONCE(sk->dst_ip6[3]));
	peer4 = READ_ONCE(sk->dst_ip4);
	if (READ_ONCE(sk->family) == AF_INET)
		client.address = address_of(0, 0, bpf_htonl(0xffff), peer4);
	client.port = sk->dst_port;
	return bpf_map_lookup_elem(&proxy_clients, &client);
}

struct answer4 {
	__u16 family;
	__u16 port;
	__u32 address;
	__u64 unused;
};
struct answer6 {
	__u16 family;
	__u16 port;
	__u32 flow;
	__u32 address[4];
	__u32 scope;
};

static __always_inline void answer_original_destination(struct bpf_sockopt *ctx)
{
	const struct heddle_dialled *dialled;
	void *value = ctx->optval;
	void *end = ctx->optval_end;
	__u32 words[4];

	if (ctx->optname != SO_ORIGINAL_DST || (ctx->level != SOL_IP && ctx->level != SOL_IPV6) || !ctx->sk)
		return;
	dialled = find_dialled(ctx->sk);
	if (!dialled)
		return;
	__builtin_memcpy(words, &dialled->address, sizeof(words));
	if (ctx->level == SOL_IP) {
		struct answer4 *answer = value;

		if ((void *)(answer + 1) > end || !is_ipv4(&dialled->address))
			return;
		answer->family = AF_INET;
		answer->port = dialled->port;
		answer->address = words[3];
		answer->unused = 0;
		ctx->optlen = sizeof(*answer);
	} else {
		struct answer6 *answer = value;

		if ((void *)(answer + 1) > end)
			return;
		answer->family = AF_INET6;
		answer->port = dialled->port;
		answer->flow = 0;
		for (int i = 0; i < 4; i++)
			answer->address[i] = words[i];
		answer->scope = 0;
		ctx->optlen = sizeof(*answer);
	}
	/* Apart from optlen: merged into one store of eight bytes, the verifier would refuse it. */
	barrier();
	ctx->retval = 0;
}

#endif
