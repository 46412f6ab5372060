/* Fuzz target: network descriptions. What is accepted must print as a description of the same network. */
#include "core/cfg.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cnn_model *model = NULL, *again = NULL;
    char *text = NULL, *text2 = NULL;
    /* Shapes, not cnn_model_finish: a short description may ask for gigabytes of parameters. */
    if (cnn_cfg_read((const char *)data, size, "fuzz", &model) == CNN_OK &&
        cnn_model_infer_shapes(model, "fuzz") == CNN_OK) {
        if (cnn_model_print(model, &text) != CNN_OK || cnn_cfg_read(text, strlen(text), "fuzz", &again) != CNN_OK ||
            cnn_model_infer_shapes(again, "again") != CNN_OK || cnn_model_print(again, &text2) != CNN_OK ||
            strcmp(text, text2) != 0 || cnn_model_macs(model) != cnn_model_macs(again))
            abort();
    }
    cnn_model_free(model);
    cnn_model_free(again);
    free(text);
    free(text2);
    return 0;
}
