/* A .cnn file in parts (docs/format.md), to be changed and put together again with right lengths, places and checksums.
 * Numbers are as the file says them: nothing is checked beyond what finding the parts needs. */
#ifndef CNN_FUZZ_CONTAINER_H
#define CNN_FUZZ_CONTAINER_H

#include "mutate.h"

#include "core/file.h"
#include "core/layers.h"
#include "core/sign.h"

enum { FUZZ_MOST_LAYERS = 64, FUZZ_MOST_TENSORS = 96, FUZZ_MOST_FIELDS = 24 };

typedef struct fuzz_layer {
    uint64_t type;
    bool has_inputs, has_attrs;
    int input_count;
    int64_t input[CNN_MAX_INPUTS]; /* numbers of layers, which need not exist */
    uint64_t mask;
    double attr[CNN_MAX_ATTRS]; /* those of the mask */
    fuzz_part name;
    uint64_t scale_code;
    float scale;
} fuzz_layer;

typedef struct fuzz_payload {
    fuzz_part part;
    bool outside;
} fuzz_payload;

typedef struct fuzz_tensor {
    uint64_t layer, role, dtype, flags, structure, encoding, dims[4], scale_encoding;
    fuzz_part parameters;
    fuzz_payload values, scales, mask;
} fuzz_tensor;

typedef struct fuzz_field {
    uint64_t tag;
    fuzz_part value;
} fuzz_field;

typedef struct fuzz_container {
    uint64_t version;
    int layer_count, tensor_count, field_count;
    fuzz_layer layer[FUZZ_MOST_LAYERS];
    fuzz_tensor tensor[FUZZ_MOST_TENSORS];
    fuzz_field field[FUZZ_MOST_FIELDS]; /* the others */
    bool has_names, has_scales, has_tensors;
    fuzz_part signature; /* its bytes, or none */
} fuzz_container;

/* False: not in parts that are understood. */
bool fuzz_container_read(fuzz_container *container, const uint8_t *data, size_t size);
/* Appends the file. */
void fuzz_container_write(const fuzz_container *container, cnn_bytes *file);

#endif
