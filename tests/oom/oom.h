/* What fails when, shared by the runs and the one that starts them. */
#ifndef CNN_TESTS_OOM_H
#define CNN_TESTS_OOM_H

#include <stdatomic.h>
#include <stdbool.h>

typedef struct oom_state {
    atomic_long count;   /* requests for memory so far */
    atomic_long fail_at; /* this one fails; 0: none */
    char failed[32];     /* the function whose request failed, "" */
} oom_state;

extern oom_state *oom_shared; /* NULL: nothing is counted */

/* True when a tool may go on without what this function gives: with fewer threads, with a file that is read in place of
 * mapped, without a look at how large a picture is. What it writes must be the same. */
bool oom_is_tolerable(const char *function);

int tool_main(int argc, char **argv);

#endif
