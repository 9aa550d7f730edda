/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What only userspace needs: names of reasons, and stores into mmap-ed maps whose order readers rely on. */
#ifndef HEDDLE_USERSPACE_H
#define HEDDLE_USERSPACE_H

#include "abi.h"
#include "own_abi.h"

/* Short name for metrics and `agentctl status`; "unknown" for a number that is no reason. */
static inline const char *heddle_reason_name(__u32 reason)
{
	switch (reason) {
#define HEDDLE_REASON_NAME(name, text) \
	case HEDDLE_REASON_##name:     \
		return #name;
		HEDDLE_REASONS(HEDDLE_REASON_NAME)
#undef HEDDLE_REASON_NAME
	default:
		return "unknown";
	}
}

static inline const char *heddle_own_reason_name(__u32 reason)
{
	switch (reason) {
#define HEDDLE_OWN_REASON_NAME(name, text) \
	case HEDDLE_OWN_REASON_##name:     \
		return #name;
		HEDDLE_OWN_REASONS(HEDDLE_OWN_REASON_NAME)
#undef HEDDLE_OWN_REASON_NAME
	default:
		return "unknown";
	}
}

/* Everything written before is visible to whoever sees the value. */
static inline void heddle_publish(__u64 *at, __u64 value)
{
	__atomic_store_n(at, value, __ATOMIC_RELEASE);
}

static inline __u64 heddle_read(const __u64 *at)
{
	return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

/* Stores before come before stores after, for readers on other processors. */
static inline void heddle_store_barrier(void)
{
	__atomic_thread_fence(__ATOMIC_RELEASE);
}

#endif
