/* CONV in INT8 with AMX, by lines of the filter (amx_lines.h). Sums are exact, so that no cut changes a result.
 *
 * Weights that are zero in whole blocks (CNN_BLOCK_16X4) are multiplied all the same, unless so few are left that
 * conv_i8_direct.c, which leaves them out but has no tiles, is faster: packing decides. */
#include "kernels/cpu/conv_i8.h"

#if defined(CNN_CPU_AMX_BUILT)

#include "kernels/cpu/amx_lines.h"
#include "kernels/cpu/direct_i8.h"

#include <stdio.h>
#include <string.h>

enum { BLOCK_OUTPUTS = 16, BLOCK_CHANNELS = 4, DENSE_SHARE = 6 }; /* one block in so many is too few for tiles */

typedef struct amx_i8 {
    cnn_cpu_kernel base;
    cnn_kernel *sparse; /* of weights with zero blocks: the kernel that leaves them out, else NULL */
    bool by_blocks;     /* it is the one that runs */
    const char *dense_name;
    cnn_amx_lines lines;
    const cnn_cpu_gemm_i8 *gemm; /* for the formulas */
    size_t pooled_bytes;         /* of a lane: [windows_w][CNN_I8_SUMS] int32 */
} amx_i8;

static cnn_amx_shape shape_of(const cnn_op_desc *desc)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *weight = &desc->arg[CNN_ARG_WEIGHT];
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    const bool pool = cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL);
    return (cnn_amx_shape){
        .n = src->n,
        .h = src->h,
        .w = src->w,
        .c = src->c_pad,
        .k = weight->n,
        .r = weight->h,
        .s = weight->w,
        .stride = desc->stride,
        .pad = desc->pad,
        .out_h = cnn_window_count(src->h, weight->h, desc->stride, desc->pad),
        .out_w = cnn_window_count(src->w, weight->w, desc->stride, desc->pad),
        .pool = pool ? desc->pool_kernel : 1,
        .pool_stride = pool ? desc->pool_stride : 1,
        .windows_h = dst->h,
        .windows_w = dst->w,
        .value_bytes = 1,
    };
}

/* Windows of one pixel leave out others. */
static bool pools(const cnn_amx_shape *shape)
{
    return shape->pool > 1 || shape->pool_stride > 1;
}

/* ---- Packing ---- */

typedef struct pack_job {
    const amx_i8 *kernel;
    const void *weights;
    void *packed;
} pack_job;

static void pack_task(void *context, int panel, int worker)
{
    const pack_job *job = context;
    (void)worker;
    cnn_amx_lines_pack(&job->kernel->lines, job->weights, panel, job->packed);
}

static void pack_into(const amx_i8 *kernel, const void *weights, void *packed)
{
    pack_job job = {kernel, weights, packed};
    kernel->base.device->host->parallel(kernel->lines.panels, pack_task, &job);
}

/* Whether 4 channels of 16 outputs are all 0. */
static bool block_is_zero(const cnn_tensor_desc *weight, const int8_t *values, int32_t first, int64_t at)
{
    const int64_t output = (int64_t)weight->h * weight->w * weight->c;
    for (int32_t k = first; k < first + BLOCK_OUTPUTS && k < weight->n; k++)
        for (int32_t c = 0; c < BLOCK_CHANNELS && at % weight->c + c < weight->c; c++)
            if (values[k * output + at + c] != 0)
                return false;
    return true;
}

/* Blocks that are left, and how many there are in all. */
static int64_t count_blocks(const cnn_tensor_desc *weight, const int8_t *values, int64_t *all)
{
    int64_t left = 0;
    *all = 0;
    for (int32_t k = 0; k < weight->n; k += BLOCK_OUTPUTS)
        for (int64_t tap = 0; tap < (int64_t)weight->h * weight->w; tap++)
            for (int32_t c = 0; c < weight->c; c += BLOCK_CHANNELS, (*all)++)
                left += !block_is_zero(weight, values, k, tap * weight->c + c);
    return left;
}

static cnn_status pack(cnn_kernel *base, const void *weights)
{
    amx_i8 *kernel = (amx_i8 *)base;
    const cnn_host *host = kernel->base.device->host;
    if (kernel->sparse) {
        int64_t all;
        kernel->by_blocks = count_blocks(&base->desc.arg[CNN_ARG_WEIGHT], weights, &all) * DENSE_SHARE < all;
        base->name = kernel->by_blocks ? kernel->sparse->name : kernel->dense_name;
        kernel->sparse->spent = base->spent;
        if (kernel->by_blocks)
            return kernel->sparse->pack(kernel->sparse, weights);
    }
    if (!kernel->base.packed)
        kernel->base.packed = host->alloc(kernel->lines.packed_bytes);
    if (!kernel->base.packed)
        return host->error(CNN_ERR_MEMORY, "out of memory: %zu bytes for packed weights", kernel->lines.packed_bytes);
    pack_into(kernel, weights, kernel->base.packed);
    if (base->spent)
        base->spent(weights, cnn_desc_bytes(&base->desc.arg[CNN_ARG_WEIGHT]));
    return CNN_OK;
}

/* ---- A run ---- */

typedef struct end_job {
    const amx_i8 *kernel;
    void *const *args;
} end_job;

