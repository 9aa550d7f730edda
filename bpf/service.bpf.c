// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Socket load balancing: the destination of connect(2) and sendmsg(2) becomes a backend's address before the first
// packet exists, and recvmsg(2) and getpeername(2) show the service again. From then on a connection costs what a
// direct one costs. The programs hook a cgroup and see its processes only; abi.h says how services lie in the maps.
#include "common.h"
#include "maps.h"
#include "block.h"
#include "frontend.h"
#include "flows.h"
#include "proxy.h"
#include <bpf/bpf_core_read.h>

/* The MPTCP connection whose first TCP socket this is: the one of which the program will ask the peer's name. */
static __always_inline struct mptcp_sock *mptcp_of(struct bpf_sock_addr *ctx)
{
	if (ctx->protocol != IPPROTO_TCP || !bpf_core_type_exists(struct mptcp_sock) ||
	    !bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_skc_to_mptcp_sock))
		return NULL;
	return bpf_skc_to_mptcp_sock(ctx->sk);
}

static __always_inline void remember(struct bpf_sock_addr *ctx, const struct endpoint *to, const struct block *b,
				     const struct choice *to_backend)
{
	struct heddle_origin origin = {
		.dialled = to->address,
		.dialled_port = to->port,
		.backend = to_backend->address,
		.backend_port = to_backend->port,
		.svc_id = b->svc_id,
	};
	struct heddle_origin *stored =
		bpf_sk_storage_get(&socket_origin, ctx->sk, &origin, BPF_SK_STORAGE_GET_F_CREATE);
	struct mptcp_sock *mptcp = mptcp_of(ctx);

	if (stored)
		*stored = origin;
	else
		count(HEDDLE_REASON_storage_failed);
	if (mptcp) {
		stored = bpf_sk_storage_get(&socket_origin, mptcp, &origin, BPF_SK_STORAGE_GET_F_CREATE);
		if (stored)
			*stored = origin;
	}
}

/* The socket may have been connected through us before: it is not any more. */
static __always_inline void forget(struct bpf_sock_addr *ctx)
{
	struct mptcp_sock *mptcp = mptcp_of(ctx);

	if (mptcp)
		bpf_sk_storage_delete(&socket_origin, mptcp);
	bpf_sk_storage_delete(&socket_origin, ctx->sk);
}

/*
 * A UDP socket that goes to this service already, which has no endpoints for now: userspace connects it anew, for its
 * program may only send and never connect again. At the service's own address the nftables rules refuse or drop what it
 * sends (spec rows 98, 99), until it is connected to the next endpoint.
 */
static __always_inline bool park(struct bpf_sock_addr *ctx, const struct endpoint *to)
{
	struct heddle_origin *origin;

	if (ctx->protocol != IPPROTO_UDP)
		return false;
	origin = bpf_sk_storage_get(&socket_origin, ctx->sk, NULL, 0);
	if (!origin || origin->dialled_port != to->port || !same_address(&origin->dialled, &to->address))
		return false;
	origin->backend = to->address;
	origin->backend_port = to->port;
	count(HEDDLE_REASON_connect_parked);
	return true;
}

static __always_inline int on_connect(struct bpf_sock_addr *ctx, bool ipv6)
{
	struct endpoint to = read_endpoint(ctx, ipv6);
	const struct heddle_origin none = {};
	struct block block = {};
	struct choice choice = {};
	enum verdict verdict;

	if (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP)
		return 1;
	verdict = route(ctx, &to, &none, true, &block, &choice);
	if (verdict == VERDICT_CHOSEN || verdict == VERDICT_PROXIED || verdict == VERDICT_MESHED) {
		remember(ctx, &to, &block, &choice);
		write_endpoint(ctx, ipv6, &choice.address, choice.port);
		count(verdict == VERDICT_CHOSEN	   ? HEDDLE_REASON_connect_translated
		      : verdict == VERDICT_PROXIED ? HEDDLE_REASON_connect_proxied
						   : HEDDLE_REASON_connect_meshed);
		return 1;
	}
	if ((verdict == VERDICT_NO_ENDPOINTS || verdict == VERDICT_NO_LOCAL) && park(ctx, &to))
		return 1;
	forget(ctx);
	/* Resolvers connect a UDP socket to any port, to learn which address they would send from, and send nothing. */
	if (verdict != VERDICT_OTHER && !(verdict == VERDICT_WRONG_PORT && ctx->protocol == IPPROTO_UDP))
		return refuse(verdict);
	count(HEDDLE_REASON_connect_other);
	return 1;
}

