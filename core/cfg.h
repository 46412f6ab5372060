/* Network descriptions (.cfg): one layer a line,
 *
 *   name = type(input, ..., attribute=value, ...)   # comment
 *
 * in the order data flows. The first line is the input: image = input(height=28, width=28, channels=1). The last one
 * may be a softmax of the line before it, which the model notes; its name is not kept. */
#ifndef CNN_CORE_CFG_H
#define CNN_CORE_CFG_H

#include "core/model.h"

enum { CNN_CFG_MAX_BYTES = 1 << 20, CNN_CFG_MAX_LINE = 1024 };

/* Reads the nodes; shapes and parameters come with cnn_model_finish. `text` need not end in NUL. Errors name
 * source, line and layer, and say what is allowed. */
cnn_status cnn_cfg_read(const char *text, size_t length, const char *source, cnn_model **model);

/* Text of a built-in description, or NULL; it is not NUL-terminated. */
const char *cnn_builtin_cfg(const char *name, size_t *length);

#endif