/* The outputs of a band: maxima of windows, then the formula. */
static void finish(void *context, const cnn_amx_band *band)
{
    const end_job *job = context;
    const amx_i8 *kernel = job->kernel;
    const cnn_amx_shape *shape = &kernel->lines.shape;
    const cnn_op_desc *desc = &kernel->base.base.desc;
    const int32_t pitch = kernel->lines.pitch, width = shape->windows_w;
    for (int32_t i = 0; i < band->windows; i++) {
        const int32_t *sums = (const int32_t *)band->sums + (size_t)(i * shape->pool_stride * pitch) * CNN_I8_SUMS;
        const int64_t first = ((int64_t)band->image * shape->windows_h + band->first + i) * width;
        if (pools(shape)) {
            cnn_cpu_direct_i8_avx512vnni.pool(sums, pitch, shape->pool, shape->pool_stride, width, band->spare);
            sums = band->spare;
        }
        for (int32_t j = 0; j < band->panels; j++)
            cnn_cpu_finish_i8(kernel->gemm, desc, job->args, sums + j * CNN_I8_PANEL, 1, first, width,
                              (band->panel + j) * CNN_I8_PANEL);
        if (band->panel == 0)
            cnn_cpu_clear_padding_i8(&desc->arg[CNN_ARG_DST], job->args[CNN_ARG_DST], first, width);
    }
}

static size_t lanes_bytes(const amx_i8 *kernel)
{
    const cnn_amx_lines *lines = &kernel->lines;
    return (size_t)lines->lanes * (lines->lines_bytes + lines->sums_bytes + kernel->pooled_bytes);
}

static cnn_status run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const amx_i8 *kernel = (const amx_i8 *)base;
    if (kernel->by_blocks)
        return kernel->sparse->run(kernel->sparse, args, workspace);
    end_job end = {kernel, args};
    cnn_amx_job job = {
        .lines = &kernel->lines,
        .src = args[CNN_ARG_SRC],
        .packed = kernel->base.packed,
        .memory = workspace,
        .spare_bytes = kernel->pooled_bytes,
        .finish = finish,
        .context = &end,
    };
    if (!base->desc.constant_weights) {
        void *packed = (uint8_t *)workspace + lanes_bytes(kernel);
        pack_into(kernel, args[CNN_ARG_WEIGHT], packed);
        job.packed = packed;
    }
    cnn_amx_lines_run(&job, kernel->base.device->host);
    return CNN_OK;
}

/* ---- The kernel ---- */

bool cnn_cpu_conv_i8_amx_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *weight = &desc->arg[CNN_ARG_WEIGHT];
    if (!cnn_cpu_conv_i8_suits(desc, isa, why))
        return false;
    if (src->c_pad != src->c || weight->c_pad != weight->c)
        return cnn_refuse(why, "lines of the filter with padding channels");
    const cnn_amx_shape shape = shape_of(desc);
    return cnn_amx_lines_suit(&shape, why);
}

static void destroy(cnn_kernel *base)
{
    amx_i8 *kernel = (amx_i8 *)base;
    if (kernel && kernel->sparse)
        kernel->sparse->destroy(kernel->sparse);
    cnn_cpu_kernel_destroy(base);
}

/* The kernel that leaves out zero blocks, where there is one. */
static cnn_status make_sparse(amx_i8 *kernel)
{
    const cnn_op_desc *desc = &kernel->base.base.desc;
    cnn_device *device = kernel->base.device;
    char why[CNN_REASON_BYTES];
    if (desc->arg[CNN_ARG_WEIGHT].structure != CNN_BLOCK_16X4 || !cnn_cpu_conv_i8_direct_suits(desc, device->isa, why))
        return CNN_OK;
    return cnn_cpu_conv_i8_direct_make(device, desc, &kernel->sparse);
}

cnn_status cnn_cpu_conv_i8_amx_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    amx_i8 *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    const cnn_amx_shape shape = shape_of(desc);
    kernel->gemm = cnn_cpu_gemm_i8_get(device->isa);
    cnn_amx_lines_plan(&kernel->lines, &shape, cnn_amx_multiply_i8, device->host);
    if (pools(&shape))
        kernel->pooled_bytes = (size_t)shape.windows_w * CNN_I8_SUMS * sizeof(int32_t);
    kernel->base.base.workspace_bytes = lanes_bytes(kernel) + (desc->constant_weights ? 0 : kernel->lines.packed_bytes);
    kernel->base.base.pack = desc->constant_weights ? pack : NULL;
    kernel->base.base.run = run;
    kernel->base.base.destroy = destroy;
    kernel->base.base.name = kernel->dense_name = "cnn_cpu_conv_i8_direct_amx";
    status = make_sparse(kernel);
    if (status != CNN_OK) {
        destroy(&kernel->base.base);
        return status;
    }
    if (kernel->sparse && kernel->sparse->workspace_bytes > kernel->base.base.workspace_bytes)
        kernel->base.base.workspace_bytes = kernel->sparse->workspace_bytes;
    *made = &kernel->base.base;
    return CNN_OK;
}

#else
typedef int cnn_cpu_conv_i8_amx_not_here; /* ISO C wants a declaration */
#endif
