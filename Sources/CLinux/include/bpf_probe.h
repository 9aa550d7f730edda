#ifndef CLINUX_BPF_PROBE_H
#define CLINUX_BPF_PROBE_H

/* 0 when bpf(2) lets this process load a program for cgroup/connect4 and make a map; else -1 with errno. */
int clinux_probe_cgroup_bpf(void);

#endif
