/* CONV and CONV_DGRAD in bf16 with AMX, by lines of the filter (amx_lines.h): products of bf16 are exact in f32, and so
 * are sums as far as f32 goes.
 *
 * The data gradient at stride 1 is the convolution of dy with the filters turned around, input and output channels
 * exchanged, and a padding of taps - 1 - pad. */
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/shape.h"

#if defined(CNN_CPU_AMX_BUILT)

#include "kernels/cpu/amx_lines.h"

#include <string.h>

typedef struct amx_bf16 {
    cnn_cpu_kernel cpu;
    cnn_amx_lines lines;
    const cnn_cpu_loops *loops;
    bool dgrad;
} amx_bf16;

static cnn_amx_shape shape_of(const cnn_op_desc *desc)
{
    const cnn_conv_shape conv = cnn_conv_shape_of(desc);
    const bool dgrad = desc->op == CNN_OP_CONV_DGRAD;
    cnn_amx_shape shape = {
        .n = conv.n,
        .h = dgrad ? conv.p : conv.h,
        .w = dgrad ? conv.q : conv.w,
        .c = dgrad ? conv.k : conv.c,
        .k = dgrad ? conv.c : conv.k,
        .r = conv.r,
        .s = conv.s,
        .stride = conv.stride,
        .pad = dgrad ? conv.r - 1 - conv.pad : conv.pad,
        .out_h = dgrad ? conv.h : conv.p,
        .out_w = dgrad ? conv.w : conv.q,
        .pool = 1,
        .pool_stride = 1,
        .value_bytes = 2,
    };
    shape.windows_h = shape.out_h;
    shape.windows_w = shape.out_w;
    return shape;
}

/* ---- Packing ---- */

typedef struct pack_job {
    const amx_bf16 *kernel;
    const uint16_t *weights;
    void *packed;
} pack_job;

/* dst[c] = {even[c], odd[c]} */
static void interleave(const uint16_t *even, const uint16_t *odd, int32_t count, uint32_t *dst)
{
    for (int32_t c = 0; c < count; c++)
        dst[c] = even[c] | (uint32_t)odd[c] << 16;
}

/* The outputs of a panel are input channels of W [K][R][S][C]; values of a run are (s, k), both from the far end. */
static void pack_turned(const pack_job *job, int32_t panel)
{
    const cnn_amx_lines *lines = &job->kernel->lines;
    const cnn_amx_shape *shape = &lines->shape;
    const int32_t first = panel * CNN_AMX_OUTPUTS, left = shape->k - first, values = shape->s * shape->c;
    const int32_t outputs = left < CNN_AMX_OUTPUTS ? left : CNN_AMX_OUTPUTS;
    uint32_t *dst = (uint32_t *)(void *)((uint8_t *)job->packed + (size_t)panel * lines->panel_bytes);
    const uint16_t *row[2];
    if (outputs < CNN_AMX_OUTPUTS)
        memset(dst, 0, lines->panel_bytes);
    for (int32_t r = shape->r - 1; r >= 0; r--)
        for (int32_t v = 0; v < values; v += 2, dst += CNN_AMX_OUTPUTS) {
            for (int32_t i = 0; i < 2; i++) {
                const int32_t s = shape->s - 1 - (v + i) / shape->c, k = (v + i) % shape->c;
                row[i] = job->weights + (((int64_t)k * shape->r + r) * shape->s + s) * shape->k + first;
            }
            interleave(row[0], row[1], outputs, dst);
        }
}

/* Task: a pair of panels. */
static void pack_task(void *context, int pair, int worker)
{
    const pack_job *job = context;
    const cnn_amx_lines *lines = &job->kernel->lines;
    (void)worker;
    for (int32_t panel = 2 * pair; panel < 2 * pair + 2 && panel < lines->panels; panel++)
        if (job->kernel->dgrad)
            pack_turned(job, panel);
        else
            cnn_amx_lines_pack(lines, job->weights, panel, job->packed);
}

static void pack_into(const amx_bf16 *kernel, const void *weights, void *packed)
{
    pack_job job = {kernel, weights, packed};
    kernel->cpu.device->host->parallel(kernel->lines.pairs, pack_task, &job);
}

