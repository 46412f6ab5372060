/* Element-wise work on whole tensors, whatever their shape: tasks of a fixed number of elements, and blocks within them
 * that are converted to f32 on the stack. */
#ifndef CNN_CPU_FLAT_H
#define CNN_CPU_FLAT_H

#include "kernels/cpu/loops.h"

enum { CNN_FLAT_TASK = 65536, CNN_FLAT_BLOCK = 2048 };

/* Tasks for `count` elements. */
static inline int cnn_flat_tasks(int64_t count)
{
    return (int)((count + CNN_FLAT_TASK - 1) / CNN_FLAT_TASK);
}

/* Elements [*first, returned) of a task. */
static inline int64_t cnn_flat_range(int task, int64_t count, int64_t *first)
{
    *first = (int64_t)task * CNN_FLAT_TASK;
    return *first + CNN_FLAT_TASK < count ? *first + CNN_FLAT_TASK : count;
}

/* Elements from `first` on as f32: in place, or converted into `block`. */
static inline const float *cnn_flat_read(const cnn_cpu_loops *loops, cnn_dtype dtype, const void *data, int64_t first,
                                         int64_t count, float *block)
{
    if (dtype == CNN_F32)
        return (const float *)data + first;
    loops->to_f32(dtype, (const char *)data + (size_t)first * cnn_dtype_bytes(dtype), block, count);
    return block;
}

/* Where to compute elements of an output: in place, or in `block`, which cnn_flat_store then rounds. */
static inline float *cnn_flat_write(cnn_dtype dtype, void *data, int64_t first, float *block)
{
    return dtype == CNN_F32 ? (float *)data + first : block;
}

static inline void cnn_flat_store(const cnn_cpu_loops *loops, cnn_dtype dtype, void *data, int64_t first, int64_t count,
                                  const float *block)
{
    if (dtype != CNN_F32)
        loops->from_f32(dtype, block, (char *)data + (size_t)first * cnn_dtype_bytes(dtype), count);
}

#endif
