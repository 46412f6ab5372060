/* Signals put off: a handler that takes a note of the first and gives way to the second. */
#include "cli/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static const int held[] = {SIGINT, SIGTERM, SIGHUP};
enum { HELD = sizeof held / sizeof *held };

static volatile sig_atomic_t came;
static const char *volatile note; /* NULL where nobody would see it */
static struct sigaction before[HELD];

/* All that it calls may be called in a handler (POSIX, 2.4.3). */
static void take_note(int number)
{
    const int error = errno;
    if (came) {
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    came = number;
    if (note && write(STDERR_FILENO, note, strlen(note)) < 0) {
        /* the terminal is gone, and with it whoever could read this */
    }
    errno = error;
}

void cnn_interrupt_hold(const char *text)
{
    struct sigaction action = {.sa_handler = take_note, .sa_flags = SA_RESTART};
    came = 0;
    note = isatty(STDERR_FILENO) ? text : NULL;
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < HELD; i++) {
        sigaction(held[i], NULL, &before[i]);
        if (before[i].sa_handler != SIG_IGN)
            sigaction(held[i], &action, NULL);
    }
}

int cnn_interrupt_came(void)
{
    return came;
}

int cnn_interrupt_take(void)
{
    for (int i = 0; i < HELD; i++)
        sigaction(held[i], &before[i], NULL);
    return came;
}

void cnn_interrupt_release(void)
{
    const int number = cnn_interrupt_take();
    if (number)
        raise(number);
}
