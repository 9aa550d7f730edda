/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the eBPF programs and userspace share: the layout of every map key and value, and the reasons that are counted.
 * This is the only definition; Swift imports it. Raise HEDDLE_SCHEMA_VERSION with every change of layout or meaning:
 * an agent reuses the maps of its predecessor only if the versions are equal.
 *
 * How a service lies in the maps:
 *
 *   frontends   {address, port, protocol} -> {svc_id, slot}
 *   services    [slot]  -> {base, generation}          one aligned 8-byte word; 0: nothing is published here
 *   backends    [base]  -> block header, [base + 1 + i] -> backend i
 *
 * A change of a service writes a new block elsewhere in `backends` and then stores the one word services[slot]. That
 * store is the whole change, for every frontend of the service at once: a reader sees the old block or the new one.
 * The old block is reused only after an RCU grace period. svc_id is never reused and every publication has its own
 * generation; both are repeated in the header and in each backend, so a reader that was late for any reason notices.
 */
#ifndef HEDDLE_ABI_H
#define HEDDLE_ABI_H

#include <linux/types.h>

#define HEDDLE_SCHEMA_VERSION 6

/* 16 bytes in network order; IPv4 is IPv4-mapped (::ffff:a.b.c.d), so there is one form for both families. */
struct heddle_address {
	__u64 high;
	__u64 low;
};

/* What a frontend key means. */
enum heddle_scope {
	HEDDLE_SCOPE_ADDRESS = 0, /* this address and port */
	HEDDLE_SCOPE_NODE = 1,    /* any address in node_addresses; address is 0.0.0.0 (mapped) or :: and gives the family */
	HEDDLE_SCOPE_LIVE = 2,    /* a cluster IP in use; port and protocol are 0. Other ports of it refuse. */
};

struct heddle_frontend_key {
	struct heddle_address address;
	__u16 port; /* network order */
	__u8 protocol;
	__u8 scope; /* enum heddle_scope */
	__u32 unused;
};

enum heddle_kind {
	HEDDLE_KIND_CLUSTER_IP = 0,
	HEDDLE_KIND_EXTERNAL_IP = 1,
	HEDDLE_KIND_LOAD_BALANCER = 2,
	HEDDLE_KIND_NODE_PORT = 3,
	/* A load-balancer address with source ranges. No source is known yet when a socket connects: the packet is left to
	 * the nftables companion. It must be found all the same, or the address would count as unallocated. */
	HEDDLE_KIND_FILTERED = 4,
	/* A cluster IP whose connections the node's L7 proxy answers. The block is published all the same. */
	HEDDLE_KIND_PROXIED = 5,
};
/* Beside one of the first five: the proxy answers what pods of the mesh dial there; others are balanced. */
#define HEDDLE_KIND_TUNNEL 0x80

/*
 * The copy of the key comes first: the memory of a deleted hash element may be given to another key while a reader
 * still holds it. The reader reads svc_id and slot, then compares the copy; the kernel fills an element front to back.
 */
struct heddle_frontend {
	struct heddle_frontend_key key;
	__u32 svc_id;
	__u32 slot;
	__u8 kind; /* enum heddle_kind */
	__u8 unused[7];
};

/* The first entry of a block: which part of the backends each traffic policy may use. */
struct heddle_block {
	__u32 svc_id;
	__u32 generation;
	__u32 total;         /* backends in the block */
	__u32 cluster_count; /* the cluster set is [0, cluster_count) */
	__u32 local_first;   /* the local set is [local_first, local_first + local_count) */
	__u32 local_count;
	__u32 affinity_seconds; /* 0: no session affinity */
	__u32 flags;            /* HEDDLE_BLOCK_* */
};
#define HEDDLE_BLOCK_INTERNAL_LOCAL 1 /* internalTrafficPolicy: Local */
#define HEDDLE_BLOCK_EXTERNAL_LOCAL 2 /* externalTrafficPolicy: Local */

struct heddle_backend {
	struct heddle_address address;
	__u16 port; /* network order */
	__u8 state; /* HEDDLE_BACKEND_* */
	__u8 unused;
	__u32 svc_id;
	__u32 generation;
	__u32 uid; /* for session affinity: another one each time the backend becomes usable; 0: no affinity */
};
#define HEDDLE_BACKEND_LOCAL 1
#define HEDDLE_BACKEND_TERMINATING 2
#define HEDDLE_BACKEND_SERVING 4

#define HEDDLE_NAME_SIZE 64

/* What is needed to read the maps without the agent, and to find a service again after a restart. */
struct heddle_service_name {
	__u32 slot;
	__u8 protocol;
	__u8 family; /* 4 or 6 */
	__u8 unused[2];
	char name_space[HEDDLE_NAME_SIZE];
	char service[HEDDLE_NAME_SIZE];
	char port_name[HEDDLE_NAME_SIZE];
};

