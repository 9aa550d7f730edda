/* epoll, which Glibc's Swift module leaves out. */
#ifndef CLINUX_EVENTS_H
#define CLINUX_EVENTS_H
#include <sys/epoll.h>
#endif
