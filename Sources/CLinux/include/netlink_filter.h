/* A socket filter for netlink, whose structs Swift's Glibc module leaves out. */
#ifndef CLINUX_NETLINK_FILTER_H
#define CLINUX_NETLINK_FILTER_H
#include <stdint.h>

/* The socket no longer receives datagrams whose first message was caused by the socket `port_id`. 0, or -1, errno. */
int clinux_ignore_netlink_port(int descriptor, uint32_t port_id);

/* A socket that listens to ctnetlink's events receives only those of flows whose destination was changed. 0, or -1,
 * errno. */
int clinux_keep_translated_flows(int descriptor);

#endif
