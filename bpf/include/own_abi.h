/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What own.bpf.c and userspace share: which connections are the node's own, and for whom the proxy makes them. The maps
 * are pinned and found again by their sizes: another meaning needs another size or name.
 */
#ifndef HEDDLE_OWN_ABI_H
#define HEDDLE_OWN_ABI_H

#include "abi.h"

/*
 * setsockopt(HEDDLE_OWN_LEVEL, HEDDLE_OWN_OPTION, struct heddle_own_claim) on a socket that is not connected yet: this
 * is the proxy's own, and what it connects to shall see `client` as its peer. Nobody else knows the token.
 */
#define HEDDLE_OWN_LEVEL 0x4845
#define HEDDLE_OWN_OPTION 1

struct heddle_own_claim {
	__u64 token[2];
	struct heddle_address client; /* all zero: the application sees the node */
	__u16 client_port; /* network order */
	__u16 unused[3];
};

/* On the proxy's socket: what it claimed. */
struct heddle_own_client {
	struct heddle_address address;
	__u16 port; /* network order */
	__u16 unused[3];
};

/* A connection as its two ends write it; IPv4 is IPv4-mapped. */
struct heddle_own_key {
	struct heddle_address from; /* the node's end */
	struct heddle_address to;
	__u16 from_port; /* network order */
	__u16 to_port; /* network order */
	__u32 unused;
};

enum heddle_own_kind {
	HEDDLE_OWN_PROXY = 1, /* the proxy's, told by the token: it has checked who asks */
	HEDDLE_OWN_PROBE = 2, /* kubelet's, told by its cgroup */
};

/* One that is being made: from its SYN until the other end is established. */
struct heddle_own {
	__u64 socket; /* the node's end, by cookie */
	__u32 kind; /* enum heddle_own_kind */
	__u32 unused;
};

/* Connections that may be in the making to one address at a time. They take microseconds, but a pod need not answer. */
#define HEDDLE_OWN_SHARE 2048

/* One that is established at the node's end, and not yet at the application's. */
struct heddle_own_join {
	struct heddle_own_client client;
	struct heddle_own_key connection;
	__u64 socket;
};

/* On the application's socket: whom it shows instead of its peer, `from`. */
struct heddle_own_shown {
	struct heddle_own_client client;
	struct heddle_address from;
	__u16 from_port; /* network order */
	__u16 unused[3];
};

struct heddle_own_config {
	__u64 token[2]; /* all zero: no claim is right */
	__u64 node_cookie; /* of the node's own network namespace */
	__u64 has_probers;
};

/* What is counted, X(name, what it says). */
#define HEDDLE_OWN_REASONS(X)                                                                         \
	X(own_claimed, "socket of the L7 proxy, known by its token")                                  \
	X(own_refused, "EPERM: a claim to be the L7 proxy with a wrong token")                        \
	X(own_announced, "connection of the node itself, announced before its SYN")                   \
	X(own_joined, "connection of the node itself, arrived at an application")                     \
	X(own_shown, "getpeername or accept answered with the client behind the L7 proxy")            \
	X(own_share_full, "connection of the node itself not announced: too many go to that address") \
	X(own_no_room, "connection of the node itself without its announcement or client: no memory")

enum heddle_own_reason {
#define HEDDLE_OWN_REASON_ENUM(name, text) HEDDLE_OWN_REASON_##name,
	HEDDLE_OWN_REASONS(HEDDLE_OWN_REASON_ENUM)
#undef HEDDLE_OWN_REASON_ENUM
	HEDDLE_OWN_REASON_COUNT
};

#define HEDDLE_SIZE(type, size) _Static_assert(sizeof(struct type) == (size), #type " has a hole or has grown")
HEDDLE_SIZE(heddle_own_claim, 40);
HEDDLE_SIZE(heddle_own_client, 24);
HEDDLE_SIZE(heddle_own_key, 40);
HEDDLE_SIZE(heddle_own, 16);
HEDDLE_SIZE(heddle_own_join, 72);
HEDDLE_SIZE(heddle_own_shown, 48);
HEDDLE_SIZE(heddle_own_config, 32);
#undef HEDDLE_SIZE

#endif
