/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What steer.bpf.c and userspace share: who may connect in plaintext to the pods of the mesh on this node. Its maps are
 * pinned in a directory of their own and found by their sizes: another meaning needs another size or name.
 */
#ifndef HEDDLE_STEER_ABI_H
#define HEDDLE_STEER_ABI_H

#include "abi.h"

/* Tunnels come in here, whatever of the application listens there. */
#define HEDDLE_TUNNEL_PORT 15008

enum heddle_steer_mode {
	HEDDLE_STEER_PERMISSIVE = 0, /* plaintext reaches the application */
	HEDDLE_STEER_STRICT = 1,     /* it is refused */
	HEDDLE_STEER_AS_POD = 2,     /* of a port: the pod's mode */
};

struct heddle_steer_pod {
	__u8 mode;      /* enum heddle_steer_mode */
	__u8 has_ports; /* some ports have entries of their own */
	__u8 unused[6];
};

struct heddle_steer_port_key {
	struct heddle_address pod;
	__u16 port; /* host order */
	__u16 unused[3];
};

struct heddle_steer_port {
	__u8 mode;     /* enum heddle_steer_mode */
	__u8 is_probe; /* kubelet asks here whether the pod is well */
	__u8 unused[6];
};

/* What became of the SYNs that were looked at. */
enum heddle_steer_verdict {
	HEDDLE_STEER_TUNNEL,
	HEDDLE_STEER_NO_LISTENER, /* of tunnels: no proxy and no agent */
	HEDDLE_STEER_PLAINTEXT,
	HEDDLE_STEER_OWN, /* the proxy's own, behind a tunnel */
	HEDDLE_STEER_PROBE,
	HEDDLE_STEER_REFUSED,
	HEDDLE_STEER_UNKNOWN_REFUSED, /* to an address of the pod that the agent does not know */
	HEDDLE_STEER_VERDICTS,
};

_Static_assert(sizeof(struct heddle_steer_pod) == 8, "steer_pod");
_Static_assert(sizeof(struct heddle_steer_port_key) == 24, "steer_port_key");
_Static_assert(sizeof(struct heddle_steer_port) == 8, "steer_port");

#endif
