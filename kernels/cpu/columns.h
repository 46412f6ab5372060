/* Work on [pixels][channels] tensors where every channel has its own sums or parameters: bias gradients and batch
 * normalization.
 *
 * Pixels are divided into chunks that follow from the shape; a task takes one chunk, in blocks of pixels that fit into
 * the cache as f32. Sums are double; those of the chunks are added in order. */
#ifndef CNN_CPU_COLUMNS_H
#define CNN_CPU_COLUMNS_H

#include "kernels/cpu/loops.h"

typedef struct cnn_columns {
    const cnn_host *host;
    const cnn_cpu_loops *loops;
    cnn_dtype dtype;
    int64_t pixels;
    int32_t channels;
    int chunks, slots;
    int64_t block_pixels;
    size_t sums_bytes, block_bytes; /* of the workspace: sums, then CNN_COLUMN_BLOCKS blocks for each slot */
    size_t workspace_bytes;
} cnn_columns;

enum { CNN_COLUMN_BLOCKS = 3 }; /* f32 blocks that a task may use */

/* For tensors of `dtype`; workspace_bytes tells what reduce and apply need. */
cnn_columns cnn_columns_plan(cnn_device *device, cnn_dtype dtype, int64_t pixels, int32_t channels);

/* Works on pixels [first, first+count) of a block; `scratch` are CNN_COLUMN_BLOCKS f32 blocks. sum and sum2 have one
 * entry a channel and are added to (NULL in apply). */
typedef void (*cnn_column_fn)(const cnn_columns *columns, const void *context, int64_t first, int64_t count,
                              float *const scratch[CNN_COLUMN_BLOCKS], double *sum, double *sum2);

/* Sums over all pixels: returns sum [channels] followed by sum2 [channels], inside the workspace. */
double *cnn_columns_reduce(const cnn_columns *columns, void *workspace, cnn_column_fn run, const void *context);

/* Visits all pixels without sums. */
void cnn_columns_apply(const cnn_columns *columns, void *workspace, cnn_column_fn run, const void *context);

/* Pixels from `first` on of a tensor as f32: in place, or converted into `block`. */
const float *cnn_columns_read(const cnn_columns *columns, const void *data, int64_t first, int64_t count, float *block);

/* Where to compute pixels of an output of `dtype` as f32: in place or in `block`; store() then rounds the latter. */
float *cnn_columns_write(const cnn_columns *columns, cnn_dtype dtype, void *data, int64_t first, float *block);
void cnn_columns_store(const cnn_columns *columns, cnn_dtype dtype, void *data, int64_t first, int64_t count,
                       const float *block);

/* Adds every pixel of the tensor `context` to sum: for reduce. */
void cnn_columns_add(const cnn_columns *columns, const void *context, int64_t first, int64_t count,
                     float *const scratch[CNN_COLUMN_BLOCKS], double *sum, double *sum2);

/* The plan for a weight gradient's DST2, whose workspace the kernel's then holds; nothing if there is none. Called when
 * the kernel's own is known. */
cnn_columns cnn_columns_plan_bias(cnn_cpu_kernel *kernel);

/* db[k] = the sum of dy [pixels][channels] over all pixels. */
void cnn_columns_bias_grad(const cnn_columns *columns, void *workspace, const void *dy, float *db);

#endif
