/* Fuzz target: checkpoint files. What is accepted must be written again as the same bytes, and the model in it read
 * like a file. As in fuzz_cnn.c each input is tried as it is and with its checksum made right. */
#include "core/bytes.h"
#include "core/crc32c.h"
#include "core/file.h"
#include "train/checkpoint.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static cnn_status append(void *bytes, const void *data, size_t length)
{
    cnn_bytes_put(bytes, data, length);
    return CNN_OK;
}

static void try_file(const uint8_t *data, size_t size)
{
    cnn_checkpoint checkpoint;
    cnn_model *model = NULL;
    cnn_bytes again = {0};
    if (cnn_checkpoint_decode(data, size, "fuzz", &checkpoint) != CNN_OK)
        return;
    if (cnn_checkpoint_encode(&checkpoint, append, &again) != CNN_OK || again.failed || again.length != size ||
        memcmp(again.data, data, size) != 0)
        abort();
    if (cnn_file_decode(checkpoint.model, checkpoint.model_bytes, "fuzz", &model) == CNN_OK)
        cnn_model_free(model);
    cnn_bytes_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_file(data, size);
    if (size < 4)
        return 0;
    uint8_t *copy = malloc(size);
    if (!copy)
        abort();
    memcpy(copy, data, size);
    const uint32_t crc = cnn_crc32c(0, copy, size - 4);
    for (size_t i = 0; i < 4; i++)
        copy[size - 4 + i] = (uint8_t)(crc >> (8 * i));
    try_file(copy, size);
    free(copy);
    return 0;
}
