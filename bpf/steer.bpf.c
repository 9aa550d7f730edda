// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Decides, at the SYN, who gets a connection to a pod of the mesh: the listener of tunnels, the application, or nobody.
// One program for all pods of the node, linked to each one's network namespace. It runs where no established socket
// matches: never for a packet of a connection that exists. With SYN cookies it runs twice for a connection, and must
// say the same both times.
#include "common.h"
#include "own.h"
#include "steer_abi.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct heddle_address);
	__type(value, struct heddle_steer_pod);
} steer_pods SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct heddle_steer_port_key);
	__type(value, struct heddle_steer_port);
} steer_ports SEC(".maps");

/* Of tunnels. It holds none of them: one that is closed leaves by itself. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 4096);
	__type(key, struct heddle_address);
	__type(value, __u64);
} steer_listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, HEDDLE_STEER_VERDICTS);
	__type(key, __u32);
	__type(value, __u64);
} steer_counts SEC(".maps");

static __always_inline int counted(__u32 verdict, int answer)
{
	__u64 *counter = bpf_map_lookup_elem(&steer_counts, &verdict);

	if (counter)
		(*counter)++;
	return answer;
}

static __always_inline int give_to_listener(struct bpf_sk_lookup *ctx, const struct heddle_address *pod)
{
	struct bpf_sock *listener = bpf_map_lookup_elem(&steer_listeners, pod);
	long failed;

	if (!listener)
		return counted(HEDDLE_STEER_NO_LISTENER, SK_DROP);
	failed = bpf_sk_assign(ctx, listener, 0);
	bpf_sk_release(listener);
	return failed ? counted(HEDDLE_STEER_NO_LISTENER, SK_DROP) : counted(HEDDLE_STEER_TUNNEL, SK_PASS);
}

/* Not told by the interface: what a pod sends to its own address shows eth0. The kernel drops such sources when they
 * come from outside. */
static __always_inline bool is_itself(const struct heddle_address *local, const struct heddle_address *remote)
{
	if (same_address(local, remote))
		return true;
	if (remote->high == 0 && remote->low == bpf_cpu_to_be64(1))
		return true;
	return remote->high == 0 && bpf_be64_to_cpu(remote->low) >> 24 == (0xffffull << 8 | 127);
}

static __always_inline __u32 kind_of_own(struct bpf_sk_lookup *ctx, const struct heddle_address *local,
					 const struct heddle_address *remote)
{
	struct heddle_own_key key = {
		.from = *remote,
		.to = *local,
		.from_port = (__u16)ctx->remote_port,
		.to_port = bpf_htons((__u16)ctx->local_port),
	};
	const struct heddle_own *own = bpf_map_lookup_elem(&own_connections, &key);

	return own ? own->kind : 0;
}

/* `unknown`: the answer for addresses of the pod that nobody told us of, as fe80:: or a second interface's. */
static __always_inline int decide(struct bpf_sk_lookup *ctx, int unknown)
{
	struct heddle_address local = address_of(0, 0, bpf_htonl(0xffff), ctx->local_ip4);
	struct heddle_address remote = address_of(0, 0, bpf_htonl(0xffff), ctx->remote_ip4);
	const struct heddle_steer_pod *pod;
	const struct heddle_steer_port *port = NULL;
	__u32 mode, own;

	/* Datagrams to a socket that is not connected may be answers to what the pod asked. */
	if (ctx->protocol != IPPROTO_TCP)
		return SK_PASS;
	if (ctx->family == AF_INET6) {
		local = address_of(ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2], ctx->local_ip6[3]);
		remote = address_of(ctx->remote_ip6[0], ctx->remote_ip6[1], ctx->remote_ip6[2], ctx->remote_ip6[3]);
	}
	if (is_itself(&local, &remote))
		return SK_PASS;
	pod = bpf_map_lookup_elem(&steer_pods, &local);
	if (!pod)
		return unknown == SK_PASS ? SK_PASS : counted(HEDDLE_STEER_UNKNOWN_REFUSED, SK_DROP);
	if (ctx->local_port == HEDDLE_TUNNEL_PORT)
		return give_to_listener(ctx, &local);
	mode = pod->mode;
	if (pod->has_ports) {
		struct heddle_steer_port_key key = { .pod = local, .port = (__u16)ctx->local_port };

		port = bpf_map_lookup_elem(&steer_ports, &key);
		if (port && port->mode != HEDDLE_STEER_AS_POD)
			mode = port->mode;
	}
	if (mode != HEDDLE_STEER_STRICT)
		return counted(HEDDLE_STEER_PLAINTEXT, SK_PASS);
	own = kind_of_own(ctx, &local, &remote);
	if (own == HEDDLE_OWN_PROXY)
		return counted(HEDDLE_STEER_OWN, SK_PASS);
	if (own == HEDDLE_OWN_PROBE && port && port->is_probe)
		return counted(HEDDLE_STEER_PROBE, SK_PASS);
	return counted(HEDDLE_STEER_REFUSED, SK_DROP);
}

SEC("sk_lookup")
int steer(struct bpf_sk_lookup *ctx)
{
	return decide(ctx, SK_PASS);
}

/* For pods that take plaintext nowhere, or not on all ports. */
SEC("sk_lookup")
int steer_strict(struct bpf_sk_lookup *ctx)
{
	return decide(ctx, SK_DROP);
}

char _license[] SEC("license") = "Dual BSD/GPL";
