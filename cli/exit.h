/* Exit codes of the tools. */
#ifndef CNN_CLI_EXIT_H
#define CNN_CLI_EXIT_H

#include "cnn/status.h"

enum { CNN_EXIT_DONE = 0, CNN_EXIT_FAILED = 1, CNN_EXIT_USAGE = 2 };

static inline int cnn_exit_code(cnn_status status)
{
    return status == CNN_OK ? CNN_EXIT_DONE : status == CNN_ERR_USAGE ? CNN_EXIT_USAGE : CNN_EXIT_FAILED;
}

#endif
