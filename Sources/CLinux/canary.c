/* See canary.h. The child of a process with threads may only make system calls until it ends: that is why it is C. */
#define _GNU_SOURCE
#include "canary.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int join(const char *procs)
{
	int file = open(procs, O_WRONLY | O_CLOEXEC);
	int own;

	if (file >= 0 && write(file, "0", 1) == 1)
		return 0;
	/* With `nsdelegate` nobody leaves his cgroup namespace, and a container has one of its own. */
	own = open("/proc/1/ns/cgroup", O_RDONLY | O_CLOEXEC);
	if (errno != ENOENT || own < 0 || setns(own, CLONE_NEWCGROUP))
		return -1;
	file = open(procs, O_WRONLY | O_CLOEXEC);
	return file >= 0 && write(file, "0", 1) == 1 ? 0 : -1;
}

static int wait_for(int fd, short events, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = fd, .events = events };
	int ready = poll(&poll_fd, 1, timeout_ms);

	if (ready == 0)
		errno = ETIMEDOUT;
	return ready == 1 ? 0 : -1;
}

static int connect_within(int fd, const struct sockaddr *to, socklen_t size, int timeout_ms)
{
	int error = 0;
	socklen_t length = sizeof(error);

	if (connect(fd, to, size) == 0)
		return 0;
	if (errno != EINPROGRESS || wait_for(fd, POLLOUT, timeout_ms))
		return -1;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
	errno = error;
	return error ? -1 : 0;
}

static int visit(const char *procs, const struct sockaddr *to, socklen_t size, int timeout_ms,
		 struct clinux_canary_report *report)
{
	/* Closing with a reset leaves no socket behind that waits. */
	const struct linger reset = { .l_onoff = 1 };
	socklen_t length = sizeof(report->peer);
	int fd;

	report->step = CLINUX_CANARY_JOIN;
	if (procs && join(procs))
		return errno;
	report->step = CLINUX_CANARY_CONNECT;
	fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect_within(fd, to, size, timeout_ms))
		return errno;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	getpeername(fd, (struct sockaddr *)report->peer, &length);
	report->step = CLINUX_CANARY_READ;
	if (wait_for(fd, POLLIN, timeout_ms))
		return errno;
	report->count = read(fd, report->answer, sizeof(report->answer));
	if (report->count < 0)
		return errno;
	report->step = CLINUX_CANARY_DONE;
	return 0;
}

int clinux_canary_start(const char *procs, const void *to, unsigned int size, int timeout_ms, pid_t *pid)
{
	struct clinux_canary_report report = { 0 };
	int ends[2];
	int error;

	if (pipe2(ends, O_CLOEXEC))
		return -1;
	*pid = fork();
	if (*pid == 0) {
		dup2(ends[1], 3);
		/* A listener of the agent must not stay open through us. */
		close_range(4, ~0U, 0);
		report.error = visit(procs, to, size, timeout_ms, &report);
		_exit(write(3, &report, sizeof(report)) == sizeof(report) ? 0 : 1);
	}
	error = errno;
	close(ends[1]);
	if (*pid > 0)
		return ends[0];
	close(ends[0]);
	errno = error;
	return -1;
}
