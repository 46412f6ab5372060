/* Fuzz target: safetensors files, with a small network to take the weights. */
#include "core/model.h"
#include "core/safetensors.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char network[] = "image = input(height=4, width=4, channels=1)\n"
                                  "conv1 = conv(image, out=2, kernel=3, pad=1, bias=0)\n"
                                  "bn1 = bn(conv1)\n"
                                  "relu1 = relu(bn1)\n"
                                  "pool1 = maxpool(relu1, kernel=2)\n"
                                  "fc1 = linear(pool1, out=3)\n";
    cnn_model *model = NULL;
    if (cnn_model_parse(network, "fuzz", &model) != CNN_OK)
        abort();
    (void)cnn_safetensors_decode(data, size, "fuzz", model);
    cnn_model_free(model);
    return 0;
}
