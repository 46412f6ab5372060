/* The end of float convolutions and linear layers: bias, add, ReLU or clip, rounding, store. */
#ifndef CNN_CPU_EPILOGUE_H
#define CNN_CPU_EPILOGUE_H

#include "kernels/cpu/loops.h"

/* Whether the chain is one of [BIAS] [ADD] [RELU or CLIP], or of a LINEAR_DGRAD RELU_GRAD. */
bool cnn_epilogue_suits(const cnn_op_desc *desc, char *why);

/* Finishes `count` sums of output pixel `pixel`, channels first..first+count, and stores them in DST. Changes sums. */
void cnn_epilogue_store(const cnn_cpu_loops *loops, const cnn_op_desc *desc, void *const args[CNN_ARG_COUNT],
                        float *sums, int64_t pixel, int32_t first, int32_t count);

/* The same of `pixels` pixels that follow each other, whose sums lie sums_pitch apart. */
void cnn_epilogue_store_pixels(const cnn_cpu_loops *loops, const cnn_op_desc *desc, void *const args[CNN_ARG_COUNT],
                               float *sums, ptrdiff_t sums_pitch, int64_t pixel, int32_t pixels, int32_t first,
                               int32_t count);

/* Convolutions that pool with an INDEX, in rows of outputs. unpool: whether desc is one, and *plain without the
 * pooling; suits: whether the functions below do, which want windows that do not overlap. */
bool cnn_epilogue_unpool(const cnn_op_desc *desc, cnn_op_desc *plain);
bool cnn_epilogue_pool_suits(const cnn_op_desc *desc, char *why);

/* Bytes of scratch for rows of pool_kernel lines of float outputs, `line` floats each, and for what becomes of them. */
size_t cnn_epilogue_pool_bytes(const cnn_op_desc *desc, int64_t line);

/* Pools the lines that scratch begins with, sums with the bias but before the ReLU, and stores row `row` of all images
 * of DST and INDEX. */
void cnn_epilogue_store_pooled(const cnn_cpu_loops *loops, const cnn_op_desc *desc, void *const args[CNN_ARG_COUNT],
                               float *scratch, int64_t line, int64_t row);

#endif
