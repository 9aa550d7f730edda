/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Connections to routed services go to the node's L7 proxy, which must learn what was dialled. It asks as it would ask
 * NAT, with getsockopt(SO_ORIGINAL_DST). Attached only while something is routed.
 *
 * The answer passes from the client's socket to the proxy's end of the same connection when the handshake completes:
 * first at the client, whose last packet then completes it at the proxy. A socket that only claims to be somebody
 * else's never gets that far, and one that stages a handshake (with itself, or with TCP_REPAIR) has other sequence
 * numbers. Should they ever be equal, whoever comes second finds the entry: then neither is believed.
 */
#ifndef HEDDLE_PROXY_H
#define HEDDLE_PROXY_H

#include "handshake.h"
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

/* The container's share; with more containers than the map can hold, the one they have in common, 0. */
static __always_inline __u32 *share_of(__u64 *container)
{
	const __u32 none = 0;
	__u32 *share = bpf_map_lookup_elem(&proxy_shares, container);

	if (share)
		return share;
	if (bpf_map_update_elem(&proxy_shares, container, &none, BPF_NOEXIST) == -E2BIG)
		*container = 0;
	return bpf_map_lookup_elem(&proxy_shares, container);
}

/* At the client's end, before its last packet of the handshake leaves. */
static __always_inline void note_client(struct bpf_sock_ops *ctx)
{
	struct heddle_handshake handshake = handshake_of_client(ctx);
	struct heddle_client client = {}, *other;
	struct bpf_sock *sk = ctx->sk;
	struct heddle_origin *origin;
	__u32 *share;
	long failed;

	if (!sk)
		return;
	origin = bpf_sk_storage_get(&socket_origin, sk, NULL, 0);
	if (!origin || !is_to_proxy(origin))
		return;
	client.dialled.address = origin->dialled;
	client.dialled.port = origin->dialled_port;
	client.socket = bpf_get_socket_cookie(ctx);
	client.container = container_of_socket(sk);
	share = share_of(&client.container);
	if (!share) {
		count(HEDDLE_REASON_proxy_no_room);
		return;
	}
	if (__sync_fetch_and_add(share, 1) >= HEDDLE_PROXY_SHARE) {
		__sync_fetch_and_add(share, -1);
		count(HEDDLE_REASON_proxy_share_full);
		return;
	}
	failed = bpf_map_update_elem(&proxy_clients, &handshake, &client, BPF_NOEXIST);
	if (!failed) {
		bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
		return;
	}
	__sync_fetch_and_add(share, -1);
	other = failed == -EEXIST ? bpf_map_lookup_elem(&proxy_clients, &handshake) : NULL;
	if (other)
		other->is_ambiguous = 1;
	count(other ? HEDDLE_REASON_proxy_ambiguous : HEDDLE_REASON_proxy_no_room);
}

static __always_inline void remove_client(const struct heddle_handshake *handshake, const struct heddle_client *client)
{
	__u64 container = client->container;
	__u32 *share;

	/* Both ends may be at it: one of them succeeds. */
	if (bpf_map_delete_elem(&proxy_clients, handshake))
		return;
	share = bpf_map_lookup_elem(&proxy_shares, &container);
	if (share)
		__sync_fetch_and_add(share, -1);
}

/* At the proxy's end, before the proxy can accept. What NAT brought here has no entry: connection tracking knows it. */
static __always_inline void take_client(struct bpf_sock_ops *ctx)
{
	const volatile struct heddle_config *cfg = configuration();
	struct heddle_handshake handshake = handshake_of_server(ctx);
	struct heddle_client *client;
	struct heddle_dialled dialled;
	struct bpf_sock *sk = ctx->sk;

	if (!cfg || !sk || ctx->local_port != bpf_ntohs(cfg->proxy_port) ||
	    bpf_get_netns_cookie(ctx) != cfg->node_cookie)
		return;
	client = bpf_map_lookup_elem(&proxy_clients, &handshake);
	if (!client)
		return;
	dialled = client->dialled;
	if (!client->is_ambiguous &&
	    !bpf_sk_storage_get(&proxy_dialled, sk, &dialled, BPF_SK_STORAGE_GET_F_CREATE))
		count(HEDDLE_REASON_proxy_no_room);
	remove_client(&handshake, client);
}

/* The client's socket ends; the proxy may never have seen it. */
static __always_inline void forget_client(struct bpf_sock_ops *ctx)
{
	struct heddle_handshake handshake = handshake_of_client(ctx);
	struct heddle_client *client = bpf_map_lookup_elem(&proxy_clients, &handshake);

	if (client && client->socket == bpf_get_socket_cookie(ctx))
		remove_client(&handshake, client);
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
	struct heddle_dialled *dialled;
	void *value = ctx->optval;
	void *end = ctx->optval_end;
	__u32 words[4];

	if (ctx->optname != SO_ORIGINAL_DST || (ctx->level != SOL_IP && ctx->level != SOL_IPV6) || !ctx->sk)
		return;
	dialled = bpf_sk_storage_get(&proxy_dialled, ctx->sk, NULL, 0);
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
