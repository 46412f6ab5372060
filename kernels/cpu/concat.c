/* CONCAT and CONCAT_GRAD: channels of two tensors side by side in one, of any dtype. A task is some pixels. INT8 goes
 * to the scale of the whole; a piece that has it already, as floats do, is copied. */
#include "kernels/cpu/elementwise_i8.h"
#include "kernels/cpu/loops.h"

#include <string.h>

enum { TASK_BYTES = 1 << 16 };

typedef struct concat_job {
    const cnn_op_desc *desc;
    const cnn_cpu_loops *loops;
    void *const *args;
    int64_t task_pixels;
} concat_job;

static bool is_grad(const cnn_op_desc *desc)
{
    return desc->op == CNN_OP_CONCAT_GRAD;
}

/* Channels `first` on of the whole, to or from a piece. */
static void move_piece(const concat_job *job, int piece, int32_t first, int64_t begin, int64_t end)
{
    static const cnn_arg pieces[2][2] = {{CNN_ARG_SRC, CNN_ARG_SRC2}, {CNN_ARG_DST, CNN_ARG_DST2}};
    const cnn_op_desc *desc = job->desc;
    const bool grad = is_grad(desc);
    const cnn_arg role = pieces[grad][piece], whole_role = grad ? CNN_ARG_SRC : CNN_ARG_DST;
    const cnn_tensor_desc *part = &desc->arg[role], *whole = &desc->arg[whole_role];
    const size_t bytes = cnn_dtype_bytes(part->dtype), count = (size_t)part->c * bytes;
    const float scale = desc->scale[piece], out_scale = desc->out_scale;
    const bool scaled = part->dtype == CNN_I8 && (scale != out_scale || desc->lo > -127 || desc->hi < 127);
    for (int64_t pixel = begin; pixel < end; pixel++) {
        char *a = (char *)job->args[role] + (size_t)(pixel * part->c_pad) * bytes;
        char *b = (char *)job->args[whole_role] + (size_t)(pixel * whole->c_pad + first) * bytes;
        if (scaled)
            job->loops->leaky_relu_i8((const int8_t *)a, (int8_t *)b, part->c, scale, 1, out_scale, desc->lo, desc->hi);
        else
            memcpy(grad ? a : b, grad ? b : a, count);
        if (grad)
            memset(a + count, 0, (size_t)(part->c_pad - part->c) * bytes);
        else if (piece)
            memset(b + count, 0, (size_t)(whole->c_pad - whole->c) * bytes);
    }
}

static void concat_task(void *context, int task, int worker)
{
    const concat_job *job = context;
    const cnn_tensor_desc *first = &job->desc->arg[is_grad(job->desc) ? CNN_ARG_DST : CNN_ARG_SRC];
    const int64_t pixels = cnn_desc_pixels(first), begin = task * job->task_pixels;
    const int64_t end = begin + job->task_pixels < pixels ? begin + job->task_pixels : pixels;
    (void)worker;
    move_piece(job, 0, 0, begin, end);
    move_piece(job, 1, first->c, begin, end);
}

static cnn_status concat_run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const cnn_op_desc *desc = &base->desc;
    const cnn_tensor_desc *whole = &desc->arg[is_grad(desc) ? CNN_ARG_SRC : CNN_ARG_DST];
    const int64_t pixel_bytes = (int64_t)whole->c_pad * (int64_t)cnn_dtype_bytes(whole->dtype);
    const cnn_device *device = ((cnn_cpu_kernel *)base)->device;
    concat_job job = {desc, cnn_cpu_loops_get(device->isa), args,
                      pixel_bytes < TASK_BYTES ? TASK_BYTES / pixel_bytes : 1};
    const int64_t pixels = cnn_desc_pixels(whole);
    (void)workspace;
    device->host->parallel((int)((pixels + job.task_pixels - 1) / job.task_pixels), concat_task, &job);
    return CNN_OK;
}

cnn_status cnn_cpu_concat_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    cnn_cpu_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->base.run = concat_run;
    *made = &kernel->base;
    return CNN_OK;
}