struct heddle_affinity_key {
	__u64 client; /* network namespace cookie: a pod, or the node */
	__u32 svc_id;
	__u32 unused;
};

struct heddle_affinity {
	__u64 last_used; /* CLOCK_MONOTONIC, nanoseconds */
	__u32 uid;
	__u32 index; /* where the backend was in its block: usually it still is */
	__u32 hits;  /* connections in a row that this entry led to the same backend */
	__u32 unused;
};

/* For a connected socket: where the program wanted to go, and where we sent it. */
struct heddle_origin {
	struct heddle_address dialled;
	struct heddle_address backend;
	__u16 dialled_port; /* network order */
	__u16 backend_port; /* network order */
	__u32 svc_id;
};

/* For an unconnected UDP socket: the backend of each destination it has sent to, so that a flow stays where it is. */
struct heddle_flow {
	struct heddle_origin origin;
	__u64 published; /* services[slot] when the backend was last found good */
	__u32 slot;
	__u32 name; /* enum heddle_flow_name */
};

/* A backend's datagrams say only who sent them. A socket that knows one backend by several names needs more. */
enum heddle_flow_name {
	HEDDLE_NAME_DIALLED = 0, /* what the backend sends shows the address dialled */
	HEDDLE_NAME_OWN = 1,     /* the socket has since sent to the backend itself: shown as it is, until dialled again */
	HEDDLE_NAME_BY_RULES = 2, /* for good: nftables translates this destination, and its answers */
};
#define HEDDLE_FLOWS 16

struct heddle_flows {
	__u32 recent; /* index of the flow sent to last */
	__u32 next;   /* index that is replaced next */
	struct heddle_flow flow[HEDDLE_FLOWS];
};

/* A connected UDP socket, as sockets.bpf.c lists them. */
struct heddle_udp_socket {
	__u64 cookie;
	struct heddle_origin origin;
};

/* What a connection's client had dialled. */
struct heddle_dialled {
	struct heddle_address address;
	__u16 port; /* network order */
	__u16 unused[3];
};

/*
 * One connection, as both of its ends know it and nobody else: the initial sequence numbers. Addresses and ports are
 * what a socket claims and what NAT may change on the way.
 */
struct heddle_handshake {
	__u32 client;
	__u32 server;
};

/*
 * New entries of affinity that a container may make in a minute. At this pace it would take one container more than
 * four hours to push out what another client has used meanwhile: more than the three hours affinity lasts by default.
 */
#define HEDDLE_AFFINITY_SHARE 256

struct heddle_affinity_share {
	__u32 minute;
	__u32 entries; /* made in it */
};

/* A connection to the proxy whose handshake the client has completed and the proxy's end has not yet. */
struct heddle_client {
	struct heddle_dialled dialled;
	__u64 socket;    /* the client's, by cookie */
	__u64 container; /* the key of its share in proxy_shares */
	__u32 is_ambiguous; /* two sockets claim to be this connection: neither is believed */
	__u32 unused;
};

/* Of such connections that one container may have. They wait for microseconds: more are no honest client's. */
#define HEDDLE_PROXY_SHARE 256

/* What a range in service_cidrs is, of those that have an address the longest. */
#define HEDDLE_PREFIX_SERVICES 1
#define HEDDLE_PREFIX_UNLISTED 2 /* pods may be there that are not listed yet: as if in mesh_addresses */

/*
 * A pod of this node that is in the mesh. Its addresses: IPv4 [0] and IPv6 [1], 0 if it has none. What it dials there
 * is itself.
 */
struct heddle_mesh_client {
	struct heddle_address address[2];
};

/* Where tunnels arrive. Nobody is kept from it: so the proxy's own tunnels do not lead back to the proxy. */
#define HEDDLE_TUNNEL_PORT 15008

struct heddle_prefix {
	__u32 length; /* in bits of the 128-bit form */
	__u32 word[4];
};

