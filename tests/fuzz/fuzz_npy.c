/* Fuzz target: a NumPy array with these bytes. */
#include "fuzz_file.h"

#include "core/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cnn_npy array;
    if (cnn_npy_read(&array, fuzz_file(data, size)) != CNN_OK)
        return 0;
    size_t sum = 0, bytes = (size_t)array.count * cnn_dtype_bytes(array.dtype);
    for (size_t i = 0; i < bytes; i++) /* all of them must be there to read */
        sum += array.data[i];
    fuzz_use(sum);
    cnn_npy_close(&array);
    return 0;
}
