/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Choosing a backend from a published block: policy, affinity, random pick. */
#ifndef HEDDLE_BLOCK_H
#define HEDDLE_BLOCK_H

#include "maps.h"

/* A published block, as one reader saw it. */
struct block {
	__u32 svc_id;
	__u32 slot;
	__u64 published; /* the word services[slot] */
	__u32 base;
	__u32 generation;
	__u8 kind;
	__u8 family_bit; /* 1: IPv4, 2: IPv6 */
	struct heddle_block header;
};

struct choice {
	struct heddle_address address;
	__u16 port;
	__u8 state;
	__u32 uid;
};

enum verdict {
	VERDICT_OTHER, /* no service */
	VERDICT_FILTERED, /* the companion decides by the source address */
	VERDICT_CHOSEN,
	VERDICT_PROXIED,
	VERDICT_MESHED, /* as before, but what was dialled is a pod */
	VERDICT_NO_ENDPOINTS,
	VERDICT_NO_LOCAL,
	VERDICT_WRONG_PORT,
	VERDICT_UNALLOCATED,
	VERDICT_INCONSISTENT,
};

/* The word holds base in its first four bytes, generation in the others. */
static __always_inline void set_published(struct block *b, __u64 word)
{
	__u32 halves[2];

	__builtin_memcpy(halves, &word, sizeof(halves));
	b->published = word;
	b->base = halves[0];
	b->generation = halves[1];
}

static __always_inline bool read_header(struct block *b)
{
	__u32 index = b->base;
	const struct heddle_block *h = bpf_map_lookup_elem(&backends, &index);

	if (!h)
		return false;
	b->header = *h;
	return b->header.svc_id == b->svc_id && b->header.generation == b->generation;
}

/* The address is read before the generation: userspace writes them the other way round when it reuses memory. */
static __always_inline bool read_backend(const struct block *b, __u32 i, struct choice *out)
{
	__u32 index = b->base + 1 + i;
	const struct heddle_backend *e = bpf_map_lookup_elem(&backends, &index);

	if (!e)
		return false;
	out->address.high = READ_ONCE(e->address.high);
	out->address.low = READ_ONCE(e->address.low);
	out->port = READ_ONCE(e->port);
	out->state = READ_ONCE(e->state);
	out->uid = READ_ONCE(e->uid);
	barrier();
	return READ_ONCE(e->svc_id) == b->svc_id && READ_ONCE(e->generation) == b->generation;
}

struct range {
	__u32 first;
	__u32 count;
};

/* Spec rows 30-34 and 77-79. The caller's sockets are all of this node: pods of it or the node itself. */
static __always_inline struct range usable(const struct block *b, __u64 client,
					   const volatile struct heddle_config *cfg)
{
	bool external = b->kind != HEDDLE_KIND_CLUSTER_IP;
	__u32 flag = external ? HEDDLE_BLOCK_EXTERNAL_LOCAL : HEDDLE_BLOCK_INTERNAL_LOCAL;
	bool local = b->header.flags & flag;

	if (external && (cfg->has_detector & b->family_bit || client == cfg->node_cookie))
		local = false;
	if (local)
		return (struct range){ b->header.local_first, b->header.local_count };
	return (struct range){ 0, b->header.cluster_count };
}

struct uid_search {
	const struct block *block;
	struct range range;
	__u32 uid;
	__u32 index;
	bool found;
};

static long match_uid(__u32 i, void *data)
{
	struct uid_search *s = data;
	__u32 index = s->block->base + 1 + s->range.first + i;
	const struct heddle_backend *e = bpf_map_lookup_elem(&backends, &index);

	if (!e || e->uid != s->uid)
		return 0;
	s->index = s->range.first + i;
	s->found = true;
	return 1;
}

/* The backend this client used last, if that was within the timeout and the range in use still has it. */
static __always_inline bool remembered(const struct block *b, struct range range,
				       const struct heddle_affinity *memory, __u64 now, __u32 *index)
{
	struct uid_search search = { .block = b, .range = range, .uid = memory->uid };
	struct choice there;

	if (now - memory->last_used > (__u64)b->header.affinity_seconds * 1000000000ull)
		return false;
	if (memory->index - range.first < range.count && read_backend(b, memory->index, &there) &&
	    there.uid == memory->uid) {
		*index = memory->index;
		return true;
	}
	bpf_loop(range.count, match_uid, &search, 0);
	if (search.found)
		*index = search.index;
	return search.found;
}

/* Whether the container that calls may make one more entry. Those who race for the last ones may all get one. */
__noinline int takes_affinity_share(__u64 now)
{
	struct heddle_affinity_share first = { .minute = now / 60000000000ull, .entries = 1 }, *share;
	__u64 container = bpf_get_current_cgroup_id();

	share = bpf_map_lookup_elem(&affinity_shares, &container);
	if (!share || share->minute != first.minute) {
		bpf_map_update_elem(&affinity_shares, &container, &first, BPF_ANY);
		return true;
	}
	return __sync_fetch_and_add(&share->entries, 1) < HEDDLE_AFFINITY_SHARE;
}

/* False: the block contradicts itself, look again from the start. */
static __always_inline bool choose(const struct block *b, struct range range, __u64 client, struct choice *out)
{
	/* Scaled, not modulo: every backend equally often. */
	__u32 index = range.first + (__u32)(((__u64)bpf_get_prandom_u32() * range.count) >> 32);
	struct heddle_affinity_key key = { .client = client, .svc_id = b->svc_id };
	struct heddle_affinity memory = {};
	struct heddle_affinity *found;

	if (!b->header.affinity_seconds)
		return read_backend(b, index, out);

	__u64 now = bpf_ktime_get_ns();

	found = bpf_map_lookup_elem(&affinity, &key);
	if (found) {
		memory = *found;
		memory.hits = remembered(b, range, &memory, now, &index) ? memory.hits + 1 : 0;
	}
	if (!read_backend(b, index, out))
		return false;
	memory.last_used = now;
	memory.uid = out->uid;
	memory.index = index;
	if (found)
		*found = memory;
	else if (takes_affinity_share(now))
		bpf_map_update_elem(&affinity, &key, &memory, BPF_ANY);
	else
		count(HEDDLE_REASON_affinity_share_full);
	return true;
}

#endif
