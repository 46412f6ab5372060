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

#endif
