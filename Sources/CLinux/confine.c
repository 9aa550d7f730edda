/* See confine.h. */
#define _GNU_SOURCE
#include "confine.h"
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

extern char **environ;

/* What can go wrong in the child, which can tell its parent no more than two numbers. */
enum step { SESSION, DIRECTORY, DESCRIPTORS, GROUPS, GROUP, USER, CAPABILITIES, PRIVILEGES, EXECUTE };
static const char *const step_names[] = {
	"make a session",   "enter its directory",   "close descriptors",	   "leave all groups",
	"become its group", "become its user",	     "give up all capabilities", "set no_new_privs",
	"execute it",
};
struct failure {
	enum step step;
	int error;
};

/* Raw calls: glibc's would look for the threads of the process that this one was copied from. */
static int become(const struct clinux_confined *what, enum step *step)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = {};
	/* A group list can only be changed by root, and is left alone by whoever has nothing to give up. */
	int is_same = geteuid() == what->user && getegid() == what->group && geteuid() != 0;

	/* The bounding set needs CAP_SETPCAP. Without it no_new_privs alone keeps the program from getting any. */
	for (int capability = 0; capability <= 63; capability++)
		prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
	*step = GROUPS;
	if (!is_same && syscall(SYS_setgroups, 0, NULL) != 0)
		return -1;
	*step = GROUP;
	if (syscall(SYS_setresgid, what->group, what->group, what->group) != 0)
		return -1;
	*step = USER;
	if (syscall(SYS_setresuid, what->user, what->user, what->user) != 0)
		return -1;
	*step = CAPABILITIES;
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capset, &header, none) != 0)
		return -1;
	*step = PRIVILEGES;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static int start(const struct clinux_confined *what, int program, enum step *step)
{
	*step = SESSION;
	if (setsid() < 0)
		return -1;
	*step = DIRECTORY;
	if (fchdir(what->directory) != 0)
		return -1;
	*step = DESCRIPTORS;
	if (syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC) != 0)
		return -1;
	if (become(what, step) != 0)
		return -1;
	umask(077);
	*step = EXECUTE;
	execve(what->path, what->arguments, environ);
	/* The directories above it may be closed to the user. */
	if (errno == EACCES)
		syscall(SYS_execveat, program, "", what->arguments, environ, AT_EMPTY_PATH);
	return -1;
}

pid_t clinux_spawn_confined(const struct clinux_confined *what, const char **failed)
{
	struct failure failure = { .step = EXECUTE };
	int program = open(what->path, O_PATH | O_CLOEXEC);
	int tell[2];
	pid_t child;
	ssize_t told;

	*failed = step_names[EXECUTE];
	if (program < 0)
		return -1;
	if (pipe2(tell, O_CLOEXEC) != 0) {
		close(program);
		return -1;
	}
	/* fork: with vfork the change of user would mark the memory that both share as not to be dumped. */
	child = fork();
	if (child == 0) {
		clinux_clear_signals();
		start(what, program, &failure.step);
		failure.error = errno;
		told = write(tell[1], &failure, sizeof(failure));
		_exit(127);
	}
	failure.error = errno;
	close(tell[1]);
	close(program);
	while (child > 0 && (told = read(tell[0], &failure, sizeof(failure))) < 0 && errno == EINTR)
		;
	close(tell[0]);
	if (child > 0 && told == 0)
		return child;
	if (child > 0)
		syscall(SYS_waitid, 1 /* P_PID */, child, NULL, 4 /* WEXITED */, NULL);
	*failed = step_names[failure.step];
	errno = failure.error;
	return -1;
}

/* ------------------------------------------------------------------------------------------------- system calls */

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE AUDIT_ARCH_AARCH64
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, (value))
#define REFUSE(code) RETURN(SECCOMP_RET_ERRNO | (code))
/* The accumulator holds the number of the call. */
#define FORBID(name) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##name, 0, 1), REFUSE(EPERM)
#define SKIP_UNLESS(value, count) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (count))

/* clone3 hides its flags in memory; ENOSYS makes glibc take clone, whose flags can be seen. */
#define NEW_NAMESPACES \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

int clinux_forbid_unused_calls(void)
{
#ifdef NATIVE
	struct sock_filter filter[] = {
		LOAD(arch),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, NATIVE, 1, 0),
		REFUSE(EPERM),
		LOAD(nr),
		/* x32, which numbers calls differently. */
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1),
		REFUSE(EPERM),
		FORBID(execve), FORBID(execveat), FORBID(ptrace), FORBID(process_vm_readv), FORBID(process_vm_writev),
		FORBID(pidfd_getfd), FORBID(unshare), FORBID(setns), FORBID(mount), FORBID(umount2), FORBID(pivot_root),
		FORBID(chroot), FORBID(move_mount), FORBID(open_tree), FORBID(fsopen), FORBID(fsmount), FORBID(fsconfig),
		FORBID(fspick), FORBID(open_by_handle_at), FORBID(bpf), FORBID(perf_event_open), FORBID(userfaultfd),
		FORBID(io_uring_setup), FORBID(init_module), FORBID(finit_module), FORBID(delete_module),
		FORBID(kexec_load), FORBID(add_key), FORBID(request_key), FORBID(keyctl), FORBID(reboot), FORBID(swapon),
		FORBID(swapoff), FORBID(settimeofday), FORBID(clock_settime), FORBID(acct), FORBID(syslog),
		SKIP_UNLESS(__NR_clone3, 1),
		REFUSE(ENOSYS),
		SKIP_UNLESS(__NR_clone, 3),
		LOAD(args[0]),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, NEW_NAMESPACES, 0, 1),
		REFUSE(EPERM),
		LOAD(nr),
		SKIP_UNLESS(__NR_socket, 6),
		LOAD(args[0]),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 1, 0),
		REFUSE(EPERM),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof(filter) / sizeof(filter[0]), .filter = filter };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -1;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0 ? 0 : -1;
#else
	errno = ENOSYS;
	return -1;
#endif
}
