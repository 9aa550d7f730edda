/* The process itself: what glibc offers for it and Swift's Glibc module leaves out. */
#ifndef CLINUX_PROCESS_H
#define CLINUX_PROCESS_H

#include <spawn.h>

/* A spawned program keeps no descriptor from `first` on: not everybody opens with O_CLOEXEC, and a socket that a child
 * keeps is not closed when we close it. */
int clinux_spawn_closing_from(posix_spawn_file_actions_t *actions, int first);

/* At most `count` malloc arenas: the default, eight a core, keeps freed memory in each of them. */
void clinux_limit_arenas(int count);
/* Gives freed heap memory back to the kernel. */
void clinux_trim_heap(void);

#endif
