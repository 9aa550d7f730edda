#define _GNU_SOURCE
#include "namespaces.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int clinux_unshare_network(void) { return unshare(CLONE_NEWNET); }

int clinux_enter_network(int descriptor) { return setns(descriptor, CLONE_NEWNET); }

int clinux_loopback_up(void)
{
    struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING | IFF_LOOPBACK };
    int socket_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (socket_fd < 0)
        return -1;
    int result = ioctl(socket_fd, SIOCSIFFLAGS, &request);
    int error = errno;
    close(socket_fd);
    errno = error;
    return result;
}

int clinux_share_mounts(const char *directory)
{
    if (mount("", directory, "none", MS_SHARED | MS_REC, NULL) == 0)
        return 0;
    if (errno != EINVAL)
        return -1;
    /* Not a mount point yet. */
    if (mount(directory, directory, "none", MS_BIND | MS_REC, NULL) != 0)
        return -1;
    return mount("", directory, "none", MS_SHARED | MS_REC, NULL);
}

int clinux_bind_mount(const char *source, const char *target) { return mount(source, target, "none", MS_BIND, NULL); }

int clinux_unmount(const char *target) { return umount2(target, MNT_DETACH); }

int clinux_name_thread(const char *name)
{
    char short_name[16] = { 0 };
    strncpy(short_name, name, sizeof(short_name) - 1);
    errno = pthread_setname_np(pthread_self(), short_name);
    return errno == 0 ? 0 : -1;
}

int clinux_membarrier_global(void) { return (int)syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0); }
