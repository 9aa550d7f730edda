/* See process.h. */
#define _GNU_SOURCE
#include "process.h"

#include <malloc.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>

int clinux_spawn_closing_from(posix_spawn_file_actions_t *actions, int first) {
	return posix_spawn_file_actions_addclosefrom_np(actions, first);
}
void clinux_limit_arenas(int count) { mallopt(M_ARENA_MAX, count); }
void clinux_trim_heap(void) { malloc_trim(0); }

int clinux_find_mount(const char *type, char *path, unsigned long size) {
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	struct mntent entry;
	char strings[4096];
	int result = -1;

	if (!mounts)
		return -1;
	while (result && getmntent_r(mounts, &entry, strings, sizeof(strings))) {
		if (!strcmp(entry.mnt_type, type) && strlen(entry.mnt_dir) < size) {
			strcpy(path, entry.mnt_dir);
			result = 0;
		}
	}
	endmntent(mounts);
	return result;
}
