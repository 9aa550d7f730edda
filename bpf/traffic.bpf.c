// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
// Tells of flows to services and counts them, while somebody asks: attached then, detached after, so that it costs
// nothing otherwise. It only looks at what service.bpf.c has decided. Its hooks of the cgroup come after that one's; a
// TCP connection is followed by its changes of state, from the process that begins it to the packet that ends it.
#include "common.h"
#include "maps.h"
#include "kernel.h"
#include "traffic_abi.h"

#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_CLOSE 7

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 21);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct heddle_observer);
} observer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct heddle_traffic_key);
	__type(value, struct heddle_traffic);
} traffic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct heddle_connection);
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct heddle_told);
	__type(value, __u8);
} told SEC(".maps");

static __always_inline struct heddle_observer *observer_state(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&observer, &zero);
}

/* The agent's own service: no namespace of Kubernetes begins like this. */
static __always_inline bool is_own(__u32 svc_id)
{
	const struct heddle_service_name *name = bpf_map_lookup_elem(&service_names, &svc_id);

	return name && name->name_space[0] == '@';
}

/* An event to be filled in and submitted; NULL: nobody wants it, or there are too many, which is counted. What the
 * agent tries for itself is little, and none of what the limit is for. */
static __always_inline struct heddle_flow_event *begin_event(__u32 svc_id)
{
	struct heddle_observer *o = observer_state();
	struct heddle_flow_event *event;
	__u64 now = bpf_ktime_get_ns();

	if (!o || !o->rate)
		return NULL;
	/* At the turn of a second two processors may both start the count anew: a few more than the limit come through. */
	if (o->second != now / 1000000000) {
		o->second = now / 1000000000;
		o->count = 0;
	}
	event = NULL;
	if (is_own(svc_id) || __sync_fetch_and_add(&o->count, 1) < o->rate)
		event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&o->dropped, 1);
		return NULL;
	}
	__builtin_memset(event, 0, sizeof(*event));
	event->time = now;
	return event;
}

static __always_inline struct heddle_traffic_key traffic_key(const struct heddle_origin *origin, __u8 protocol)
{
	struct heddle_traffic_key key = {
		.backend = origin->backend,
		.svc_id = origin->svc_id,
		.backend_port = origin->backend_port,
		.protocol = protocol,
	};

	return key;
}

/* A full map: counted under the key of zeros, which userspace has put in. */
static __always_inline struct heddle_traffic *find_traffic(const struct heddle_traffic_key *key)
{
	const struct heddle_traffic none = {};
	const struct heddle_traffic_key others = {};
	struct heddle_traffic *found = bpf_map_lookup_elem(&traffic, key);

	if (found)
		return found;
	bpf_map_update_elem(&traffic, key, &none, BPF_NOEXIST);
	found = bpf_map_lookup_elem(&traffic, key);
	return found ?: bpf_map_lookup_elem(&traffic, &others);
}

/* How many times in a row session affinity has led this client to the backend it has just been given. */
static __always_inline __u32 affinity_hits(__u64 client, __u32 svc_id)
{
	struct heddle_affinity_key key = { .client = client, .svc_id = svc_id };
	const struct heddle_affinity *found = bpf_map_lookup_elem(&affinity, &key);

	return found ? found->hits : 0;
}

static __always_inline void fill_origin(struct heddle_flow_event *event, const struct heddle_origin *origin)
{
	event->dialled = origin->dialled;
	event->dialled_port = origin->dialled_port;
	event->backend = origin->backend;
	event->backend_port = origin->backend_port;
	event->svc_id = origin->svc_id;
}

static __always_inline void fill_process(struct heddle_flow_event *event)
{
	struct task_struct *task = bpf_get_current_task_btf();

	event->pid = task->tgid;
	bpf_probe_read_kernel(event->command, sizeof(event->command), task->comm);
}

static __always_inline __u64 bytes_received(struct sock *sk, const struct tcp_sock *tcp)
{
	return tcp->bytes_received - (sk->__sk_common.skc_flags >> SOCK_DONE & 1);
}

static __always_inline __u64 bytes_sent(const struct tcp_sock *tcp)
{
	return tcp->bytes_sent - tcp->bytes_retrans;
}

/* What is not yet counted of the connection's bytes. Two at a time may take the same socket: what one counts too much
 * the other counts too little. */
static __always_inline void count_bytes(struct heddle_connection *connection, const struct heddle_traffic_key *key,
					struct sock *sk, const struct tcp_sock *tcp)
{
	struct heddle_traffic *t = find_traffic(key);
	__u64 received = bytes_received(sk, tcp);
	__u64 sent = bytes_sent(tcp);

