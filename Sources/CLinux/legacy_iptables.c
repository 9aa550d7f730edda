/* See legacy_iptables.h. */
#define _GNU_SOURCE
#include "legacy_iptables.h"

#include <netinet/in.h>

#include <errno.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Asking for a table that is not there would make the kernel load and register it. */
static int is_in_use(int family, const char *table) {
	const char *path =
		family == AF_INET ? "/proc/thread-self/net/ip_tables_names" : "/proc/thread-self/net/ip6_tables_names";
	char name[64];
	FILE *names = fopen(path, "re");
	int found = 0;

	while (names && !found && fgets(name, sizeof(name), names)) {
		name[strcspn(name, "\n")] = 0;
		found = !strcmp(name, table);
	}
	if (names)
		fclose(names);
	return found;
}

/* The name of a chain stands in the entries as it is, behind and before zero bytes. */
static int has_chain(int descriptor, int family, const char *table, const char *chain) {
	int level = family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
	/* Both families' structures are alike but for their names; so are the option numbers. */
	struct ipt_getinfo info = {0};
	socklen_t size = sizeof(info);
	struct ipt_get_entries *entries;
	int result;

	strncpy(info.name, table, sizeof(info.name) - 1);
	if (getsockopt(descriptor, level, IPT_SO_GET_INFO, &info, &size))
		return -errno;
	size = sizeof(*entries) + info.size;
	entries = calloc(1, size);
	if (!entries)
		return -ENOMEM;
	strncpy(entries->name, table, sizeof(entries->name) - 1);
	entries->size = info.size;
	result = getsockopt(descriptor, level, IPT_SO_GET_ENTRIES, entries, &size)
			 ? -errno
			 : memmem(entries->entrytable, info.size, chain, strlen(chain) + 1) != NULL;
	free(entries);
	return result;
}

int clinux_legacy_iptables_has(int family, const char *table, const char *chain) {
	int descriptor, result;

	if (!is_in_use(family, table))
		return 0;
	descriptor = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (descriptor < 0)
		return -errno;
	result = has_chain(descriptor, family, table, chain);
	close(descriptor);
	return result;
}
