/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* From the address a program dials to the published block of a service, and what to say when there is none. */
#ifndef HEDDLE_FRONTEND_H
#define HEDDLE_FRONTEND_H

#include "block.h"

#define LOOKUPS 3

static __always_inline bool same_key(const struct heddle_frontend_key *a, const struct heddle_frontend_key *b)
{
	return same_address(&a->address, &b->address) && a->port == b->port && a->protocol == b->protocol &&
	       a->scope == b->scope;
}

enum found {
	FOUND_NOTHING,
	FOUND_BLOCK,
	FOUND_FILTERED, /* served, but not here */
	FOUND_PROXIED,
	FOUND_TROUBLE, /* look again */
};

static __always_inline enum found find_block(const struct heddle_frontend_key *key, __u64 client, struct block *b)
{
	/* On the stack: what came in as a pointer cannot be a map's key before Linux 6.2. */
	struct heddle_frontend_key own = *key;
	const struct heddle_frontend *f = bpf_map_lookup_elem(&frontends, &own);
	const __u64 *word;
	bool tunnels;
	__u32 slot;

	if (!f)
		return FOUND_NOTHING;
	b->svc_id = READ_ONCE(f->svc_id);
	b->slot = slot = READ_ONCE(f->slot);
	b->kind = READ_ONCE(f->kind);
	barrier();
	if (!same_key(&f->key, &own))
		return FOUND_TROUBLE;
	tunnels = b->kind & HEDDLE_KIND_TUNNEL;
	b->kind &= ~HEDDLE_KIND_TUNNEL;
	if (b->kind == HEDDLE_KIND_FILTERED)
		return FOUND_FILTERED;
	if (b->kind == HEDDLE_KIND_PROXIED || (tunnels && bpf_map_lookup_elem(&mesh_clients, &client)))
		return FOUND_PROXIED;
	word = bpf_map_lookup_elem(&services, &slot);
	if (!word)
		return FOUND_TROUBLE;
	set_published(b, READ_ONCE(*word));
	/* Empty: not published yet, or withdrawn; then nothing is served here, unless the frontend just changed hands. */
	if (!b->published || !read_header(b))
		return FOUND_TROUBLE;
	return FOUND_BLOCK;
}

/* The backend the flow had, if it still serves; policies do not end flows (spec row 116). */
struct backend_search {
	const struct block *block;
	const struct heddle_origin *origin;
	bool found;
};

static long match_serving(__u32 i, void *data)
{
	struct backend_search *s = data;
	struct choice there;

	if (!read_backend(s->block, i, &there) || there.port != s->origin->backend_port ||
	    !same_address(&there.address, &s->origin->backend))
		return 0;
	s->found = there.state & HEDDLE_BACKEND_SERVING;
	return 1;
}

static __always_inline bool still_serves(const struct block *b, const struct heddle_origin *origin)
{
	struct backend_search search = { .block = b, .origin = origin };

	if (origin->svc_id != b->svc_id)
		return false;
	bpf_loop(b->header.total, match_serving, &search, 0);
	return search.found;
}

static __always_inline enum verdict choose_proxy(const struct block *b, const volatile struct heddle_config *cfg,
						 struct choice *out)
{
	__u32 family = b->family_bit == 2;

	out->address.high = cfg->proxy_address[family].high;
	out->address.low = cfg->proxy_address[family].low;
	out->port = cfg->proxy_port;
	return out->port && out->address.low ? VERDICT_PROXIED : VERDICT_NO_ENDPOINTS;
}

/*
 * `previous`: the flow's last backend, kept if it still serves; its svc_id is 0 if there is none. Returns a verdict.
 * Global, as find_flow_* are: the verifier checks it once by itself, not again on every path of its callers; that
 * takes loading from a second to milliseconds. It must then cope with null pointers.
 */
__noinline int balance(const struct heddle_frontend_key *key, __u64 client, const struct heddle_origin *previous,
		       struct block *b, struct choice *out)
{
	const volatile struct heddle_config *cfg = configuration();
	enum found found = FOUND_NOTHING;
	struct range range;

