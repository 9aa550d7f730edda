/* A connection made on behalf of the agent by a process in another cgroup: what a pod of the node would meet. */
#ifndef CLINUX_CANARY_H
#define CLINUX_CANARY_H

/* Not <sys/socket.h>: what it declares must stay the C library's own in Swift. */
#include <sys/types.h>

enum clinux_canary_step {
	CLINUX_CANARY_DONE,
	CLINUX_CANARY_JOIN, /* the cgroup */
	CLINUX_CANARY_CONNECT,
	CLINUX_CANARY_READ,
};

struct clinux_canary_report {
	int step; /* the one that failed, or DONE */
	int error;
	int count;
	unsigned char answer[32];
	unsigned char peer[128]; /* as getpeername(2) says */
};

/* Starts the process; it connects to `to`, reads what the other side says, writes a report to the descriptor that is
 * returned, and ends. `procs`: the cgroup.procs file of its cgroup, NULL: stay. -1: errno says why. */
int clinux_canary_start(const char *procs, const void *to, unsigned int size, int timeout_ms, pid_t *pid);

#endif
