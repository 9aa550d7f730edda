// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// The node's own connections to pods, while pods are enrolled. The proxy names its sockets by a private setsockopt with
// a token, kubelet is known by its cgroup. Two things come of it: the pod's own rules know such a SYN (own.h), and the
// application sees the client for whom the proxy connects.
//
//     setsockopt (proxy)             own_claims: on its socket
//     before the SYN leaves          own_connections: the addresses, for who decides at the SYN
//     established at the node's end  own_joins: the handshake, which nobody but the two ends knows
//     established at the pod's end   own_shown: on the application's socket, before it can be accepted
//     accept4, getpeername           the client
#include "handshake.h"
#include "own.h"

/* On the proxy's socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct heddle_own_client);
} own_claims SEC(".maps");

/* How many connections are in the making, by where they go. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct heddle_address);
	__type(value, __u32);
} own_shares SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct heddle_handshake);
	__type(value, struct heddle_own_join);
} own_joins SEC(".maps");

/* On the application's socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct heddle_own_shown);
} own_shown SEC(".maps");

/* The cgroups of who probes pods: kubelet's. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u64);
	__type(value, __u32);
} own_probers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct heddle_own_config);
} own_config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HEDDLE_OWN_REASON_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} own_reasons SEC(".maps");

static __always_inline void count(__u32 reason)
{
	__u64 *counter = bpf_map_lookup_elem(&own_reasons, &reason);

	if (counter)
		(*counter)++;
}

static __always_inline const struct heddle_own_config *configuration(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&own_config, &zero);
}

static __always_inline bool knows_token(const struct heddle_own_claim *claim)
{
	const struct heddle_own_config *cfg = configuration();

	return cfg && (cfg->token[0] | cfg->token[1]) && claim->token[0] == cfg->token[0] &&
	       claim->token[1] == cfg->token[1];
}

/* 0: the call ends with EPERM. */
static __always_inline int claim_socket(struct bpf_sockopt *ctx)
{
	const struct heddle_own_claim *claim = ctx->optval;
	struct heddle_own_client client = {}, *stored;

	if (ctx->optname != HEDDLE_OWN_OPTION || !ctx->sk || (void *)(claim + 1) > ctx->optval_end)
		return 0;
	if (!knows_token(claim)) {
		count(HEDDLE_OWN_REASON_own_refused);
		return 0;
	}
	client.address = claim->client;
	client.port = claim->client_port;
	stored = bpf_sk_storage_get(&own_claims, ctx->sk, &client, BPF_SK_STORAGE_GET_F_CREATE);
	if (!stored) {
		count(HEDDLE_OWN_REASON_own_no_room);
		return 0;
	}
	*stored = client;
	count(HEDDLE_OWN_REASON_own_claimed);
	ctx->optlen = -1; /* done: the kernel's own setsockopt is never asked */
	return 1;
}

#define LONGEST_OPTION 4096

SEC("cgroup/setsockopt")
int setsockopt(struct bpf_sockopt *ctx)
{
	if (ctx->level == HEDDLE_OWN_LEVEL)
		return claim_socket(ctx);
	/* Of a longer value only a part is here: the kernel shall take the caller's. */
	if (ctx->optlen > LONGEST_OPTION)
		ctx->optlen = 0;
	return 1;
}

/* Each field is read once and apart: the verifier knows no other loads from this context. */
static __always_inline struct heddle_own_key connection_of(struct bpf_sock_ops *ctx)
{
	struct heddle_own_key key = {};
	__u32 local4 = READ_ONCE(ctx->local_ip4), remote4 = READ_ONCE(ctx->remote_ip4);

	if (READ_ONCE(ctx->family) == AF_INET) {
		key.from = address_of(0, 0, bpf_htonl(0xffff), local4);
		key.to = address_of(0, 0, bpf_htonl(0xffff), remote4);
	} else {
		key.from = address_of(READ_ONCE(ctx->local_ip6[0]), READ_ONCE(ctx->local_ip6[1]),
				      READ_ONCE(ctx->local_ip6[2]), READ_ONCE(ctx->local_ip6[3]));
		key.to = address_of(READ_ONCE(ctx->remote_ip6[0]), READ_ONCE(ctx->remote_ip6[1]),
				    READ_ONCE(ctx->remote_ip6[2]), READ_ONCE(ctx->remote_ip6[3]));
		/* An IPv6 socket that goes to an IPv4-mapped address has the address it comes from apart. */
		if (is_ipv4(&key.to))
			key.from = address_of(0, 0, bpf_htonl(0xffff), local4);
	}
	key.from_port = bpf_htons(READ_ONCE(ctx->local_port));
	key.to_port = bpf_htons(bpf_ntohl(READ_ONCE(ctx->remote_port)));
	return key;
}

/* 0: none of ours. */
static __always_inline __u32 kind_of(struct bpf_sock_ops *ctx, struct bpf_sock *sk)
{
	const struct heddle_own_config *cfg = configuration();
	__u64 container;

	if (bpf_sk_storage_get(&own_claims, sk, NULL, 0))
		return HEDDLE_OWN_PROXY;
	if (!cfg || !cfg->has_probers || bpf_get_netns_cookie(ctx) != cfg->node_cookie)
		return 0;
	container = container_of_socket(sk);
	return bpf_map_lookup_elem(&own_probers, &container) ? HEDDLE_OWN_PROBE : 0;
}

static __always_inline __u32 *share_of(const struct heddle_address *to)
{
	const __u32 none = 0;
	__u32 *share = bpf_map_lookup_elem(&own_shares, to);

	if (share)
		return share;
	bpf_map_update_elem(&own_shares, to, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&own_shares, to);
}

