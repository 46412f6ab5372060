/* What fails when, shared by the runs and the one that starts them. */
#ifndef CNN_TESTS_FAULTS_H
#define CNN_TESTS_FAULTS_H

#include <stdatomic.h>
#include <stdbool.h>

typedef enum fault_kind {
    FAULT_REFUSED, /* one call fails */
    FAULT_SHORT,   /* each read and write moves `limit` bytes at most */
    FAULT_FULL,    /* files take `limit` bytes together, then the disk is full */
    FAULT_KILLED   /* SIGKILL in place of one call */
} fault_kind;

typedef struct fault_state {
    fault_kind kind;
    atomic_long count;   /* calls so far */
    atomic_long fail_at; /* this one fails; 0: none */
    atomic_long limit;   /* bytes, see above */
    atomic_long written; /* bytes that files took */
    atomic_flag named;
    char failed[48]; /* the first call that failed, "" */
} fault_state;

extern fault_state *fault_shared; /* NULL: nothing is counted */

/* Calls tool_main() with faults in its way. Its code; FAULT_CODE_UNABLE when this system cannot do that. */
int fault_run_tool(int argc, char **argv);

/* True when a tool may go on without what this call gives: with fewer threads, with a file that is read in place of
 * mapped. What it writes must be the same. */
bool fault_is_tolerable(const char *call);

/* True when what failed is how the tool would have told of it. */
bool fault_is_silencing(const char *call);

/* Remembers a call as the one that failed. */
void fault_name(const char *call, int fd); /* fd < 0: has none */

enum { FAULT_CODE_SANITIZER = 99, FAULT_CODE_DESCRIPTOR = 98, FAULT_CODE_UNABLE = 97 };

int tool_main(int argc, char **argv);

#endif
