/* safetensors files inside: the tensors that a file's header lists. */
#ifndef CNN_CORE_SAFETENSORS_H
#define CNN_CORE_SAFETENSORS_H

#include "cnn/safetensors.h"
#include "core/raw_values.h"

enum { CNN_SAFETENSORS_RANK = 4, CNN_SAFETENSORS_MAX_HEADER = 1 << 22 };

typedef struct cnn_safetensor {
    const char *name;  /* lives as long as the list */
    cnn_raw_type type; /* CNN_RAW_NONE: one that is not read */
    const char *type_name;
    int rank; /* CNN_SAFETENSORS_RANK + 1: more */
    int64_t dims[CNN_SAFETENSORS_RANK];
    const uint8_t *data;
    int taken; /* by how many parameters */
} cnn_safetensor;

typedef struct cnn_safetensors {
    cnn_safetensor *tensors;
    int count;
    void *json; /* what the names lie in */
} cnn_safetensors;

/* Lists what the bytes of a file hold. Everything is within the file; data stays there. */
cnn_status cnn_safetensors_list(const uint8_t *data, size_t size, cnn_safetensors *list);
void cnn_safetensors_free(cnn_safetensors *list);

/* cnn_safetensors_load of bytes in memory; `path` names them. */
cnn_status cnn_safetensors_decode(const uint8_t *data, size_t size, const char *path, cnn_model *model);

#endif
