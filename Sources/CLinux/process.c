/* See process.h. */
#define _GNU_SOURCE
#include "process.h"

#include <malloc.h>

int clinux_spawn_closing_from(posix_spawn_file_actions_t *actions, int first) {
	return posix_spawn_file_actions_addclosefrom_np(actions, first);
}
void clinux_limit_arenas(int count) { mallopt(M_ARENA_MAX, count); }
void clinux_trim_heap(void) { malloc_trim(0); }
