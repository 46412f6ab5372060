/* The registry of backends, best first. */
#include "core/backends.h"

#include "core/error.h"

#include <string.h>

static const cnn_backend *const backends[] = {&cnn_backend_cpu, &cnn_backend_ref};
enum { BACKEND_COUNT = sizeof backends / sizeof backends[0] };

cnn_status cnn_backend_find(const char *name, const cnn_backend **backend)
{
    if (!name || strcmp(name, "auto") == 0) {
        *backend = backends[0];
        return CNN_OK;
    }
    for (int i = 0; i < BACKEND_COUNT; i++)
        if (strcmp(backends[i]->name, name) == 0) {
            *backend = backends[i];
            return CNN_OK;
        }
    if (strcmp(name, "cuda") == 0)
        return cnn_error(CNN_ERR_UNSUPPORTED, "device cuda: this build has no CUDA backend; use --device cpu");
    return cnn_error(CNN_ERR_USAGE, "device '%s' is not known; use auto, cpu or ref", name);
}
