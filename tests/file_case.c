#include "file_case.h"
#include "model_case.h"

#include "core/crc32c.h"
#include "core/file.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

file_bytes case_encode(const cnn_model *model, bool smallest)
{
    cnn_file_image image;
    CHECK_OK(cnn_file_encode(model, &(cnn_file_options){.pack = smallest ? CNN_PACK_SMALLEST : CNN_PACK_AUTO}, &image));
    file_bytes file = {.size = cnn_file_image_bytes(&image), .head_end = image.head.length - 4};
    file.data = calloc(file.size, 1);
    memcpy(file.data, image.head.data, image.head.length);
    uint8_t *area = file.data + (image.head.length + 63) / 64 * 64;
    for (int i = 0; i < image.section_count; i++)
        memcpy(area + image.sections[i].offset, image.sections[i].data, image.sections[i].bytes);
    cnn_file_image_free(&image);
    return file;
}

cnn_status case_decode(const file_bytes *file, size_t size)
{
    /* An exact copy, so that the address sanitizer sees a read beyond the end. */
    uint8_t *copy = malloc(size ? size : 1);
    cnn_model *model = NULL;
    memcpy(copy, file->data, size);
    cnn_status status = cnn_file_decode(copy, size, "m.cnn", &model);
    ck_assert_int_eq(status == CNN_OK, model != NULL);
    cnn_model_free(model);
    free(copy);
    return status;
}

void case_reseal(file_bytes *file)
{
    uint32_t crc = cnn_crc32c(0, file->data, file->head_end);
    for (int i = 0; i < 4; i++)
        file->data[file->head_end + (size_t)i] = (uint8_t)(crc >> (8 * i));
}

void case_patch_head(file_bytes *file, const void *old, const void *new, size_t length)
{
    int found = 0;
    for (size_t i = 0; i + length <= file->head_end; i++)
        if (memcmp(file->data + i, old, length) == 0) {
            memcpy(file->data + i, new, length);
            found++;
            i += length - 1;
        }
    ck_assert_int_eq(found, 1);
    case_reseal(file);
}