static __always_inline void forget(const struct heddle_own_key *key)
{
	struct heddle_address to = key->to;
	__u32 *share;

	/* Both ends may be at it: one of them succeeds. */
	if (bpf_map_delete_elem(&own_connections, key))
		return;
	share = bpf_map_lookup_elem(&own_shares, &to);
	if (share)
		__sync_fetch_and_add(share, -1);
}

/* Before the SYN leaves. */
static __always_inline void announce(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct heddle_own own = {};
	struct heddle_own_key key;
	__u32 *share;

	if (!sk)
		return;
	own.kind = kind_of(ctx, sk);
	if (!own.kind)
		return;
	key = connection_of(ctx);
	own.socket = bpf_get_socket_cookie(ctx);
	share = share_of(&key.to);
	if (!share) {
		count(HEDDLE_OWN_REASON_own_no_room);
		return;
	}
	if (__sync_fetch_and_add(share, 1) >= HEDDLE_OWN_SHARE) {
		__sync_fetch_and_add(share, -1);
		count(HEDDLE_OWN_REASON_own_share_full);
		return;
	}
	if (bpf_map_update_elem(&own_connections, &key, &own, BPF_NOEXIST)) {
		__sync_fetch_and_add(share, -1);
		count(HEDDLE_OWN_REASON_own_no_room);
		return;
	}
	bpf_sock_ops_cb_flags_set(ctx, ctx->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	count(HEDDLE_OWN_REASON_own_announced);
}

/* At the node's end, before its last packet of the handshake leaves. */
static __always_inline void offer(struct bpf_sock_ops *ctx)
{
	struct heddle_own_join join = {};
	struct heddle_own_client *client;
	struct bpf_sock *sk = ctx->sk;
	struct heddle_handshake handshake;
	struct heddle_own_key key;
	struct heddle_own *own;

	/* Set when it was announced; most sockets were not. */
	if (!sk || !(ctx->bpf_sock_ops_cb_flags & BPF_SOCK_OPS_STATE_CB_FLAG))
		return;
	key = connection_of(ctx);
	own = bpf_map_lookup_elem(&own_connections, &key);
	join.socket = bpf_get_socket_cookie(ctx);
	if (!own || own->socket != join.socket)
		return;
	join.connection = key;
	client = bpf_sk_storage_get(&own_claims, sk, NULL, 0);
	if (client)
		join.client = *client;
	handshake = handshake_of_client(ctx);
	if (bpf_map_update_elem(&own_joins, &handshake, &join, BPF_NOEXIST))
		count(HEDDLE_OWN_REASON_own_no_room);
}

/* At the application's end, before it can accept. */
static __always_inline void take(struct bpf_sock_ops *ctx)
{
	struct heddle_handshake handshake = handshake_of_server(ctx);
	struct heddle_own_join *join = bpf_map_lookup_elem(&own_joins, &handshake);
	struct heddle_own_shown shown = {};
	struct bpf_sock *sk = ctx->sk;
	struct heddle_own_key key;

	if (!join || !sk)
		return;
	key = join->connection;
	shown.client = join->client;
	shown.from = key.from;
	shown.from_port = key.from_port;
	if ((shown.client.address.high | shown.client.address.low) &&
	    !bpf_sk_storage_get(&own_shown, sk, &shown, BPF_SK_STORAGE_GET_F_CREATE))
		count(HEDDLE_OWN_REASON_own_no_room);
	count(HEDDLE_OWN_REASON_own_joined);
	bpf_map_delete_elem(&own_joins, &handshake);
	forget(&key);
}

/* The node's end closes; the other one may never have seen it. */
static __always_inline void withdraw(struct bpf_sock_ops *ctx)
{
	struct heddle_handshake handshake = handshake_of_client(ctx);
	struct heddle_own_key key = connection_of(ctx);
	struct heddle_own *own = bpf_map_lookup_elem(&own_connections, &key);
	struct heddle_own_join *join = bpf_map_lookup_elem(&own_joins, &handshake);
	__u64 socket = bpf_get_socket_cookie(ctx);

	if (join && join->socket == socket)
		bpf_map_delete_elem(&own_joins, &handshake);
	if (own && own->socket == socket)
		forget(&key);
}

SEC("sockops")
int sock_ops(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_TCP_CONNECT_CB)
		announce(ctx);
	else if (ctx->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		offer(ctx);
	else if (ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		take(ctx);
	else if (ctx->op == BPF_SOCK_OPS_STATE_CB && ctx->args[1] == BPF_TCP_CLOSE)
		withdraw(ctx);
	return 1;
}

static __always_inline int on_getpeername(struct bpf_sock_addr *ctx, bool ipv6)
{
	struct heddle_own_shown *shown = bpf_sk_storage_get(&own_shown, ctx->sk, NULL, 0);
	struct endpoint peer;

	if (!shown)
		return 1;
	peer = read_endpoint(ctx, ipv6);
	/* Else it was connected to something else since, or its program expects the other family. */
	if (peer.port != shown->from_port || !same_address(&peer.address, &shown->from) ||
	    is_ipv4(&peer.address) != is_ipv4(&shown->client.address))
		return 1;
	write_endpoint(ctx, ipv6, &shown->client.address, shown->client.port);
	count(HEDDLE_OWN_REASON_own_shown);
	return 1;
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	return on_getpeername(ctx, false);
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	return on_getpeername(ctx, true);
}

char _license[] SEC("license") = "Dual BSD/GPL";
