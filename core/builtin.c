/* The network descriptions compiled in: models/NAME.cfg for the names that core/CMakeLists.txt lists. */
#include "core/cfg.h"

#include <string.h>

typedef struct builtin_model {
    const char *name;
    const char *text;
    size_t length;
} builtin_model;

#include "builtin_models.inc"

const char *const *cnn_model_builtin_names(void)
{
    return builtin_names;
}

const char *cnn_builtin_cfg(const char *name, size_t *length)
{
    for (size_t i = 0; i < sizeof builtin_models / sizeof *builtin_models; i++)
        if (strcmp(builtin_models[i].name, name) == 0) {
            *length = builtin_models[i].length;
            return builtin_models[i].text;
        }
    return NULL;
}
