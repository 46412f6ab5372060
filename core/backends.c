/* The registry of backends, best first. */
#include "core/backends.h"

#include "core/error.h"
#include "core/memory.h"
#include "core/plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const cnn_backend *const cnn_backends[] = {&cnn_backend_cpu, &cnn_backend_ref, NULL};

/* cudasim is the CUDA plug-in over the CPU, which test builds have. */
static const char *const plugins[] = {"cuda", "cudasim"};

static char remark[512]; /* why `auto` left a GPU alone */

const char *cnn_backend_remark(void)
{
    return *remark ? remark : NULL;
}

/* The GPU, if there is one that can be used, else the CPU. */
static const cnn_backend *choose(void)
{
    const cnn_backend *gpu;
    if (!cnn_plugin_exists("cuda") || cnn_plugin_gpus() == 0)
        return cnn_backends[0];
    if (cnn_plugin_load("cuda", &gpu) == CNN_OK)
        return gpu;
    snprintf(remark, sizeof remark, "%s", cnn_last_error());
    return cnn_backends[0];
}

/* "use auto, cuda, cpu or ref" */
static cnn_status refuse_name(const char *name)
{
    cnn_text names = {0};
    for (int i = 0; cnn_backends[i]; i++)
        cnn_text_append(&names, "%s%s", cnn_backends[i + 1] ? ", " : " or ", cnn_backends[i]->name);
    cnn_status status =
        names.failed ? CNN_ERR_MEMORY
                     : cnn_error(CNN_ERR_USAGE, "device '%.100s' is not known; use auto, cuda%s", name, names.data);
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
        *backend = choose();
        return CNN_OK;
    }
    size_t length = strcspn(name, ":");
    for (int i = 0; cnn_backends[i]; i++)
        if (strncmp(cnn_backends[i]->name, name, length) == 0 && !cnn_backends[i]->name[length]) {
            *backend = cnn_backends[i];
            return name[length] ? find_variant(*backend, name + length + 1, variant) : CNN_OK;
        }
    for (size_t i = 0; i < sizeof plugins / sizeof *plugins; i++)
        if (strncmp(plugins[i], name, length) == 0 && !plugins[i][length]) {
            cnn_status status = cnn_plugin_load(plugins[i], backend);
            return status == CNN_OK && name[length] ? find_variant(*backend, name + length + 1, variant) : status;
        }
    return refuse_name(name);
}