	if (!cfg || !key || !previous || !b || !out)
		return VERDICT_INCONSISTENT;
	b->family_bit = is_ipv4(&key->address) ? 1 : 2;
	for (int i = 0; i < LOOKUPS; i++) {
		found = find_block(key, client, b);
		if (found == FOUND_NOTHING)
			return VERDICT_OTHER;
		if (found == FOUND_FILTERED)
			return VERDICT_FILTERED;
		if (found == FOUND_PROXIED)
			return choose_proxy(b, cfg, out);
		if (found == FOUND_TROUBLE)
			continue;
		if (still_serves(b, previous)) {
			out->address = previous->backend;
			out->port = previous->backend_port;
			return VERDICT_CHOSEN;
		}
		range = usable(b, client, cfg);
		if (!range.count)
			return b->header.cluster_count || b->header.local_count ? VERDICT_NO_LOCAL : VERDICT_NO_ENDPOINTS;
		if (choose(b, range, client, out))
			return VERDICT_CHOSEN;
	}
	return found == FOUND_TROUBLE && !b->published ? VERDICT_OTHER : VERDICT_INCONSISTENT;
}

/* Processes of the node may reach node ports on loopback, unless one of them listens on that very address and port. */
static __always_inline bool is_loopback(const struct heddle_address *a)
{
	__u64 low = bpf_be64_to_cpu(a->low);

	return a->high == 0 && (low == 1 || low >> 24 == 0xffff7f);
}

/* UDP whose packets the nftables rules translate, as they would for anybody. They do not serve loopback addresses. */
static __always_inline bool is_left_to_rules(const struct endpoint *to)
{
	const volatile struct heddle_config *cfg = configuration();

	return cfg && cfg->rules_serve_udp && !is_loopback(&to->address);
}

static __always_inline bool has_listener(struct bpf_sock_addr *ctx, const struct endpoint *to)
{
	struct bpf_sock_tuple tuple = {};
	__u32 words[4];
	__u32 size;
	struct heddle_address bound;
	struct bpf_sock *sk;
	__u32 bound4;
	bool exact;

	__builtin_memcpy(words, &to->address, sizeof(words));
	if (is_ipv4(&to->address)) {
		tuple.ipv4.daddr = words[3];
		tuple.ipv4.dport = to->port;
		size = sizeof(tuple.ipv4);
	} else {
		__builtin_memcpy(tuple.ipv6.daddr, words, sizeof(words));
		tuple.ipv6.dport = to->port;
		size = sizeof(tuple.ipv6);
	}
	if (ctx->protocol == IPPROTO_TCP)
		sk = bpf_sk_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_udp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return false;
	/* Read before any branch: merged into one load at a computed offset, the verifier would refuse them. */
	bound = address_of(READ_ONCE(sk->src_ip6[0]), READ_ONCE(sk->src_ip6[1]), READ_ONCE(sk->src_ip6[2]),
			   READ_ONCE(sk->src_ip6[3]));
	bound4 = READ_ONCE(sk->src_ip4);
	exact = is_ipv4(&to->address) ? bound4 == words[3] : same_address(&bound, &to->address);
	bpf_sk_release(sk);
	return exact;
}

static __always_inline bool serves_node_ports(struct bpf_sock_addr *ctx, const struct endpoint *to, __u64 client,
					      const volatile struct heddle_config *cfg)
{
	if (bpf_map_lookup_elem(&node_addresses, &to->address))
		return true;
	return cfg->node_port_loopback && client == cfg->node_cookie && is_loopback(&to->address) &&
	       !has_listener(ctx, to);
}

/* HEDDLE_PREFIX_* */
static __always_inline __u32 range_of(const struct heddle_address *address)
{
	struct heddle_prefix prefix = { .length = 128 };
	const __u32 *range;

	__builtin_memcpy(prefix.word, address, sizeof(prefix.word));
	range = bpf_map_lookup_elem(&service_cidrs, &prefix);
	return range ? *range : 0;
}

