/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The connections that the node itself is making. By its address it cannot be told: whatever is masqueraded comes from
 * there, too. So whoever makes one announces it before its SYN leaves, and what decides at the SYN looks here.
 */
#ifndef HEDDLE_OWN_H
#define HEDDLE_OWN_H

#include "common.h"
#include "own_abi.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct heddle_own_key);
	__type(value, struct heddle_own);
} own_connections SEC(".maps");

#endif
