/* The process itself: what glibc offers for it and Swift's Glibc module leaves out. */
#ifndef CLINUX_PROCESS_H
#define CLINUX_PROCESS_H

#include <spawn.h>
#include <sys/types.h>

/* A spawned program keeps no descriptor from `first` on: not everybody opens with O_CLOEXEC, and a socket that a child
 * keeps is not closed when we close it. */
int clinux_spawn_closing_from(posix_spawn_file_actions_t *actions, int first);

/* Runs `argv[0]` (looked for in PATH if it has no slash) with /dev/null to read and `output` to write to, its errors
 * too if `joins_errors`, in a process group of its own, and killed when the thread that called this ends. `pidfd`
 * becomes readable when it has ended. Returns its pid, or -1 with errno. */
pid_t clinux_spawn_bound(char *const argv[], char *const environment[], int output, int joins_errors, int *pidfd);

/* At most `count` malloc arenas: the default, eight a core, keeps freed memory in each of them. */
void clinux_limit_arenas(int count);
/* Gives freed heap memory back to the kernel. */
void clinux_trim_heap(void);
/* Nobody but root sees this process's memory, neither in a core dump nor through /proc or ptrace. */
void clinux_hide_memory(void);

#endif
