/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What every part of the programs needs: helpers, and addresses in and out of the context. */
#ifndef HEDDLE_COMMON_H
#define HEDDLE_COMMON_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/errno.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "abi.h"

#ifndef AF_INET
#define AF_INET 2
#define AF_INET6 10
#endif

/* One load, neither repeated nor left out by the compiler. */
#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))

/* Where a socket call goes to or comes from. */
struct endpoint {
	struct heddle_address address;
	__u16 port; /* network order */
};

static __always_inline bool same_address(const struct heddle_address *a, const struct heddle_address *b)
{
	return a->high == b->high && a->low == b->low;
}

static __always_inline struct heddle_address address_of(__u32 a, __u32 b, __u32 c, __u32 d)
{
	__u32 words[4] = { a, b, c, d };
	struct heddle_address address;

	__builtin_memcpy(&address, words, sizeof(address));
	return address;
}

static __always_inline bool is_ipv4(const struct heddle_address *a)
{
	return a->high == 0 && bpf_be64_to_cpu(a->low) >> 32 == 0xffff;
}

static __always_inline struct endpoint read_endpoint(struct bpf_sock_addr *ctx, bool ipv6)
{
	struct endpoint e = { .port = (__u16)ctx->user_port };

	if (ipv6)
		e.address = address_of(ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]);
	else
		e.address = address_of(0, 0, bpf_htonl(0xffff), ctx->user_ip4);
	return e;
}

/* The address is of the family that was read: frontends and backends of a service never differ in it. */
static __always_inline void write_endpoint(struct bpf_sock_addr *ctx, bool ipv6, const struct heddle_address *address,
					   __u16 port)
{
	__u32 words[4];

	__builtin_memcpy(words, address, sizeof(words));
	if (ipv6) {
		ctx->user_ip6[0] = words[0];
		ctx->user_ip6[1] = words[1];
		ctx->user_ip6[2] = words[2];
		ctx->user_ip6[3] = words[3];
	} else {
		ctx->user_ip4 = words[3];
	}
	ctx->user_port = port;
}

#endif
