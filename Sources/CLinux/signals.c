#define _GNU_SOURCE
#include "signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

static int caught = -1;

static void note(int number)
{
    int error = errno;
    unsigned char byte = (unsigned char)number;
    ssize_t ignored = write(caught, &byte, 1);
    (void)ignored;
    errno = error;
}

int clinux_catch_signals(const int *numbers, int count)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    /* A full pipe must not stop whoever was interrupted. */
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    caught = ends[1];
    struct sigaction action = { .sa_handler = note, .sa_flags = SA_RESTART };
    sigemptyset(&action.sa_mask);
    sigset_t wanted;
    sigemptyset(&wanted);
    for (int i = 0; i < count; i++) {
        if (sigaction(numbers[i], &action, NULL) != 0)
            return -1;
        sigaddset(&wanted, numbers[i]);
    }
    /* Whoever started us may have had them blocked. */
    errno = pthread_sigmask(SIG_UNBLOCK, &wanted, NULL);
    return errno == 0 ? ends[0] : -1;
}
