/* A connection made on behalf of the agent by a process in another cgroup: what a pod of the node would meet. */
#ifndef CLINUX_CANARY_H
#define CLINUX_CANARY_H

/* Not <sys/socket.h>: what it declares must stay the C library's own in Swift. */
#include <sys/types.h>

struct clinux_canary {
	const void *to; /* struct sockaddr of what is dialled ... */
	unsigned int size; /* ... and its size */
	int listener; /* where the connection should come in, non-blocking */
	int timeout_ms; /* for each step */
	unsigned char password[16]; /* what is said to whoever comes in there */
};

enum clinux_canary_step {
	CLINUX_CANARY_DONE,
	CLINUX_CANARY_KILLED, /* before it was through */
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

/* A process of its own, in the cgroup whose cgroup.procs file is `procs` (NULL: in ours): for one canary after the
 * other it connects to `to`, serves whoever comes to `listener`, reads what the other side says and fills its report
 * in. Then it ends; the calling thread waits for it. What it costs does not depend on the size of this process.
 * -1: there is no process, errno says why. */
int clinux_canaries_run(const char *procs, const struct clinux_canary *canaries,
			struct clinux_canary_report *reports, int count);

#endif
