#ifndef CLINUX_CGROUPS_H
#define CLINUX_CGROUPS_H

/* 1: `path` is on a cgroup v2 file system; 0: on another; -1: cannot tell, errno says why. */
int clinux_is_cgroup2(const char *path);

#endif
