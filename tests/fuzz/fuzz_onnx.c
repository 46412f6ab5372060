/* Fuzz target: ONNX files. What is accepted must survive writing and reading again. */
#include "onnx/export.h"
#include "onnx/import.h"

#include "core/error.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cnn_model *model = NULL, *again = NULL;
    uint8_t *file;
    size_t bytes;
    if (cnn_onnx_decode(data, size, "fuzz", NULL, &model) != CNN_OK)
        return 0;
    cnn_status status = cnn_onnx_encode(model, &file, &bytes);
    if (status == CNN_OK) {
        if (cnn_onnx_decode(file, bytes, "again", NULL, &again) != CNN_OK || again->node_count != model->node_count)
            abort();
        free(file);
    } else if (!strstr(cnn_last_error(), "would be called")) { /* layers may have the names of other values */
        abort();
    }
    cnn_model_free(again);
    cnn_model_free(model);
    return 0;
}
