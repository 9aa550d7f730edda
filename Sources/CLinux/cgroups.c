#include "cgroups.h"

#include <linux/magic.h>
#include <sys/vfs.h>

int clinux_is_cgroup2(const char *path)
{
    struct statfs info;
    if (statfs(path, &info) != 0)
        return -1;
    return info.f_type == CGROUP2_SUPER_MAGIC;
}
