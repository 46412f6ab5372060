/* The registry of backends. */
#ifndef CNN_CORE_BACKENDS_H
#define CNN_CORE_BACKENDS_H

#include "cnn/backend.h"

/* "auto" or NULL: the best there is; else the backend of that name. Behind a colon it may name one of the backend's
 * variants, as in "cpu:avx2": then *variant is that, else NULL. */
cnn_status cnn_backend_find(const char *name, const cnn_backend **backend, const char **variant);

/* A sentence when "auto" found a GPU that cannot be used and took the CPU, else NULL. */
const char *cnn_backend_remark(void);

/* The backends inside libcnn, best first; NULL after the last. */
extern const cnn_backend *const cnn_backends[];

#endif