static cnn_status pack(cnn_kernel *base, const void *weights)
{
    amx_bf16 *kernel = (amx_bf16 *)base;
    const cnn_host *host = kernel->cpu.device->host;
    if (!kernel->cpu.packed)
        kernel->cpu.packed = host->alloc(kernel->lines.packed_bytes);
    if (!kernel->cpu.packed)
        return host->error(CNN_ERR_MEMORY, "device cpu: out of memory for %zu bytes of packed weights",
                           kernel->lines.packed_bytes);
    pack_into(kernel, weights, kernel->cpu.packed);
    return CNN_OK;
}

/* ---- A run ---- */

typedef struct end_job {
    const amx_bf16 *kernel;
    void *const *args;
} end_job;

static void finish(void *context, const cnn_amx_band *band)
{
    const end_job *job = context;
    const cnn_amx_lines *lines = &job->kernel->lines;
    const cnn_amx_shape *shape = &lines->shape;
    const int32_t first = band->panel * CNN_AMX_OUTPUTS, left = shape->k - first;
    const int32_t count = left < CNN_AMX_SUMS ? left : CNN_AMX_SUMS;
    for (int32_t i = 0; i < band->windows; i++) {
        float *sums = (float *)band->sums + (ptrdiff_t)i * lines->pitch * CNN_AMX_SUMS;
        const int64_t pixel = ((int64_t)band->image * shape->out_h + band->first + i) * shape->out_w;
        cnn_epilogue_store_pixels(job->kernel->loops, &job->kernel->cpu.base.desc, job->args, sums, CNN_AMX_SUMS, pixel,
                                  shape->out_w, first, count);
    }
}

static size_t lanes_bytes(const amx_bf16 *kernel)
{
    return (size_t)kernel->lines.lanes * (kernel->lines.lines_bytes + kernel->lines.sums_bytes);
}

static cnn_status run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const amx_bf16 *kernel = (const amx_bf16 *)base;
    end_job end = {kernel, args};
    cnn_amx_job job = {
        .lines = &kernel->lines,
        .src = args[CNN_ARG_SRC],
        .packed = kernel->cpu.packed,
        .memory = workspace,
        .finish = finish,
        .context = &end,
    };
    if (!base->desc.constant_weights) {
        void *packed = (uint8_t *)workspace + lanes_bytes(kernel);
        pack_into(kernel, args[CNN_ARG_WEIGHT], packed);
        job.packed = packed;
    }
    cnn_amx_lines_run(&job, kernel->cpu.device->host);
    return CNN_OK;
}

/* ---- The kernel ---- */

bool cnn_cpu_conv_bf16_amx_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    const bool dgrad = desc->op == CNN_OP_CONV_DGRAD;
    (void)isa;
    if (desc->arg[CNN_ARG_SRC].dtype != CNN_BF16 || desc->arg[CNN_ARG_WEIGHT].dtype != CNN_BF16)
        return cnn_refuse(why, "src and weights are not bf16");
    if (!cnn_unpadded(desc, why) || !cnn_epilogue_suits(desc, why) || !cnn_conv_shape_fits(desc, why))
        return false;
    const cnn_amx_shape shape = shape_of(desc);
    if (dgrad && (shape.stride != 1 || shape.r != shape.s || shape.pad < 0))
        return cnn_refuse(why, "only square filters at stride 1, with less padding than their size");
    return cnn_amx_lines_suit(&shape, why);
}

cnn_status cnn_cpu_conv_bf16_amx_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    amx_bf16 *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    const cnn_amx_shape shape = shape_of(desc);
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->dgrad = desc->op == CNN_OP_CONV_DGRAD;
    cnn_amx_lines_plan(&kernel->lines, &shape, cnn_amx_multiply_bf16, device->host);
    kernel->cpu.base.workspace_bytes =
        cnn_cpu_aligned(lanes_bytes(kernel)) + (desc->constant_weights ? 0 : kernel->lines.packed_bytes);
    kernel->cpu.base.pack = desc->constant_weights ? pack : NULL;
    kernel->cpu.base.run = run;
    *made = &kernel->cpu.base;
    return CNN_OK;
}

#else
typedef int cnn_cpu_conv_bf16_amx_not_here; /* ISO C wants a declaration */
#endif
