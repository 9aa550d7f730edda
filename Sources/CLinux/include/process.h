/* The process itself: what glibc offers for it and Swift's Glibc module leaves out. */
#ifndef CLINUX_PROCESS_H
#define CLINUX_PROCESS_H

/* At most `count` malloc arenas: the default, eight a core, keeps freed memory in each of them. */
void clinux_limit_arenas(int count);
/* Gives freed heap memory back to the kernel. */
void clinux_trim_heap(void);

/* Where a file system of this type is mounted first, into `path`; -1: nowhere. */
int clinux_find_mount(const char *type, char *path, unsigned long size);

#endif