/* Written by userspace through mmap, field by field. */
struct heddle_config {
	__u64 node_cookie; /* cookie of the node's own network namespace */
	/*
	 * Bounds that spare a connect to something else the lookups it does not need. They may be too wide, never too
	 * narrow. cluster_ip_*: low halves of the cluster IPs in host order, for IPv4 [0] and IPv6 [1].
	 */
	__u64 cluster_ip_first[2];
	__u64 cluster_ip_last[2];
	__u32 node_port_first; /* host order */
	__u32 node_port_last;
	__u32 has_service_cidrs;
	/* Pods are told apart, bit 0: in IPv4, bit 1: in IPv6; under policy Local they reach the cluster set. */
	__u32 has_detector;
	__u32 node_port_loopback;
	__u16 proxy_port; /* network order; 0: there is no proxy, what is routed refuses */
	__u16 rules_serve_udp; /* the nftables rules beside us carry every UDP service */
	/* Where the proxy listens, reachable from pods and from the node: IPv4 [0] and IPv6 [1]. */
	struct heddle_address proxy_address[2];
	__u32 has_mesh; /* bit 0: there is something in mesh_addresses, bit 1: a range of pods that are not listed */
	__u32 unused;
};

/* One entry, written through mmap. */
struct heddle_meta {
	__u32 schema_version;
	__u32 next_svc_id;
	__u32 next_generation;
	__u32 next_uid;
	__u64 plan_generation; /* of the last plan applied */
	char node_name[256];
};

/* One for each way out of a program, X(name, what it says). */
#define HEDDLE_REASONS(X)                                                                                    \
	X(connect_other, "connect to something that is no service")                                          \
	X(connect_proxied, "connect sent to the L7 proxy")                                                   \
	X(connect_meshed, "connect to the address of a pod of the mesh sent to the L7 proxy")                \
	X(connect_translated, "connect sent to a backend")                                                   \
	X(connect_parked, "connect of a UDP socket whose service has lost its endpoints: waits at the service's address") \
	X(send_other, "datagram to something that is no service")                                            \
	X(send_translated, "datagram of a new flow sent to a backend")                                       \
	X(send_flow, "datagram sent to the backend of its flow")                                             \
	X(send_by_rules, "datagram left to the nftables rules: its backend has another name on the socket")  \
	X(reply_restored, "datagram received: source shown as the service")                                  \
	X(reply_other, "datagram received from something that is no service")                                \
	X(peer_restored, "getpeername answered with the service")                                            \
	X(peer_other, "getpeername of a socket that is not ours")                                            \
	X(refused_no_endpoints, "ECONNREFUSED: the service has no endpoints")                                \
	X(refused_wrong_port, "ECONNREFUSED: the cluster IP has no such port")                               \
	X(unreachable_no_local, "EHOSTUNREACH: policy Local and no endpoint on this node")                   \
	X(unreachable_unallocated, "EHOSTUNREACH: no service has this address of a service CIDR")            \
	X(unreachable_inconsistent, "EHOSTUNREACH: maps contradict each other; must stay 0")                 \
	X(affinity_share_full, "session affinity not remembered: its container has made too many entries in a minute") \
	X(storage_failed, "translated, but no memory to remember it on the socket")                          \
	X(proxy_share_full, "connection to the L7 proxy refused: too many of its container are unfinished")  \
	X(proxy_no_room, "connection to the L7 proxy refused: no memory to say what it dialled")             \
	X(proxy_ambiguous, "connection to the L7 proxy refused: two sockets claim to be it; must stay 0")

enum heddle_reason {
#define HEDDLE_REASON_ENUM(name, text) HEDDLE_REASON_##name,
	HEDDLE_REASONS(HEDDLE_REASON_ENUM)
#undef HEDDLE_REASON_ENUM
	HEDDLE_REASON_COUNT
};

#define HEDDLE_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type " has a hole or has grown")
HEDDLE_SIZE(heddle_address, 16);
HEDDLE_SIZE(heddle_frontend_key, 24);
HEDDLE_SIZE(heddle_frontend, 40);
HEDDLE_SIZE(heddle_block, 32);
HEDDLE_SIZE(heddle_backend, 32);
HEDDLE_SIZE(heddle_service_name, 200);
HEDDLE_SIZE(heddle_affinity_key, 16);
HEDDLE_SIZE(heddle_affinity, 24);
HEDDLE_SIZE(heddle_affinity_share, 8);
HEDDLE_SIZE(heddle_origin, 40);
HEDDLE_SIZE(heddle_flow, 56);
HEDDLE_SIZE(heddle_flows, 8 + HEDDLE_FLOWS * 56);
HEDDLE_SIZE(heddle_udp_socket, 48);
HEDDLE_SIZE(heddle_dialled, 24);
HEDDLE_SIZE(heddle_handshake, 8);
HEDDLE_SIZE(heddle_client, 48);
HEDDLE_SIZE(heddle_prefix, 20);
HEDDLE_SIZE(heddle_mesh_client, 32);
HEDDLE_SIZE(heddle_config, 104);
HEDDLE_SIZE(heddle_meta, 280);
#undef HEDDLE_SIZE

_Static_assert(__builtin_offsetof(struct heddle_frontend, key) == 0, "readers rely on the key coming first");

#endif
