/* Namespaces, cgroups' neighbours among the system calls, and thread names: what Glibc's Swift module leaves out
 * because it is built without _GNU_SOURCE. Every function returns 0, or -1 with errno set. */
#ifndef CLINUX_NAMESPACES_H
#define CLINUX_NAMESPACES_H

/* Gives the calling thread a fresh network namespace. */
int clinux_unshare_network(void);
/* Moves the calling thread into the network namespace that `descriptor` refers to. */
int clinux_enter_network(int descriptor);
/* Sets the loopback interface of the calling thread's network namespace up. */
int clinux_loopback_up(void);

/* Makes `directory` a mount point that shares its mounts with later mount namespaces, as `ip netns` does. */
int clinux_share_mounts(const char *directory);
int clinux_bind_mount(const char *source, const char *target);
int clinux_unmount(const char *target);

/* Names the calling thread, as `top -H` shows it: at most 15 characters. */
int clinux_name_thread(const char *name);

/* Waits until every thread of the machine has passed a full memory barrier: an RCU grace period. */
int clinux_membarrier_global(void);

#endif
