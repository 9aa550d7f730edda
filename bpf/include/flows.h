/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Unconnected UDP sockets name a destination with every datagram. The socket remembers the backend of each destination:
 * a flow stays with its backend while that serves (spec rows 111, 114-116), and replies show the address dialled.
 * Only one destination of a socket is translated here to the same backend; others are left to the nftables rules,
 * which give their flows another port where two would look the same. Without rules the one sent to last is meant.
 * The kernel holds the socket's lock in sendmsg and recvmsg hooks, so nobody else changes the table meanwhile.
 */
#ifndef HEDDLE_FLOWS_H
#define HEDDLE_FLOWS_H

#include "frontend.h"

/* Index of the flow to this destination, or -1. */
__noinline int find_flow_to(const struct heddle_flows *flows, const struct endpoint *to)
{
	if (!flows || !to)
		return -1;
	for (int i = 0; i < HEDDLE_FLOWS; i++) {
		const struct heddle_origin *origin = &flows->flow[i].origin;

		if (origin->svc_id && origin->dialled_port == to->port && same_address(&origin->dialled, &to->address))
			return i;
	}
	return -1;
}

/* Index of the flow whose replies come from this backend, or -1; of several the one sent to last is meant. */
__noinline int find_flow_from(const struct heddle_flows *flows, const struct endpoint *from)
{
	int match = -1;

	if (!flows || !from)
		return -1;
	for (int i = 0; i < HEDDLE_FLOWS; i++) {
		const struct heddle_origin *origin = &flows->flow[i].origin;

		if (origin->svc_id && !flows->flow[i].name && origin->backend_port == from->port &&
		    same_address(&origin->backend, &from->address) && (match < 0 || flows->recent == (__u32)i))
			match = i;
	}
	return match;
}

/* Another flow than that at `index` has this backend, or did when it was left to the rules. */
__noinline int is_shared(const struct heddle_flows *flows, int index, const struct endpoint *backend)
{
	if (!flows || !backend)
		return false;
	for (int i = 0; i < HEDDLE_FLOWS; i++) {
		const struct heddle_origin *origin = &flows->flow[i].origin;

		if (i != index && origin->svc_id && origin->backend_port == backend->port &&
		    same_address(&origin->backend, &backend->address))
			return true;
	}
	return false;
}

/* The socket sends to the backend itself: what comes from there is not a service's any more. */
__noinline int note_own_name(struct heddle_flows *flows, const struct endpoint *to, __u32 name)
{
	if (!flows || !to)
		return 0;
	for (int i = 0; i < HEDDLE_FLOWS; i++) {
		struct heddle_flow *flow = &flows->flow[i];

		if (flow->origin.svc_id && flow->name < name && flow->origin.backend_port == to->port &&
		    same_address(&flow->origin.backend, &to->address))
			flow->name = name;
	}
	return 0;
}

static __always_inline struct heddle_flow *flow_at(struct heddle_flows *flows, int index)
{
	__u32 bounded = index;

	if (index < 0)
		return NULL;
	barrier_var(bounded); /* else the compiler drops the mask below, which is the bound the verifier understands */
	return &flows->flow[bounded & (HEDDLE_FLOWS - 1)];
}

/* Nothing was published for the service since the backend was found good: svc_id need not be compared. */
static __always_inline bool is_current(const struct heddle_flow *flow)
{
	const __u64 *word = bpf_map_lookup_elem(&services, &flow->slot);

	return word && READ_ONCE(*word) == flow->published;
}

static __always_inline void remember_flow(struct bpf_sock_addr *ctx, struct heddle_flows *flows,
					  struct heddle_flow *flow, const struct endpoint *to, const struct block *b,
					  const struct endpoint *to_backend, __u32 name)
{
	__u32 index;

	if (!flow) {
		if (!flows)
			flows = bpf_sk_storage_get(&socket_flows, ctx->sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (!flows) {
			count(HEDDLE_REASON_storage_failed);
			return;
		}
		index = flows->next % HEDDLE_FLOWS;
		flows->next = index + 1;
		flows->recent = index;
		flow = &flows->flow[index];
	}
	flow->origin.dialled = to->address;
	flow->origin.dialled_port = to->port;
	flow->origin.backend = to_backend->address;
	flow->origin.backend_port = to_backend->port;
	flow->origin.svc_id = b->svc_id;
	flow->published = b->published;
	flow->slot = b->slot;
	flow->name = name;
}

static __always_inline void forget_flow(struct heddle_flow *flow)
{
	__builtin_memset(flow, 0, sizeof(*flow));
}

#endif
