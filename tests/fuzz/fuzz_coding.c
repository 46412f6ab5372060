/* Fuzz target: the ways in which .cnn files code a tensor's values, behind the checksums that no random change passes.
 *
 * The first bytes say which way, a shape of up to 4096 values and how many bytes are parameters; the rest is what is
 * decoded. Whatever it is, decoding sets every value or says what is wrong; and where it accepts, coding the values
 * again by the same way gives what decodes to them. */
#include "core/file_encoding.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD = 7, MOST_SIDE = 7, SMALL = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const cnn_tensor_coding *coding, const cnn_tensor_desc *desc, const void *values, void *again)
{
    cnn_bytes parameters = {0}, coded = {0};
    const char *wrong = NULL;
    const cnn_status status = coding->encode(desc, values, &parameters, &coded);
    if (status == CNN_ERR_MEMORY)
        abort();
    if (status == CNN_OK) {
        const cnn_coded back = {parameters.data, coded.data, parameters.length, coded.length};
        if (coding->decode(desc, &back, again, &wrong) != CNN_OK || wrong ||
            memcmp(again, values, cnn_desc_bytes(desc)) != 0)
            abort();
    }
    cnn_bytes_free(&parameters);
    cnn_bytes_free(&coded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const cnn_dtype dtypes[] = {CNN_I8, CNN_F32, CNN_I32};
    const char *wrong = NULL;
    if (size < HEAD)
        return 0;
    const cnn_tensor_coding *coding = &cnn_tensor_codings[data[0] % CNN_ENCODING_COUNT];
    cnn_tensor_desc desc = cnn_desc(dtypes[(data[1] & 127) % 3], 1 + data[2] % SMALL, 1 + data[3] % MOST_SIDE,
                                    1 + data[4] % MOST_SIDE, 1 + data[5] % SMALL);
    desc.structure = data[1] & 0x80 ? CNN_SPARSE_2_4 : CNN_DENSE;
    if (!coding->decode || !coding->suits(&desc))
        return 0;
    const size_t left = size - HEAD, own = data[6] < left ? data[6] : left;
    const size_t parameters = own < coding->most_parameters ? own : coding->most_parameters;
    const size_t room = cnn_desc_bytes(&desc);
    void *values = calloc(room, 1), *again = calloc(room, 1);
    uint8_t *copy = malloc(left ? left : 1); /* of exactly its size, for the sanitizer */
    if (!values || !again || !copy)
        abort();
    memcpy(copy, data + HEAD, left);
    const cnn_coded coded = {copy, copy + parameters, parameters, left - parameters};
    if (coding->decode(&desc, &coded, values, &wrong) != CNN_OK)
        abort();
    if (!wrong && coding->encode)
        check_again(coding, &desc, values, again);
    free(copy);
    free(again);
    free(values);
    return 0;
}
