/* See process.h. */
#define _GNU_SOURCE
#include "process.h"
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int clinux_spawn_closing_from(posix_spawn_file_actions_t *actions, int first) {
	return posix_spawn_file_actions_addclosefrom_np(actions, first);
}

void clinux_clear_signals(void)
{
	struct sigaction usual = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		sigaction(number, &usual, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The child of a process with threads: system calls only. Returns if it cannot become the program. */
static void become(char *const argv[], char *const environment[], int output, int joins_errors, pid_t parent)
{
	clinux_clear_signals();
	setpgid(0, 0);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL))
		return;
	/* The parent may have ended before we asked to be told. */
	if (getppid() != parent)
		_exit(127);
	if (dup2(output, STDOUT_FILENO) < 0 || (joins_errors && dup2(output, STDERR_FILENO) < 0))
		return;
	close(STDIN_FILENO);
	if (open("/dev/null", O_RDONLY) != STDIN_FILENO)
		return;
	close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
	execvpe(argv[0], argv, environment);
}

pid_t clinux_spawn_bound(char *const argv[], char *const environment[], int output, int joins_errors, int *pidfd)
{
	pid_t parent = getpid();
	int ends[2];
	int error = 0;
	pid_t child;

	/* A successful exec closes this pipe; what comes through it is the errno of one that failed. */
	if (pipe2(ends, O_CLOEXEC))
		return -1;
	child = fork();
	if (child == 0) {
		become(argv, environment, output, joins_errors, parent);
		error = errno;
		_exit(write(ends[1], &error, sizeof(error)) > 0 ? 127 : 126);
	}
	if (child < 0)
		error = errno;
	close(ends[1]);
	if (child > 0) {
		while (read(ends[0], &error, sizeof(error)) < 0 && errno == EINTR)
			;
		*pidfd = error ? -1 : syscall(SYS_pidfd_open, child, 0);
		if (!error && *pidfd < 0)
			error = errno;
		if (error) {
			kill(child, SIGKILL);
			waitpid(child, NULL, 0);
			child = -1;
		}
	}
	close(ends[0]);
	errno = error;
	return child;
}

void clinux_limit_arenas(int count) { mallopt(M_ARENA_MAX, count); }
void clinux_trim_heap(void) { malloc_trim(0); }
void clinux_hide_memory(void)
{
	// Swift's crash handler shows what registers point to; and where no program may be started it waits for ever.
	static const int crashes[] = { SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGQUIT, SIGSEGV, SIGTRAP };
	for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++)
		signal(crashes[i], SIG_DFL);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}
