/* CONV and LINEAR in INT8 with their epilogues: im2col, a product with packed weights, a formula at the end.
 *
 * The output is cut into chunks of pixels (through all images) and, when there are too few chunks to keep all threads
 * busy, into ranges of outputs. An item of work is one chunk by one range:
 *
 *   rows = im2col(chunk); for each two panels of the range: sums = rows * weights; outputs = formula(sums)
 *
 * Sums are exact, so that neither cut can change a result. As many lanes share the work as there were threads when the
 * kernel was made, one alone when there is little, each with scratch of its own. */
#include "kernels/cpu/conv_i8.h"

#include "kernels/cpu/pack_i8.h"

#include <stdio.h>
#include <string.h>

enum {
    ROWS_BYTES = 192 * 1024, /* of a chunk's converted rows: they are read once for each two panels, from L2 */
    MOST_PIXELS = 112,       /* of a chunk: its sums stay in L1 */
    ITEMS_PER_LANE = 4,
    ROWS_SLACK = 64 /* im2col and convert touch bytes beyond the last row */
};

typedef struct conv_i8 {
    cnn_cpu_kernel base;
    const cnn_cpu_gemm_i8 *gemm;
    cnn_i8_conv conv;
    cnn_i8_packed packed;
    int32_t lanes;
    int32_t chunk; /* windows */
    int32_t chunks, ranges;
    int32_t range;                              /* panels, even */
    size_t row_bytes;                           /* of im2col */
    int32_t blocks;                             /* of a converted row */
    size_t bytes_bytes, rows_bytes, sums_bytes; /* parts of a lane's scratch */
} conv_i8;

/* One run. */
typedef struct conv_job {
    const conv_i8 *kernel;
    void *const *args;
    const void *packed;
    uint8_t *scratch; /* [lanes] */
    int *gathered;    /* [lanes], the chunk whose rows each has, or -1 */
} conv_job;

/* ---- One item ---- */

typedef struct lane_scratch {
    int8_t *bytes; /* [pixels][row_bytes] */
    uint8_t *rows; /* converted; or `bytes` */
    int32_t *sums; /* [pixels][CNN_I8_SUMS] */
} lane_scratch;

static lane_scratch lane_get(const conv_job *job, int number)
{
    const conv_i8 *kernel = job->kernel;
    uint8_t *scratch = job->scratch + (size_t)number * (kernel->bytes_bytes + kernel->rows_bytes + kernel->sums_bytes);
    lane_scratch lane;
    lane.bytes = (int8_t *)scratch;
    lane.rows = kernel->gemm->convert ? scratch + kernel->bytes_bytes : scratch;
    lane.sums = (int32_t *)(scratch + kernel->bytes_bytes + kernel->rows_bytes);
    return lane;
}

void cnn_cpu_finish_i8(const cnn_cpu_gemm_i8 *gemm, const cnn_op_desc *desc, void *const args[CNN_ARG_COUNT],
                       const int32_t *sums, int32_t area, int64_t first, int32_t count, int32_t k0)
{
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    const cnn_epilogue_kind kind = desc->epilogue_count > 0 ? desc->epilogue[0] : CNN_EPILOGUE_NONE;
    const int32_t left = desc->arg[CNN_ARG_WEIGHT].n - k0, channels = left < CNN_I8_PANEL ? left : CNN_I8_PANEL;
    int8_t *out = (int8_t *)args[CNN_ARG_DST] + (size_t)(first * dst->c_pad + k0) * cnn_dtype_bytes(dst->dtype);
    if (kind == CNN_EPILOGUE_NONE) {
        for (int32_t i = 0; i < count; i++)
            memcpy(out + (size_t)i * (size_t)dst->c_pad * sizeof *sums, sums + (size_t)i * CNN_I8_SUMS,
                   (size_t)channels * sizeof *sums);
        return;
    }
    const int32_t *bias = (const int32_t *)args[CNN_ARG_BIAS] + k0;
    const float *mult = (const float *)args[CNN_ARG_MULT] + k0;
    int32_t some_bias[CNN_I8_PANEL] = {0};
    float some_mult[CNN_I8_PANEL] = {0};
    if (channels < CNN_I8_PANEL) {
        bias = memcpy(some_bias, bias, (size_t)channels * sizeof *bias);
        mult = memcpy(some_mult, mult, (size_t)channels * sizeof *mult);
    }
    const cnn_i8_finish end = {
        .sums = sums,
        .stride = CNN_I8_SUMS,
        .outputs = count,
        .area = area,
        .bias = bias,
        .mult = mult,
        .lo = desc->lo,
        .hi = desc->hi,
        .dst = out,
        .dst_stride = (size_t)dst->c_pad,
        .channels = channels,
    };
    if (kind == CNN_EPILOGUE_REQUANTIZE)
        gemm->requantize(&end);
    else
        gemm->dequantize(&end);
}

