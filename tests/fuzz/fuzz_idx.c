/* Fuzz target: an IDX file of images and one of labels, plain or gzip, with these bytes. */
#include "fuzz_file.h"

#include "core/dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int32_t sizes[3];
    uint8_t *bytes = NULL;
    const char *path = fuzz_file(data, size);
    for (int dims = 1; dims <= 3; dims += 2)
        if (cnn_idx_read(path, dims, sizes, &bytes) == CNN_OK) {
            size_t count = 1, sum = 0;
            for (int i = 0; i < dims; i++)
                count *= (size_t)sizes[i];
            for (size_t i = 0; i < count; i++) /* all of them must be there to read */
                sum += bytes[i];
            fuzz_use(sum);
            free(bytes);
        }
    return 0;
}
