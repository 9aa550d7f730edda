/* What every child does before it becomes another program. */
#ifndef CLINUX_CHILD_H
#define CLINUX_CHILD_H

/* No signal is blocked, ignored or handled any more. */
void clinux_clear_signals(void);

#endif