void cnn_cpu_clear_padding_i8(const cnn_tensor_desc *dst, void *data, int64_t first, int64_t count)
{
    const size_t bytes = cnn_dtype_bytes(dst->dtype);
    for (int64_t i = first; i < first + count && dst->c_pad > dst->c; i++)
        memset((uint8_t *)data + (size_t)(i * dst->c_pad + dst->c) * bytes, 0, (size_t)(dst->c_pad - dst->c) * bytes);
}

static void run_panels(const conv_job *job, const lane_scratch *lane, int64_t first, int32_t count, int32_t panel,
                       int32_t panels)
{
    const conv_i8 *kernel = job->kernel;
    const cnn_i8_packed *packed = &kernel->packed;
    const cnn_i8_product product = {
        .rows = lane->rows,
        .weights = (const int8_t *)job->packed + (size_t)panel * packed->panel_bytes,
        .start = cnn_cpu_packed_i8_start(packed, job->packed) + (size_t)panel * CNN_I8_PANEL,
        .sums = lane->sums,
        .panel_bytes = packed->panel_bytes,
        .pixels = count * kernel->conv.pool * kernel->conv.pool,
        .panels = panels,
        .depth = packed->depth,
    };
    kernel->gemm->product(&product);
    for (int32_t j = 0; j < panels; j++) {
        cnn_cpu_finish_i8(kernel->gemm, &kernel->base.base.desc, job->args, lane->sums + j * CNN_I8_PANEL,
                          kernel->conv.pool * kernel->conv.pool, first, count, (panel + j) * CNN_I8_PANEL);
    }
}

static void gather(const conv_job *job, const lane_scratch *lane, int64_t first, int32_t count)
{
    const conv_i8 *kernel = job->kernel;
    cnn_cpu_im2col_i8(&kernel->conv, job->args[CNN_ARG_SRC], first, count, lane->bytes, kernel->row_bytes);
    const cnn_i8_convert convert = {
        .bytes = lane->bytes,
        .row_bytes = kernel->row_bytes,
        .pixels = count * kernel->conv.pool * kernel->conv.pool,
        .blocks = kernel->blocks,
        .rows = lane->rows,
    };
    if (kernel->gemm->convert)
        kernel->gemm->convert(&convert);
}

/* Task: an item. Those of one chunk follow each other, so that a lane often has its rows already. */
static void run_item(void *context, int item, int number)
{
    const conv_job *job = context;
    const conv_i8 *kernel = job->kernel;
    const int64_t windows = (int64_t)kernel->conv.n * kernel->conv.out_h * kernel->conv.out_w;
    const lane_scratch lane = lane_get(job, number);
    const int chunk = item / kernel->ranges;
    const int32_t panel = item % kernel->ranges * kernel->range;
    const int64_t first = (int64_t)chunk * kernel->chunk;
    const int32_t count = windows - first < kernel->chunk ? (int32_t)(windows - first) : kernel->chunk;
    if (kernel->gemm->begin)
        kernel->gemm->begin();
    if (chunk != job->gathered[number])
        gather(job, &lane, first, count);
    job->gathered[number] = chunk;
    for (int32_t j = panel; j < panel + kernel->range && j < kernel->packed.panels; j += CNN_I8_PANELS) {
        const int32_t left = kernel->packed.panels - j;
        run_panels(job, &lane, first, count, j, left < CNN_I8_PANELS ? left : CNN_I8_PANELS);
    }
    if (panel == 0)
        cnn_cpu_clear_padding_i8(&kernel->base.base.desc.arg[CNN_ARG_DST], job->args[CNN_ARG_DST], first, count);
    if (kernel->gemm->end)
        kernel->gemm->end();
}

/* ---- Packing ---- */

typedef struct pack_job {
    const conv_i8 *kernel;
    const void *weights;
    void *packed;
} pack_job;