	if (!t)
		return;
	__sync_fetch_and_add(&t->received, received - __sync_lock_test_and_set(&connection->received, received));
	__sync_fetch_and_add(&t->sent, sent - __sync_lock_test_and_set(&connection->sent, sent));
}

static __always_inline void fill_source(struct heddle_flow_event *event, struct sock *sk,
					 const struct tcp_sock *tcp)
{
	__u32 *v6 = sk->__sk_common.skc_v6_rcv_saddr.in6_u.u6_addr32;

	if (is_ipv4(&event->backend))
		event->source = address_of(0, 0, bpf_htonl(0xffff), sk->__sk_common.skc_rcv_saddr);
	else
		event->source = address_of(v6[0], v6[1], v6[2], v6[3]);
	if (tcp)
		event->source_port = tcp->inet_conn.icsk_inet.inet_sport;
	event->netns = sk->__sk_common.skc_net.net->net_cookie;
}

/* Called by the process itself, in connect(2). */
static __always_inline void begin_connection(struct sock *sk, const struct heddle_origin *origin)
{
	struct heddle_traffic_key key = traffic_key(origin, IPPROTO_TCP);
	struct heddle_traffic *t = find_traffic(&key);
	struct heddle_connection *connection =
		bpf_sk_storage_get(&connections, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	struct task_struct *task = bpf_get_current_task_btf();
	struct heddle_flow_event *event;

	if (t)
		__sync_fetch_and_add(&t->connections, 1);
	if (connection) {
		/* The same socket may have been connected before. */
		__builtin_memset(connection, 0, sizeof(*connection));
		connection->pid = task->tgid;
		bpf_probe_read_kernel(connection->command, sizeof(connection->command), task->comm);
	}
	event = begin_event(origin->svc_id);
	if (!event)
		return;
	event->kind = HEDDLE_FLOW_CONNECT;
	event->protocol = IPPROTO_TCP;
	fill_origin(event, origin);
	fill_process(event);
	fill_source(event, sk, NULL);
	event->affinity_hits = affinity_hits(event->netns, origin->svc_id);
	bpf_ringbuf_submit(event, 0);
}

static __always_inline void end_connection(struct sock *sk, const struct heddle_origin *origin,
					   struct heddle_connection *connection, bool failed)
{
	struct heddle_traffic_key key = traffic_key(origin, IPPROTO_TCP);
	struct heddle_traffic *t = find_traffic(&key);
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct heddle_flow_event *event;

	if (failed && t)
		__sync_fetch_and_add(&t->failures, 1);
	if (!failed && tcp && connection)
		count_bytes(connection, &key, sk, tcp);
	event = begin_event(origin->svc_id);
	if (!event)
		return;
	event->kind = failed ? HEDDLE_FLOW_FAILED : HEDDLE_FLOW_CLOSED;
	event->protocol = IPPROTO_TCP;
	event->error = sk->sk_err;
	fill_origin(event, origin);
	fill_source(event, sk, tcp);
	if (connection) {
		event->pid = connection->pid;
		__builtin_memcpy(event->command, connection->command, sizeof(event->command));
		if (connection->established)
			event->duration = event->time - connection->established;
	}
	if (tcp && !failed) {
		event->received = bytes_received(sk, tcp);
		event->sent = bytes_sent(tcp);
		event->rtt = tcp->srtt_us >> 3;
	}
	bpf_ringbuf_submit(event, 0);
}

SEC("tp_btf/inet_sock_set_state")
int set_state(__u64 *arguments)
{
	struct sock *sk = (void *)arguments[0];
	int from = arguments[1];
	int to = arguments[2];
	struct heddle_origin *origin;
	struct heddle_connection *connection;

	if (sk->sk_protocol != IPPROTO_TCP || (from == TCP_CLOSE && to != TCP_SYN_SENT))
		return 0;
	origin = bpf_sk_storage_get(&socket_origin, sk, NULL, 0);
	if (!origin)
		return 0;
	if (to == TCP_SYN_SENT) {
		begin_connection(sk, origin);
		return 0;
	}
	connection = bpf_sk_storage_get(&connections, sk, NULL, 0);
	if (to == TCP_ESTABLISHED && connection)
		connection->established = bpf_ktime_get_ns();
	if (to == TCP_CLOSE)
		end_connection(sk, origin, connection, from == TCP_SYN_SENT);
	return 0;
}

/* The service at an address that was refused; 0: there is none. */
static __always_inline __u32 service_at(const struct bpf_sock_addr *ctx, const struct endpoint *to)
{
	struct heddle_frontend_key key = { .address = to->address, .port = to->port, .protocol = ctx->protocol };
	const struct heddle_frontend *found = bpf_map_lookup_elem(&frontends, &key);

	if (!found) {
		key.address.high = 0;
		key.address.low = is_ipv4(&to->address) ? bpf_cpu_to_be64(0xffff00000000ull) : 0;
		key.scope = HEDDLE_SCOPE_NODE;
		found = bpf_map_lookup_elem(&frontends, &key);
	}
	return found ? found->svc_id : 0;
}

static __always_inline void tell(struct bpf_sock_addr *ctx, const struct heddle_origin *origin, __u8 kind, __u32 error)
{
	struct heddle_traffic_key key = traffic_key(origin, ctx->protocol);
	struct heddle_traffic *t = find_traffic(&key);
	struct heddle_flow_event *event;

	if (t)
		__sync_fetch_and_add(error ? &t->failures : &t->connections, 1);
	event = begin_event(origin->svc_id);
	if (!event)
		return;
	event->kind = kind;
	event->protocol = ctx->protocol;
	event->error = error;
	event->netns = bpf_get_netns_cookie(ctx);
	if (!error)
		event->affinity_hits = affinity_hits(event->netns, origin->svc_id);
	fill_origin(event, origin);
	fill_process(event);
	bpf_ringbuf_submit(event, 0);
}

static __always_inline bool tell_refusal(struct bpf_sock_addr *ctx, const struct endpoint *to)
{
	struct heddle_origin origin = { .dialled = to->address, .dialled_port = to->port };
	int result = bpf_get_retval();

	if (result >= 0)
		return false;
	origin.svc_id = service_at(ctx, to);
	tell(ctx, &origin, HEDDLE_FLOW_REFUSED, -result);
	return true;
}

static __always_inline int after_connect(struct bpf_sock_addr *ctx, bool ipv6)
{
	struct endpoint to = read_endpoint(ctx, ipv6);
	struct heddle_origin *origin;

	/* Of TCP the states tell more. */
	if (tell_refusal(ctx, &to) || ctx->protocol != IPPROTO_UDP)
		return 1;
	origin = bpf_sk_storage_get(&socket_origin, ctx->sk, NULL, 0);
	if (origin)
		tell(ctx, origin, HEDDLE_FLOW_DATAGRAMS, 0);
	return 1;
}

static __always_inline int after_sendmsg(struct bpf_sock_addr *ctx, bool ipv6)
{
	struct endpoint to = read_endpoint(ctx, ipv6);
	struct heddle_told flow = {};
	struct heddle_flows *flows;
	struct heddle_origin *origin;
	const __u8 yes = 1;

	if (tell_refusal(ctx, &to))
		return 1;
	flows = bpf_sk_storage_get(&socket_flows, ctx->sk, NULL, 0);
	if (!flows)
		return 1;
	origin = &flows->flow[flows->recent & (HEDDLE_FLOWS - 1)].origin;
	if (!origin->svc_id || origin->backend_port != to.port || !same_address(&origin->backend, &to.address))
		return 1;
	flow.cookie = bpf_get_socket_cookie(ctx);
	flow.origin = *origin;
	if (!bpf_map_update_elem(&told, &flow, &yes, BPF_NOEXIST))
		tell(ctx, origin, HEDDLE_FLOW_DATAGRAMS, 0);
	return 1;
}

/* Counts what sockets have transferred so far, and lists them. */
SEC("iter/bpf_sk_storage_map")
int live(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct sock *sk = ctx->sk;
	const struct heddle_origin *value = ctx->value;
	struct heddle_connection *connection;
	struct heddle_origin origin;
	struct heddle_live line = {};
	struct tcp_sock *tcp;

	/* An MPTCP connection repeats what its first TCP socket has. */
	if (!sk || !value || (sk->sk_protocol != IPPROTO_TCP && sk->sk_protocol != IPPROTO_UDP))
		return 0;
	origin = *value;
	line.key = traffic_key(&origin, sk->sk_protocol);
	if (sk->sk_protocol == IPPROTO_TCP) {
		if (sk->__sk_common.skc_state == TCP_SYN_SENT || sk->__sk_common.skc_state == TCP_CLOSE)
			return 0;
		tcp = bpf_skc_to_tcp_sock(sk);
		if (!tcp)
			return 0;
		line.rtt = tcp->srtt_us >> 3;
		connection = bpf_sk_storage_get(&connections, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		if (connection)
			count_bytes(connection, &line.key, sk, tcp);
	}
	bpf_seq_write(seq, &line, sizeof(line));
	return 0;
}

#define PROGRAM(hook, handler, ipv6)             \
	SEC("cgroup/" #hook)                     \
	int after_##hook(struct bpf_sock_addr *ctx) \
	{                                        \
		return handler(ctx, ipv6);       \
	}

PROGRAM(connect4, after_connect, false)
PROGRAM(connect6, after_connect, true)
PROGRAM(sendmsg4, after_sendmsg, false)
PROGRAM(sendmsg6, after_sendmsg, true)

char _license[] SEC("license") = "Dual BSD/GPL";
