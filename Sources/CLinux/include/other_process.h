/* Other processes, by a descriptor that stays theirs when their number becomes another's. All return -1 with errno when
 * they fail. */
#ifndef CLINUX_OTHER_PROCESS_H
#define CLINUX_OTHER_PROCESS_H

#include <sys/types.h>

int clinux_open_process(pid_t pid);
int clinux_signal_process(int process, int signal);
/* A descriptor of ours for the file that is open there as `descriptor`. Needs what attaching a debugger needs. */
int clinux_copy_descriptor(int process, int descriptor);

#endif
