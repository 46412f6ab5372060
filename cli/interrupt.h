/* Ctrl-C (SIGINT), SIGTERM and SIGHUP while something must not be cut short.
 *
 * Between hold and take or release the first such signal is only remembered; the second ends the process at once. A
 * signal that was ignored before (nohup, a background job of a script) stays ignored. */
#ifndef CNN_CLI_INTERRUPT_H
#define CNN_CLI_INTERRUPT_H

enum { CNN_EXIT_SIGNAL = 128 }; /* plus its number: the exit code of a tool that a signal ended, 130 for Ctrl-C */

/* note: a line for the terminal, with its newline, that tells of the wait when the signal comes; NULL: none. It must
 * live as long as this holds. */
void cnn_interrupt_hold(const char *note);

/* The signal that came since; 0: none. */
int cnn_interrupt_came(void);

/* Ends holding and returns the signal that came, which is the caller's to act on; 0: none. */
int cnn_interrupt_take(void);

/* Ends holding; a signal that came now has its usual effect. */
void cnn_interrupt_release(void);

#endif
