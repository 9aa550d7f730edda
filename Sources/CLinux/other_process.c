/* See other_process.h. */
#define _GNU_SOURCE
#include "other_process.h"

#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

int clinux_open_process(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

int clinux_signal_process(int process, int signal)
{
	return (int)syscall(SYS_pidfd_send_signal, process, signal, NULL, 0);
}

int clinux_copy_descriptor(int process, int descriptor)
{
	return (int)syscall(SYS_pidfd_getfd, process, descriptor, 0);
}
