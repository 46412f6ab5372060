/* The registry of backends, best first. */
#include "core/backends.h"

#include "core/error.h"
#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

const cnn_backend *const cnn_backends[] = {&cnn_backend_cpu, &cnn_backend_ref, NULL};

/* "use auto, cpu or ref" */
static cnn_status refuse_name(const char *name)
{
    cnn_text names = {0};
    for (int i = 0; cnn_backends[i]; i++)
        cnn_text_append(&names, "%s%s", cnn_backends[i + 1] ? ", " : " or ", cnn_backends[i]->name);
    cnn_status status = names.failed
                            ? CNN_ERR_MEMORY
                            : cnn_error(CNN_ERR_USAGE, "device '%.100s' is not known; use auto%s", name, names.data);
    cnn_text_free(&names);
    return status;
}

/* Finds the variant in the backend's list. */
static cnn_status find_variant(const cnn_backend *backend, const char *wanted, const char **variant)
{
    cnn_text names = {0};
    if (!backend->variants)
        return cnn_error(CNN_ERR_USAGE, "device '%s:%.100s': there is only one kind of %s; write --device %s",
                         backend->name, wanted, backend->name, backend->name);
    for (int i = 0; backend->variants[i]; i++) {
        if (strcmp(backend->variants[i], wanted) == 0) {
            *variant = backend->variants[i];
            cnn_text_free(&names);
            return CNN_OK;
        }
        cnn_text_append(&names, "%s%s:%s",
                        i == 0                     ? ""
                        : backend->variants[i + 1] ? ", "
                                                   : " or ",
                        backend->name, backend->variants[i]);
    }
    cnn_status status = names.failed ? CNN_ERR_MEMORY
                                     : cnn_error(CNN_ERR_USAGE, "device '%s:%.100s' is not known; use %s",
                                                 backend->name, wanted, names.data);
    cnn_text_free(&names);
    return status;
}

cnn_status cnn_backend_find(const char *name, const cnn_backend **backend, const char **variant)
{
    *variant = NULL;
    if (!name || strcmp(name, "auto") == 0) {
        *backend = cnn_backends[0];
        return CNN_OK;
    }
    size_t length = strcspn(name, ":");
    for (int i = 0; cnn_backends[i]; i++)
        if (strncmp(cnn_backends[i]->name, name, length) == 0 && !cnn_backends[i]->name[length]) {
            *backend = cnn_backends[i];
            return name[length] ? find_variant(*backend, name + length + 1, variant) : CNN_OK;
        }
    if (strcmp(name, "cuda") == 0)
        return cnn_error(CNN_ERR_UNSUPPORTED, "device cuda: this build has no CUDA backend; use --device cpu");
    return refuse_name(name);
}