/* Nothing is served at the address and port: spec rows 102, 103 and 105. */
__noinline int refuse_or_pass(const struct endpoint *to)
{
	const volatile struct heddle_config *cfg = configuration();
	struct heddle_frontend_key live = { .scope = HEDDLE_SCOPE_LIVE };
	__u32 family;
	__u64 low;

	if (!to || !cfg)
		return VERDICT_INCONSISTENT;
	live.address = to->address;
	family = !is_ipv4(&to->address);
	low = bpf_be64_to_cpu(to->address.low);
	if (low >= cfg->cluster_ip_first[family] && low <= cfg->cluster_ip_last[family] &&
	    bpf_map_lookup_elem(&frontends, &live))
		return VERDICT_WRONG_PORT;
	if (!cfg->has_service_cidrs)
		return VERDICT_OTHER;
	return range_of(&to->address) & HEDDLE_PREFIX_SERVICES ? VERDICT_UNALLOCATED : VERDICT_OTHER;
}

/* A pod of the mesh dials a pod of the mesh, not itself, by its address: the proxy takes it through a tunnel. */
static __always_inline bool is_meshed(struct bpf_sock_addr *ctx, const struct endpoint *to, __u64 client,
				      const volatile struct heddle_config *cfg)
{
	const struct heddle_mesh_client *pod;

	if (!cfg->has_mesh || ctx->protocol != IPPROTO_TCP || to->port == bpf_htons(HEDDLE_TUNNEL_PORT))
		return false;
	pod = bpf_map_lookup_elem(&mesh_clients, &client);
	if (!pod || same_address(&pod->address[!is_ipv4(&to->address)], &to->address))
		return false;
	return bpf_map_lookup_elem(&mesh_addresses, &to->address) ||
	       (cfg->has_mesh & 2 && range_of(&to->address) == HEDDLE_PREFIX_UNLISTED);
}

/*
 * What to do with a connect or datagram to `to`. Addresses come before node ports (spec row 94). Only a connect may be
 * of TCP, which is all that tunnels carry.
 */
static __always_inline enum verdict route(struct bpf_sock_addr *ctx, const struct endpoint *to,
					  const struct heddle_origin *previous, const bool connects, struct block *b,
					  struct choice *out)
{
	const volatile struct heddle_config *cfg = configuration();
	struct heddle_frontend_key key = { .address = to->address, .port = to->port, .protocol = ctx->protocol };
	__u32 port = bpf_ntohs(to->port);
	enum verdict verdict;
	__u64 client;

	if (!cfg)
		return VERDICT_INCONSISTENT;
	client = bpf_get_netns_cookie(ctx);
	verdict = balance(&key, client, previous, b, out);
	if (verdict == VERDICT_FILTERED)
		return VERDICT_OTHER;
	if (verdict != VERDICT_OTHER)
		return verdict;
	if (port >= cfg->node_port_first && port <= cfg->node_port_last &&
	    serves_node_ports(ctx, to, client, cfg)) {
		key.address.high = 0;
		key.address.low = is_ipv4(&to->address) ? bpf_cpu_to_be64(0xffff00000000ull) : 0;
		key.scope = HEDDLE_SCOPE_NODE;
		verdict = balance(&key, client, previous, b, out);
		if (verdict != VERDICT_OTHER)
			return verdict;
	}
	if (connects && is_meshed(ctx, to, client, cfg)) {
		b->svc_id = 0;
		verdict = choose_proxy(b, cfg, out);
		return verdict == VERDICT_PROXIED ? VERDICT_MESHED : verdict;
	}
	return refuse_or_pass(to);
}

/* For a hook that may fail the call: 1 lets it go on, 0 ends it with the error set here. */
static __always_inline int refuse(enum verdict verdict)
{
	switch (verdict) {
	case VERDICT_NO_ENDPOINTS:
		count(HEDDLE_REASON_refused_no_endpoints);
		break;
	case VERDICT_WRONG_PORT:
		count(HEDDLE_REASON_refused_wrong_port);
		break;
	case VERDICT_NO_LOCAL:
		count(HEDDLE_REASON_unreachable_no_local);
		break;
	case VERDICT_UNALLOCATED:
		count(HEDDLE_REASON_unreachable_unallocated);
		break;
	default:
		count(HEDDLE_REASON_unreachable_inconsistent);
		break;
	}
	/* Nothing but these two: other errors have frozen kernel NFS clients for good. */
	bpf_set_retval(verdict == VERDICT_NO_ENDPOINTS || verdict == VERDICT_WRONG_PORT ? -ECONNREFUSED : -EHOSTUNREACH);
	return 0;
}

#endif
