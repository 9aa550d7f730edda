/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What traffic.bpf.c and userspace share. Nothing here outlives the agent: its maps are not pinned, its programs are
 * detached when the agent ends, so no schema version is needed.
 */
#ifndef HEDDLE_TRAFFIC_ABI_H
#define HEDDLE_TRAFFIC_ABI_H

#include "abi.h"

enum heddle_flow_kind {
	HEDDLE_FLOW_CONNECT = 0,   /* the first packet of a TCP connection is about to leave */
	HEDDLE_FLOW_DATAGRAMS = 1, /* the first datagram to a destination, or connect(2) of a UDP socket */
	HEDDLE_FLOW_REFUSED = 2,   /* connect or send failed with `error` before any packet */
	HEDDLE_FLOW_FAILED = 3,    /* a TCP connection did not come about: `error` */
	HEDDLE_FLOW_CLOSED = 4,    /* a TCP connection ended */
};

#define HEDDLE_COMMAND_SIZE 16

struct heddle_flow_event {
	__u64 time;     /* CLOCK_MONOTONIC, nanoseconds */
	__u64 duration; /* CLOSED: nanoseconds since the connection was established */
	__u64 received; /* CLOSED: bytes */
	__u64 sent;     /* CLOSED: bytes */
	__u64 netns;    /* cookie of the client's network namespace */
	struct heddle_address source; /* zero: not chosen yet */
	struct heddle_address dialled;
	struct heddle_address backend;
	__u16 source_port; /* network order, as all; 0: not chosen yet */
	__u16 dialled_port;
	__u16 backend_port;
	__u8 protocol;
	__u8 kind; /* enum heddle_flow_kind */
	__u32 svc_id; /* 0: no service has the address */
	__u32 pid; /* 0: unknown, the connection is older than the observer */
	__u32 error;
	__u32 rtt; /* microseconds, smoothed; 0: not measured */
	__u32 affinity_hits;
	char command[HEDDLE_COMMAND_SIZE];
	__u32 unused;
};

/* What one backend of one service was seen to do. */
struct heddle_traffic_key {
	struct heddle_address backend; /* zero: there was none to choose */
	__u32 svc_id;                  /* 0: those that found no room in the map */
	__u16 backend_port;
	__u8 protocol;
	__u8 unused;
};

struct heddle_traffic {
	__u64 connections; /* TCP connections begun, UDP flows */
	__u64 failures;    /* refused, or not established */
	__u64 received;    /* bytes of TCP connections */
	__u64 sent;
};

/* On a TCP socket, while something is observed. */
struct heddle_connection {
	__u64 established; /* CLOCK_MONOTONIC; 0: not seen */
	__u64 received;    /* what of it is in heddle_traffic already */
	__u64 sent;
	__u32 pid;
	__u32 unused;
	char command[HEDDLE_COMMAND_SIZE];
};

/* A flow of an unconnected socket that was told of. */
struct heddle_told {
	__u64 cookie;
	struct heddle_origin origin;
};

/* What the iterator says of a socket. */
struct heddle_live {
	struct heddle_traffic_key key;
	__u32 rtt; /* microseconds, smoothed; 0: not measured */
	__u32 unused;
};

/* One entry, mapped by userspace, which writes `rate`. */
struct heddle_observer {
	__u64 second; /* the limit counts in seconds of CLOCK_MONOTONIC */
	__u64 count;
	__u64 dropped; /* events above the limit, or that found the ring buffer full */
	__u32 rate;    /* most events in a second; 0: only count traffic */
	__u32 unused;
};

_Static_assert(sizeof(struct heddle_flow_event) == 136, "heddle_flow_event has a hole or has grown");
_Static_assert(sizeof(struct heddle_traffic_key) == 24, "heddle_traffic_key has a hole or has grown");
_Static_assert(sizeof(struct heddle_connection) == 48, "heddle_connection has a hole or has grown");
_Static_assert(sizeof(struct heddle_told) == 48, "heddle_told has a hole or has grown");
_Static_assert(sizeof(struct heddle_live) == 32, "heddle_live has a hole or has grown");
_Static_assert(sizeof(struct heddle_observer) == 32, "heddle_observer has a hole or has grown");

#endif
