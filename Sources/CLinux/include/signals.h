#ifndef CLINUX_SIGNALS_H
#define CLINUX_SIGNALS_H

/* From now on each of these signals is a byte, its number, to be read from the returned descriptor; -1 with errno.
 * Blocking signals and waiting for them does not do: Swift's main thread sits in sigsuspend(2) with none blocked. */
int clinux_catch_signals(const int *numbers, int count);

#endif
