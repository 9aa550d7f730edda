/* System calls and constants that Swift's Glibc module cannot name: one header and one .c file per topic. Each header
 * is listed here, because the compiler's module cache notices a changed header but not a new one. */
#ifndef CLINUX_H
#define CLINUX_H
#include "bpf_file_system.h"
#include "bpf_probe.h"
#include "canary.h"
#include "cgroups.h"
#include "confine.h"
#include "events.h"
#include "legacy_iptables.h"
#include "namespaces.h"
#include "netlink_filter.h"
#include "other_process.h"
#include "passed_descriptor.h"
#include "process.h"
#include "signals.h"
#endif
