#define _GNU_SOURCE
#include "passed_descriptor.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for more than one, so that a surplus is seen and closed instead of lost. */
enum { MOST = 8 };
union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(MOST * sizeof(int))];
};

ssize_t clinux_send_packet(int socket, const void *bytes, size_t count, int descriptor, int flags)
{
	struct iovec part = { .iov_base = (void *)bytes, .iov_len = count };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	union control control = {};
	ssize_t sent;

	if (descriptor >= 0) {
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &descriptor, sizeof(int));
	}
	do
		sent = sendmsg(socket, &message, flags | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent;
}

ssize_t clinux_receive_packet(int socket, void *bytes, size_t size, int *descriptor)
{
	struct iovec part = { .iov_base = bytes, .iov_len = size };
	union control control = {};
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	int passed[MOST], count = 0;
	ssize_t received;

	*descriptor = -1;
	do
		received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
	while (received < 0 && errno == EINTR);
	if (received < 0)
		return -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(passed, CMSG_DATA(c), count * sizeof(int));
	}
	if (count <= 1 && !(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
		if (count == 1)
			*descriptor = passed[0];
		return received;
	}
	while (count > 0)
		close(passed[--count]);
	errno = EMSGSIZE;
	return -1;
}