static void pack_panel(void *context, int panel, int worker)
{
    (void)worker;
    const pack_job *job = context;
    const conv_i8 *kernel = job->kernel;
    const cnn_op_desc *desc = &kernel->base.base.desc;
    cnn_cpu_pack_i8(kernel->gemm, &kernel->packed, &desc->arg[CNN_ARG_WEIGHT], job->weights,
                    desc->arg[CNN_ARG_SRC].c_pad, panel, job->packed);
    if (kernel->base.base.spent) {
        const cnn_tensor_desc *weight = &desc->arg[CNN_ARG_WEIGHT];
        const size_t output_bytes = cnn_desc_bytes(weight) / (size_t)weight->n;
        const int32_t first = panel * CNN_I8_PANEL, left = weight->n - first;
        kernel->base.base.spent((const int8_t *)job->weights + (size_t)first * output_bytes,
                                (size_t)(left < CNN_I8_PANEL ? left : CNN_I8_PANEL) * output_bytes);
    }
}

static void pack_into(const conv_i8 *kernel, const void *weights, void *packed)
{
    pack_job job = {kernel, weights, packed};
    kernel->base.device->host->parallel(kernel->packed.panels, pack_panel, &job);
}

static cnn_status pack(cnn_kernel *base, const void *weights)
{
    conv_i8 *kernel = (conv_i8 *)base;
    const cnn_host *host = kernel->base.device->host;
    if (!kernel->base.packed)
        kernel->base.packed = host->alloc(kernel->packed.bytes);
    if (!kernel->base.packed)
        return host->error(CNN_ERR_MEMORY, "out of memory: %zu bytes for packed weights", kernel->packed.bytes);
    pack_into(kernel, weights, kernel->base.packed);
    return CNN_OK;
}

/* ---- The kernel ---- */

static size_t scratch_bytes(const conv_i8 *kernel)
{
    return (size_t)kernel->lanes * (kernel->bytes_bytes + kernel->rows_bytes + kernel->sums_bytes);
}

/* Of the lanes' scratch, then of `gathered`. */
static size_t lanes_bytes(const conv_i8 *kernel)
{
    return scratch_bytes(kernel) + cnn_cpu_aligned((size_t)kernel->lanes * sizeof(int));
}

static cnn_status run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const conv_i8 *kernel = (const conv_i8 *)base;
    conv_job job = {.kernel = kernel, .args = args, .packed = kernel->base.packed, .scratch = workspace};
    if (!base->desc.constant_weights) {
        void *packed = (uint8_t *)workspace + lanes_bytes(kernel);
        pack_into(kernel, args[CNN_ARG_WEIGHT], packed);
        job.packed = packed;
    }
    job.gathered = (int *)(void *)(job.scratch + scratch_bytes(kernel));
    for (int i = 0; i < kernel->lanes; i++)
        job.gathered[i] = -1;
    cnn_cpu_parallel(kernel->base.device->host, kernel->chunks * kernel->ranges, kernel->lanes, run_item, &job);
    return CNN_OK;
}

static cnn_i8_conv conv_of(const cnn_op_desc *desc)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const cnn_tensor_desc *weight = &desc->arg[CNN_ARG_WEIGHT];
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    const bool pool = cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL);
    cnn_i8_conv conv = {
        .n = src->n,
        .h = src->h,
        .w = src->w,
        .c = src->c_pad,
        .k = weight->n,
        .r = weight->h,
        .s = weight->w,
        .stride = desc->stride,
        .pad = desc->pad,
        .out_h = dst->h,
        .out_w = dst->w,
        .pool = pool ? desc->pool_kernel : 1,
        .pool_stride = pool ? desc->pool_stride : 1,
    };
    if (desc->op == CNN_OP_LINEAR) {
        conv.c *= conv.h * conv.w;
        conv.h = conv.w = conv.r = conv.s = conv.stride = 1;
        conv.pad = 0;
    }
    return conv;
}

static int32_t divide_up(int64_t a, int64_t b)
{
    return (int32_t)((a + b - 1) / b);
}

/* Windows of a chunk: as many as ROWS_BYTES and MOST_PIXELS allow, whole tiles if at all possible. */
static int32_t chunk_windows(const conv_i8 *kernel)
{
    const int32_t area = kernel->conv.pool * kernel->conv.pool;
    const int64_t fit = ROWS_BYTES / ((int64_t)kernel->blocks * CNN_I8_BLOCK_BYTES);
    const int64_t pixels = fit < kernel->gemm->tile ? kernel->gemm->tile : fit > MOST_PIXELS ? MOST_PIXELS : fit;
    int32_t step = 1; /* windows that fill whole tiles */
    while (step * area % kernel->gemm->tile != 0)
        step++;
    const int32_t windows = (int32_t)(pixels / area);
    return windows < 1 ? 1 : windows < step ? windows : windows / step * step;
}

