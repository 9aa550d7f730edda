#include "bpf_file_system.h"

#include <linux/magic.h>
#include <sys/vfs.h>

int clinux_is_bpffs(const char *path)
{
	struct statfs info;

	if (statfs(path, &info) != 0)
		return -1;
	return (unsigned int)info.f_type == BPF_FS_MAGIC;
}