/* Only for datagrams that name their destination: those of a connected socket go where connect sent it. */
static __always_inline int on_sendmsg(struct bpf_sock_addr *ctx, bool ipv6)
{
	struct endpoint to = read_endpoint(ctx, ipv6);
	struct heddle_flows *flows = bpf_sk_storage_get(&socket_flows, ctx->sk, NULL, 0);
	int index = flows ? find_flow_to(flows, &to) : -1;
	struct heddle_flow *flow = flows ? flow_at(flows, index) : NULL;
	struct heddle_origin previous = {};
	struct endpoint backend;
	struct block block = {};
	struct choice choice = {};
	enum verdict verdict;

	if (flow && flow->name == HEDDLE_NAME_BY_RULES && is_left_to_rules(&to)) {
		count(HEDDLE_REASON_send_by_rules);
		return 1;
	}
	if (flow)
		flows->recent = index;
	if (flow && is_current(flow)) {
		flow->name = HEDDLE_NAME_DIALLED;
		write_endpoint(ctx, ipv6, &flow->origin.backend, flow->origin.backend_port);
		count(HEDDLE_REASON_send_flow);
		return 1;
	}
	if (flow)
		previous = flow->origin;
	verdict = route(ctx, &to, &previous, false, &block, &choice);
	if (verdict == VERDICT_CHOSEN) {
		backend = (struct endpoint){ choice.address, choice.port };
		if (flows && is_shared(flows, index, &backend) && is_left_to_rules(&to)) {
			remember_flow(ctx, flows, flow, &to, &block, &backend, HEDDLE_NAME_BY_RULES);
			count(HEDDLE_REASON_send_by_rules);
			return 1;
		}
		remember_flow(ctx, flows, flow, &to, &block, &backend, HEDDLE_NAME_DIALLED);
		write_endpoint(ctx, ipv6, &choice.address, choice.port);
		count(HEDDLE_REASON_send_translated);
		return 1;
	}
	if (flow)
		forget_flow(flow);
	if (verdict != VERDICT_OTHER)
		return refuse(verdict);
	if (flows)
		note_own_name(flows, &to, is_left_to_rules(&to) ? HEDDLE_NAME_BY_RULES : HEDDLE_NAME_OWN);
	count(HEDDLE_REASON_send_other);
	return 1;
}

static __always_inline bool is_from_backend(const struct heddle_origin *origin, const struct endpoint *from)
{
	return origin->backend_port == from->port && same_address(&origin->backend, &from->address);
}

static __always_inline int on_recvmsg(struct bpf_sock_addr *ctx, bool ipv6)
{
	struct endpoint from = read_endpoint(ctx, ipv6);
	struct heddle_origin *origin;
	struct heddle_flows *flows;
	struct heddle_flow *flow;

	/* A connected socket hears its peer only. What it was connected to before it was disconnected is history. */
	if (READ_ONCE(ctx->sk->state) == BPF_TCP_ESTABLISHED) {
		origin = bpf_sk_storage_get(&socket_origin, ctx->sk, NULL, 0);
		if (origin && !is_from_backend(origin, &from))
			origin = NULL;
	} else {
		flows = bpf_sk_storage_get(&socket_flows, ctx->sk, NULL, 0);
		flow = flows ? flow_at(flows, find_flow_from(flows, &from)) : NULL;
		origin = flow ? &flow->origin : NULL;
	}
	if (!origin) {
		count(HEDDLE_REASON_reply_other);
		return 1;
	}
	write_endpoint(ctx, ipv6, &origin->dialled, origin->dialled_port);
	count(HEDDLE_REASON_reply_restored);
	return 1;
}

static __always_inline int on_getpeername(struct bpf_sock_addr *ctx, bool ipv6)
{
	struct endpoint peer = read_endpoint(ctx, ipv6);
	struct heddle_origin *origin = bpf_sk_storage_get(&socket_origin, ctx->sk, NULL, 0);

	if (!origin || !is_from_backend(origin, &peer)) {
		count(HEDDLE_REASON_peer_other);
		return 1;
	}
	write_endpoint(ctx, ipv6, &origin->dialled, origin->dialled_port);
	count(HEDDLE_REASON_peer_restored);
	return 1;
}

SEC("sockops")
int sock_ops(struct bpf_sock_ops *ctx)
{
	if (ctx->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		note_client(ctx);
	else if (ctx->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB)
		take_client(ctx);
	else if (ctx->op == BPF_SOCK_OPS_STATE_CB && ctx->args[1] == BPF_TCP_CLOSE)
		forget_client(ctx);
	return 1;
}

SEC("cgroup/getsockopt")
int getsockopt(struct bpf_sockopt *ctx)
{
	answer_original_destination(ctx);
	return 1;
}

/* IPv4-mapped destinations of IPv6 sockets arrive at the hooks for IPv6, in the form the maps use anyway. */
#define PROGRAM(hook, handler, ipv6)            \
	SEC("cgroup/" #hook)                    \
	int hook(struct bpf_sock_addr *ctx)     \
	{                                       \
		return handler(ctx, ipv6);      \
	}

PROGRAM(connect4, on_connect, false)
PROGRAM(connect6, on_connect, true)
PROGRAM(sendmsg4, on_sendmsg, false)
PROGRAM(sendmsg6, on_sendmsg, true)
PROGRAM(recvmsg4, on_recvmsg, false)
PROGRAM(recvmsg6, on_recvmsg, true)
PROGRAM(getpeername4, on_getpeername, false)
PROGRAM(getpeername6, on_getpeername, true)

char _license[] SEC("license") = "Dual BSD/GPL";