/* Cuts the work into items. */
static void plan(conv_i8 *kernel)
{
    const cnn_i8_conv *conv = &kernel->conv;
    const int64_t windows = (int64_t)conv->n * conv->out_h * conv->out_w;
    const int32_t pairs = divide_up(kernel->packed.panels, CNN_I8_PANELS);
    kernel->lanes = cnn_cpu_lanes_i8(kernel->base.device->host,
                                     windows * conv->pool * conv->pool * cnn_i8_conv_depth(conv) * conv->k);
    kernel->chunk = chunk_windows(kernel);
    if (kernel->chunk > windows)
        kernel->chunk = (int32_t)windows;
    kernel->chunks = divide_up(windows, kernel->chunk);
    int32_t ranges = kernel->lanes > 1 ? divide_up((int64_t)kernel->lanes * ITEMS_PER_LANE, kernel->chunks) : 1;
    ranges = ranges < pairs ? ranges : pairs;
    kernel->range = divide_up(pairs, ranges) * CNN_I8_PANELS;
    kernel->ranges = divide_up(kernel->packed.panels, kernel->range);
    if (kernel->lanes > kernel->chunks * kernel->ranges)
        kernel->lanes = kernel->chunks * kernel->ranges;

    const int32_t tile = kernel->gemm->tile, pixels = divide_up(kernel->chunk * conv->pool * conv->pool, tile) * tile;
    kernel->bytes_bytes = cnn_cpu_aligned((size_t)pixels * kernel->row_bytes + ROWS_SLACK);
    if (kernel->gemm->convert)
        kernel->rows_bytes = (size_t)pixels * (size_t)kernel->blocks * CNN_I8_BLOCK_BYTES;
    kernel->sums_bytes = (size_t)pixels * CNN_I8_SUMS * sizeof(int32_t);
}

cnn_status cnn_cpu_conv_i8_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    conv_i8 *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->gemm = cnn_cpu_gemm_i8_get(device->isa);
    kernel->conv = conv_of(desc);
    const int32_t depth = cnn_i8_conv_depth(&kernel->conv);
    kernel->packed = cnn_cpu_packed_i8(kernel->gemm, kernel->conv.k, depth);
    kernel->blocks = divide_up((int64_t)kernel->packed.depth * kernel->gemm->value_bytes, CNN_I8_BLOCK_BYTES);
    kernel->row_bytes = (size_t)kernel->blocks * CNN_I8_BLOCK_BYTES / (size_t)kernel->gemm->value_bytes;
    plan(kernel);

    kernel->base.base.workspace_bytes = lanes_bytes(kernel) + (desc->constant_weights ? 0 : kernel->packed.bytes);
    kernel->base.base.pack = desc->constant_weights ? pack : NULL;
    kernel->base.base.run = run;
    snprintf(kernel->base.name, sizeof kernel->base.name, "cnn_cpu_%s_i8_%s",
             desc->op == CNN_OP_CONV ? "conv" : "linear", kernel->gemm->name);
    kernel->base.base.name = kernel->base.name;
    *made = &kernel->base.base;
    return CNN_OK;
}

/* REQUANTIZE, perhaps MAXPOOL behind it; or DEQUANTIZE; or nothing. */
static bool suits_epilogue(const cnn_op_desc *desc)
{
    switch (desc->epilogue_count) {
    case 0:
        return true;
    case 1:
        return desc->epilogue[0] == CNN_EPILOGUE_REQUANTIZE || desc->epilogue[0] == CNN_EPILOGUE_DEQUANTIZE;
    case 2:
        return desc->epilogue[0] == CNN_EPILOGUE_REQUANTIZE && desc->epilogue[1] == CNN_EPILOGUE_MAXPOOL;
    default:
        return false;
    }
}

bool cnn_cpu_conv_i8_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC];
    const cnn_tensor_desc *weight = &desc->arg[CNN_ARG_WEIGHT];
    if (src->dtype != CNN_I8 || weight->dtype != CNN_I8)
        return cnn_refuse(why, "src and weights are not i8");
    if (!suits_epilogue(desc))
        return cnn_refuse(why, "its epilogue is neither requantize, requantize and max-pool, nor dequantize");
    if ((int64_t)weight->h * weight->w * src->c_pad > INT32_MAX / 256)
        return cnn_refuse(why, "an output has too many inputs");
    if (cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL)) {
        if (desc->pool_stride < desc->pool_kernel)
            return cnn_refuse(why, "pooling windows that overlap are not fused");
        if (desc->pool_kernel * desc->pool_kernel > MOST_PIXELS)
            return cnn_refuse(why, "pooling windows of more than %d pixels are not fused", MOST_PIXELS);
    }
    return true;
}
