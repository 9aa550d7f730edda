/* A descriptor sent beside the bytes of a Unix socket, whose macros Swift's Glibc module leaves out. */
#ifndef CLINUX_PASSED_DESCRIPTOR_H
#define CLINUX_PASSED_DESCRIPTOR_H

#include <stddef.h>
#include <sys/types.h>

/* One packet, with `descriptor` beside it unless that is negative. As send(2) with these flags and MSG_NOSIGNAL. */
ssize_t clinux_send_packet(int socket, const void *bytes, size_t count, int descriptor, int flags);
/* One packet; `*descriptor` is what came beside it, close-on-exec, or -1. As recv(2); a packet that does not fit, or
 * with more than one descriptor, is EMSGSIZE. */
ssize_t clinux_receive_packet(int socket, void *bytes, size_t size, int *descriptor);

#endif
