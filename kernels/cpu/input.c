/* INPUT: bytes of images to values of the network by a table of 256 values for each channel, which holds every
 * rounding.
 *
 * An element of dst is a table entry as it is: for f16 and bf16, the table is converted first. So there is one loop for
 * each size of an element. A task is one image; with SRC2 it is augmented first, in scratch space of the worker. */
#include "kernels/augment/apply.h"
#include "kernels/cpu/ask.h"
#include "kernels/cpu/elementwise_i8.h"
#include "kernels/cpu/half.h"

#include <string.h>

enum { ENTRIES = 256 };

typedef struct input_kernel {
    cnn_cpu_kernel cpu;
    int slots;            /* workers with scratch space of their own */
    size_t table_bytes;   /* of the workspace: the table in f16 or bf16 ... */
    size_t scratch_bytes; /* ... then, for each slot, floats of the augmentation and the augmented image */
} input_kernel;

typedef struct input_job {
    const cnn_op_desc *desc;
    void *const *args;
    const void *table; /* [C,256] elements of dst's dtype */
    const input_kernel *kernel;
    uint8_t *scratch; /* [slots, scratch_bytes] */
} input_job;

static cnn_augment_shape shape_of(const cnn_op_desc *desc)
{
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    return (cnn_augment_shape){dst->h, dst->w, dst->c};
}

/* Image number `task` of the batch, whose bytes are `from`, as its parameters say. */
static const uint8_t *augmented(const input_job *job, int task, int worker, const uint8_t *from)
{
    const cnn_augment_params *params = job->args[CNN_ARG_SRC2];
    if (!params || !params[task].augmented)
        return from;
    const cnn_augment_shape shape = shape_of(job->desc);
    uint8_t *scratch = job->scratch + (size_t)worker * job->kernel->scratch_bytes;
    uint8_t *image = scratch + cnn_cpu_aligned(cnn_augment_scratch(shape) * sizeof(float));
    cnn_augment_apply(&params[task], job->desc->mirror, shape, from, image, (float *)(void *)scratch);
    return image;
}

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
    const size_t image_bytes = pixels * src_step;
    const uint8_t *images = job->args[CNN_ARG_SRC], *from = images + (size_t)(index ? index[task] : task) * image_bytes;
    uint8_t *to = (uint8_t *)job->args[CNN_ARG_DST] + (size_t)task * pixels * dst_step * bytes;
    if (index && task + 1 < dst->n) /* images of a batch lie anywhere in the data set */
        cnn_cpu_ask(images + (size_t)index[task + 1] * image_bytes, 0, 1, (ptrdiff_t)image_bytes);
    from = augmented(job, task, worker, from);
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

static cnn_status run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const input_kernel *kernel = (const input_kernel *)base;
    const cnn_op_desc *desc = &base->desc;
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    uint8_t *rest = workspace ? (uint8_t *)workspace + kernel->table_bytes : NULL;
    input_job job = {desc, args, args[CNN_ARG_TABLE], kernel, rest};
    if (kernel->table_bytes > 0) {
        const float *table = args[CNN_ARG_TABLE];
        uint16_t *halves = workspace;
        for (int32_t i = 0; i < dst->c * ENTRIES; i++)
            halves[i] = dst->dtype == CNN_F16 ? cnn_cpu_f16_from_f32(table[i]) : cnn_cpu_bf16_from_f32(table[i]);
        job.table = halves;
    }
    cnn_cpu_parallel(kernel->cpu.device->host, dst->n, kernel->slots, run_image, &job);
    return CNN_OK;
}

bool cnn_cpu_input_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    if (desc->arg[CNN_ARG_TABLE].c != ENTRIES || desc->arg[CNN_ARG_TABLE].c_pad != ENTRIES)
        return cnn_refuse(why, "the table has %d values a channel", (int)desc->arg[CNN_ARG_TABLE].c);
    return true;
}

cnn_status cnn_cpu_input_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    input_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    const cnn_augment_shape shape = shape_of(desc);
    kernel->slots = device->host->threads();
    if (cnn_dtype_bytes(dst->dtype) == sizeof(uint16_t))
        kernel->table_bytes = cnn_cpu_aligned((size_t)dst->c * ENTRIES * sizeof(uint16_t));
    if (desc->arg[CNN_ARG_SRC2].dtype != CNN_NONE)
        kernel->scratch_bytes = cnn_cpu_aligned(cnn_augment_scratch(shape) * sizeof(float)) +
                                cnn_cpu_aligned((size_t)shape.height * (size_t)shape.width * (size_t)shape.channels);
    kernel->cpu.base.workspace_bytes = kernel->table_bytes + (size_t)kernel->slots * kernel->scratch_bytes;
    kernel->cpu.base.run = run;
    *made = &kernel->cpu.base;
    return CNN_OK;
}
