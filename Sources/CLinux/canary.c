/* See canary.h. The child borrows the memory of a process with threads, so it may only make system calls until it ends:
 * that is why it is C. */
#define _GNU_SOURCE
#include "canary.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
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

/* Whoever comes gets the password, until the caller's own connection `fd` has something to read. */
static int serve(const struct clinux_canary *canary, int fd)
{
	struct pollfd waiting[2] = {
		{ .fd = fd, .events = POLLIN },
		{ .fd = canary->listener, .events = POLLIN },
	};
	int visitors;

	/* Somebody may knock all the time. */
	for (visitors = 0; visitors < 64; visitors++) {
		int ready = poll(waiting, 2, canary->timeout_ms);
		int peer;

		if (ready <= 0) {
			errno = ready ? errno : ETIMEDOUT;
			return -1;
		}
		if (waiting[0].revents)
			return 0;
		peer = accept(canary->listener, NULL, NULL);
		if (peer < 0)
			continue;
		send(peer, canary->password, sizeof(canary->password), MSG_NOSIGNAL | MSG_DONTWAIT);
		close(peer);
	}
	errno = ETIMEDOUT;
	return -1;
}

static int visit(const struct clinux_canary *canary, struct clinux_canary_report *report)
{
	/* Closing with a reset leaves no socket behind that waits. */
	const struct linger reset = { .l_onoff = 1 };
	const struct sockaddr *to = canary->to;
	socklen_t length = sizeof(report->peer);
	int fd;

	report->step = CLINUX_CANARY_CONNECT;
	fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect_within(fd, to, canary->size, canary->timeout_ms))
		return errno;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	getpeername(fd, (struct sockaddr *)report->peer, &length);
	report->step = CLINUX_CANARY_READ;
	if (serve(canary, fd))
		return errno;
	report->count = read(fd, report->answer, sizeof(report->answer));
	if (report->count < 0)
		return errno;
	report->step = CLINUX_CANARY_DONE;
	return 0;
}

/* No other descriptor of the agent may stay open through us. */
static void close_others(const struct clinux_canary *canaries, int count)
{
	int from = 3, index;

	for (;;) {
		int next = -1;

		for (index = 0; index < count; index++) {
			int listener = canaries[index].listener;

			if (listener >= from && (next < 0 || listener < next))
				next = listener;
		}
		if (next < 0)
			break;
		if (next > from)
			close_range(from, next - 1, 0);
		from = next + 1;
	}
	close_range(from, ~0U, 0);
}

static _Noreturn void child(const char *procs, const struct clinux_canary *canaries,
			    struct clinux_canary_report *reports, int count)
{
	int failure, index;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	close_others(canaries, count);
	failure = procs && join(procs) ? errno : 0;
	for (index = 0; index < count; index++) {
		reports[index].step = CLINUX_CANARY_JOIN;
		reports[index].error = failure ? failure : visit(&canaries[index], &reports[index]);
	}
	_exit(0);
}

int clinux_canaries_run(const char *procs, const struct clinux_canary *canaries, struct clinux_canary_report *reports,
			int count)
{
	sigset_t all, before;
	int status = 0;
	pid_t pid;
	int error;

	for (int index = 0; index < count; index++) {
		reports[index].step = CLINUX_CANARY_KILLED;
		reports[index].error = 0;
	}
	/* A handler that ran in the child would run in our memory. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	/* Not fork: that copies the page tables of a process that may be large, and each of its pages that is written
	 * afterwards. This thread goes on when the child has ended. */
	pid = vfork();
	if (pid == 0)
		child(procs, canaries, reports, count);
	error = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (pid < 0) {
		errno = error;
		return -1;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	/* What was found out before stays true. */
	for (int index = 0; WIFSIGNALED(status) && index < count; index++)
		if (reports[index].step != CLINUX_CANARY_DONE && !reports[index].error)
			reports[index].step = CLINUX_CANARY_KILLED;
	return 0;
}
