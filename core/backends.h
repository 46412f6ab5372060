/* The registry of backends. */
#ifndef CNN_CORE_BACKENDS_H
#define CNN_CORE_BACKENDS_H

#include "cnn/backend.h"

/* "auto" or NULL: the best there is; else the backend of that name. */
cnn_status cnn_backend_find(const char *name, const cnn_backend **backend);

#endif
