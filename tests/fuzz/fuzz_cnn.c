/* Fuzz target: .cnn files. What is accepted must survive writing and reading again.
 *
 * Random changes nearly always break the checksum of the head and would be refused there. So each input is tried
 * twice: as it is, and with that checksum made right, which lets the fuzzer reach everything behind it. Some 70 bytes
 * can hold as many zeros as there is memory for; unpacking them for seconds tells nothing that fewer do not. */
#include "core/bytes.h"
#include "core/crc32c.h"
#include "core/file.h"
#include "core/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const cnn_model *model, cnn_pack pack)
{
    cnn_file_image image;
    cnn_model *again = NULL;
    cnn_status status = cnn_file_encode(model, &(cnn_file_options){.pack = pack}, &image);
    if (status == CNN_ERR_MEMORY)
        return;
    if (status != CNN_OK)
        abort();
    size_t size = cnn_file_image_bytes(&image);
    size_t area = size - image.data_bytes;
    uint8_t *file = calloc(size, 1);
    if (!file)
        abort();
    memcpy(file, image.head.data, image.head.length);
    for (int i = 0; i < image.section_count; i++)
        memcpy(file + area + image.sections[i].offset, image.sections[i].data, image.sections[i].bytes);
    status = cnn_file_decode(file, size, "again", &again);
    if (status != CNN_OK && status != CNN_ERR_MEMORY)
        abort();
    cnn_model_free(again);
    free(file);
    cnn_file_image_free(&image);
}

static void try_file(const uint8_t *data, size_t size)
{
    cnn_model *model = NULL;
    if (cnn_file_decode(data, size, "fuzz", &model) == CNN_OK)
        check_again(model, size % 32 ? CNN_PACK_AUTO : CNN_PACK_SMALLEST);
    cnn_model_free(model);
}

/* Makes the checksum right when the head says where it is. */
static bool reseal(uint8_t *data, size_t size)
{
    cnn_reader reader = {.data = data, .at = CNN_FILE_MAGIC_BYTES, .end = size, .path = "fuzz"};
    if (size < CNN_FILE_MAGIC_BYTES)
        return false;
    cnn_reader_varint(&reader, UINT64_MAX, "version");
    size_t bytes = (size_t)cnn_reader_varint(&reader, CNN_FILE_MAX_HEAD, "length");
    if (reader.failed || size - reader.at < bytes + 4)
        return false;
    size_t end = reader.at + bytes;
    uint32_t crc = cnn_crc32c(0, data, end);
    for (size_t i = 0; i < 4; i++)
        data[end + i] = (uint8_t)(crc >> (8 * i));
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cnn_memory_fail_above(1 << 18);
    try_file(data, size);
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        abort();
    if (size)
        memcpy(copy, data, size);
    if (reseal(copy, size))
        try_file(copy, size);
    free(copy);
    return 0;
}
