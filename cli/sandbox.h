/* A process that gives away what it has no more use for (seccomp), before it reads what strangers made: a fault in the
 * reading of it could then be made to do no more than print.
 *
 *   begin   files may be opened to be read; written is to standard output and error alone; no network, no other
 *           program or process, no new code in memory
 *   seal    no file is opened any more either
 *
 * What is not allowed fails with EPERM. Threads that are there and those that come share it; there is no way back. */
#ifndef CNN_CLI_SANDBOX_H
#define CNN_CLI_SANDBOX_H

#include "cnn/status.h"

/* CNN_ERR_UNSUPPORTED where this system cannot do it. */
cnn_status cnn_sandbox_begin(void);
cnn_status cnn_sandbox_seal(void);

#endif
