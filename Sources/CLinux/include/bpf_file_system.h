#ifndef CLINUX_BPF_FILE_SYSTEM_H
#define CLINUX_BPF_FILE_SYSTEM_H

/* 1: `path` is on a bpf file system, where maps and links are pinned; 0: on another; -1: cannot tell, see errno. */
int clinux_is_bpffs(const char *path);

#endif
