/* INPUT: bytes of images to values of the network by a table of 256 values for each channel, which holds every
 * rounding.
 *
 * An element of dst is a table entry as it is: for f16 and bf16, the table is converted first. So there is one loop for
 * each size of an element. A task is one image. */
#include "kernels/cpu/elementwise_i8.h"
#include "kernels/cpu/half.h"

#include <string.h>

enum { ENTRIES = 256 };

typedef struct input_job {
    const cnn_op_desc *desc;
    void *const *args;
    const void *table; /* [C,256] elements of dst's dtype */
} input_job;

/* One channel of an image, or all of it when there is only one. Steps are those from pixel to pixel. */
#define DEFINE_LOOKUP(NAME, TYPE)                                                                        \
    static void NAME(const uint8_t *src, size_t src_step, const TYPE *table, TYPE *dst, size_t dst_step, \
                     size_t pixels)                                                                      \
    {                                                                                                    \
        for (size_t i = 0; i < pixels; i++)                                                              \
            dst[i * dst_step] = table[src[i * src_step]];                                                \
    }
DEFINE_LOOKUP(lookup_8, uint8_t)
DEFINE_LOOKUP(lookup_16, uint16_t)
DEFINE_LOOKUP(lookup_32, uint32_t)

static void run_image(void *context, int task, int worker)
{
    (void)worker;
    const input_job *job = context;
    const cnn_tensor_desc *src = &job->desc->arg[CNN_ARG_SRC];
    const cnn_tensor_desc *dst = &job->desc->arg[CNN_ARG_DST];
    const cnn_train_state *state = job->args[CNN_ARG_STATE];
    const int32_t *index = job->args[CNN_ARG_INDEX];
    if (index && state)
        index += state->cursor;
    const size_t pixels = (size_t)dst->h * (size_t)dst->w;
    const size_t src_step = (size_t)src->c_pad;
    const size_t dst_step = (size_t)dst->c_pad;
    const size_t bytes = cnn_dtype_bytes(dst->dtype);
    const uint8_t *from =
        (const uint8_t *)job->args[CNN_ARG_SRC] + (size_t)(index ? index[task] : task) * pixels * src_step;
    uint8_t *to = (uint8_t *)job->args[CNN_ARG_DST] + (size_t)task * pixels * dst_step * bytes;
    const uint8_t *table = job->table;
    if (dst->c_pad > dst->c)
        memset(to, 0, pixels * dst_step * bytes);
    for (int32_t c = 0; c < dst->c; c++, from++, to += bytes, table += ENTRIES * bytes) {
        if (bytes == 1)
            lookup_8(from, src_step, table, to, dst_step, pixels);
        else if (bytes == 2)
            lookup_16(from, src_step, (const uint16_t *)(const void *)table, (uint16_t *)(void *)to, dst_step, pixels);
        else
            lookup_32(from, src_step, (const uint32_t *)(const void *)table, (uint32_t *)(void *)to, dst_step, pixels);
    }
}

static cnn_status run(cnn_kernel *kernel, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const cnn_op_desc *desc = &kernel->desc;
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    input_job job = {desc, args, args[CNN_ARG_TABLE]};
    if (kernel->workspace_bytes > 0) {
        const float *table = args[CNN_ARG_TABLE];
        uint16_t *halves = workspace;
        for (int32_t i = 0; i < dst->c * ENTRIES; i++)
            halves[i] = dst->dtype == CNN_F16 ? cnn_cpu_f16_from_f32(table[i]) : cnn_cpu_bf16_from_f32(table[i]);
        job.table = halves;
    }
    ((cnn_cpu_kernel *)kernel)->device->host->parallel(dst->n, run_image, &job);
    return CNN_OK;
}

bool cnn_cpu_input_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    if (desc->arg[CNN_ARG_TABLE].c != ENTRIES || desc->arg[CNN_ARG_TABLE].c_pad != ENTRIES)
        return cnn_cpu_refuse(why, "the table has %d values a channel", (int)desc->arg[CNN_ARG_TABLE].c);
    return true;
}

cnn_status cnn_cpu_input_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    cnn_cpu_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    if (cnn_dtype_bytes(dst->dtype) == sizeof(uint16_t))
        kernel->base.workspace_bytes = (size_t)dst->c * ENTRIES * sizeof(uint16_t);
    kernel->base.run = run;
    *made = &kernel->base;
    return CNN_OK;
}
