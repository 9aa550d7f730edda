/* Processes that get less than we have: started as another user without capabilities, and kept from system calls that
 * they never make. */
#ifndef CLINUX_CONFINE_H
#define CLINUX_CONFINE_H

#include <sys/types.h>

struct clinux_confined {
	const char *path;
	char *const *arguments;
	uid_t user;
	gid_t group;
	/* Its working directory: already open, so that its parents may be closed to the user. */
	int directory;
};

/* Starts the program in a session of its own, with no descriptor but the three standard ones, as user and group, with
 * no other group, no capability in any set, and no way to get one (no_new_privs). Returns its pid, or -1 with errno and
 * in `failed` what could not be done. */
pid_t clinux_spawn_confined(const struct clinux_confined *what, const char **failed);

/* From here on this process and its threads can start no program, see no other process, enter or make no namespace,
 * mount nothing, load nothing into the kernel, and open sockets of the Internet and Unix families only. 0, or -1 with
 * errno. */
int clinux_forbid_unused_calls(void);

#endif
