/* Rules of the old iptables interface, which is not nftables. */
#ifndef CLINUX_LEGACY_IPTABLES_H
#define CLINUX_LEGACY_IPTABLES_H

/* 1: `table` of this family has a chain named `chain`; 0: it has not, or is not in use; -errno. AF_INET or AF_INET6. */
int clinux_legacy_iptables_has(int family, const char *table, const char *chain);

#endif
