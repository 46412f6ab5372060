/* CONV in INT8 on images of few channels, requantized and perhaps pooled: the driver of the kernels of few_i8.h.
 *
 * An item of work is some lines of outputs of one image. What the filter sees of them is copied to a band, as bytes
 * x + 128 with the padding around, and then each line is one call. */
#if defined(__x86_64__)

#include "kernels/cpu/conv_i8.h"

#include "kernels/cpu/few_i8.h"

#include <string.h>

enum { ITEMS_PER_LANE = 4, OFFSET = 128, AMX_OUTPUTS = 64 };

typedef struct few_i8 {
    cnn_cpu_kernel base;
    cnn_i8_few line;                  /* what is the same for all */
    int32_t h, w, c, columns, pad;    /* of the image, in memory; of the filter */
    int32_t out_h, out_w;             /* after pooling */
    int32_t lanes, lines, items;      /* lines of an item, items of an image */
    size_t weights_bytes, band_bytes; /* of packed weights without `start`; of a lane's band */
} few_i8;

typedef struct few_job {
    const few_i8 *kernel;
    void *const *args;
    cnn_i8_few line;
    uint8_t *bands; /* [lanes] */
} few_job;

/* Copies the image's lines from `top` on, which may lie outside, to a band of `count` lines. */
static void fill_band(const few_i8 *kernel, const int8_t *image, int32_t top, int32_t count, uint8_t *band)
{
    const size_t line_bytes = kernel->line.line_bytes, image_line = (size_t)kernel->w * (size_t)kernel->c;
    const size_t left = (size_t)kernel->pad * (size_t)kernel->c;
    memset(band, OFFSET, (size_t)count * line_bytes);
    for (int32_t y = top; y < top + count; y++, band += line_bytes) {
        if (y < 0 || y >= kernel->h)
            continue;
        const int8_t *src = image + (size_t)y * image_line;
        for (size_t i = 0; i < image_line; i++)
            band[left + i] = (uint8_t)(src[i] + OFFSET);
    }
}

/* Task: an item. */
static void run_item(void *context, int item, int number)
{
    const few_job *job = context;
    const few_i8 *kernel = job->kernel;
    const cnn_tensor_desc *dst = &kernel->base.base.desc.arg[CNN_ARG_DST];
    const size_t image_bytes = (size_t)kernel->h * (size_t)kernel->w * (size_t)kernel->c;
    uint8_t *band = job->bands + (size_t)number * kernel->band_bytes;
    cnn_i8_few line = job->line;
    const int32_t image = item / kernel->items, first = item % kernel->items * kernel->lines;
    const int32_t left = kernel->out_h - first, lines = left < kernel->lines ? left : kernel->lines;
    const int64_t at = ((int64_t)image * kernel->out_h + first) * kernel->out_w; /* output */
    fill_band(kernel, (const int8_t *)job->args[CNN_ARG_SRC] + (size_t)image * image_bytes,
              first * line.pool - kernel->pad, lines * line.pool - 1 + line.rows, band);
    line.x = band;
    line.dst = (int8_t *)job->args[CNN_ARG_DST] + (size_t)at * line.dst_stride;
    for (int32_t y = 0; y < lines; y++) {
        cnn_cpu_few_i8_avx512vnni(&line);
        line.x += (size_t)line.pool * line.line_bytes;
        line.dst += (size_t)kernel->out_w * line.dst_stride;
    }
    cnn_cpu_clear_padding_i8(dst, job->args[CNN_ARG_DST], at, (int64_t)lines * kernel->out_w);
}

/* ---- Packing ---- */

static int32_t *start_in(const few_i8 *kernel, void *packed)
{
    return (int32_t *)(void *)((uint8_t *)packed + kernel->weights_bytes);
}

static size_t filter_bytes(const cnn_i8_few *line)
{
    return (size_t)(line->rows * line->groups + line->downs) * CNN_I8_FEW_GROUP;
}

static size_t packed_bytes(const few_i8 *kernel)
{
    return cnn_cpu_aligned(kernel->weights_bytes + (size_t)kernel->line.outputs * sizeof(int32_t));
}

/* Where a filter's byte goes that its line r has left over. */
static size_t place_down(const cnn_i8_few *line, int32_t r)
{
    const int32_t behind = r - (line->rows - line->downs); /* the line at which the first group ends */
    const int32_t group = behind > 0 ? behind : 0, before = behind < 0 ? -behind : 0;
    return (size_t)((line->rows * line->groups + group + 1) * CNN_I8_FEW_GROUP - 1 - before);
}

/* packed: what cnn_i8_few says, without what a line of the filter leaves of its groups 0; then -128 times the sums. */
static void pack_into(const few_i8 *kernel, const int8_t *weights, void *packed)
{
    const cnn_tensor_desc *weight = &kernel->base.base.desc.arg[CNN_ARG_WEIGHT];
    const cnn_i8_few *line = &kernel->line;
    const int32_t line_bytes = line->groups * CNN_I8_FEW_GROUP;
    int8_t *to = packed;
    memset(packed, 0, packed_bytes(kernel));
    for (int32_t k = 0; k < line->outputs; k++, to += filter_bytes(line)) {
        int32_t sum = 0;
        for (int32_t r = 0; r < line->rows; r++)
            for (int32_t s = 0; s < kernel->columns; s++, weights += weight->c_pad)
                for (int32_t c = 0; c < weight->c; c++) {
                    const int32_t i = s * kernel->c + c;
                    to[i < line_bytes ? (size_t)(r * line_bytes + i) : place_down(line, r)] = weights[c];
                    sum += weights[c];
                }
        start_in(kernel, packed)[k] = -OFFSET * sum;
    }
}

static cnn_status pack(cnn_kernel *base, const void *weights)
{
    few_i8 *kernel = (few_i8 *)base;
    const cnn_host *host = kernel->base.device->host;
    if (!kernel->base.packed)
        kernel->base.packed = host->alloc(packed_bytes(kernel));
    if (!kernel->base.packed)
        return host->error(CNN_ERR_MEMORY, "out of memory: %zu bytes for packed weights", packed_bytes(kernel));
    pack_into(kernel, weights, kernel->base.packed);
    return CNN_OK;
}

/* ---- The kernel ---- */

/* workspace: [lanes] bands, what sums start with, packed weights that are not constant */
static cnn_status run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const few_i8 *kernel = (const few_i8 *)base;
    const int32_t *bias = args[CNN_ARG_BIAS];
    int32_t *start = (int32_t *)(void *)((uint8_t *)workspace + (size_t)kernel->lanes * kernel->band_bytes);
    void *packed = kernel->base.packed;
    if (!base->desc.constant_weights) {
        packed = (uint8_t *)start + cnn_cpu_aligned((size_t)kernel->line.outputs * sizeof *start);
        pack_into(kernel, args[CNN_ARG_WEIGHT], packed);
    }
    for (int32_t k = 0; k < kernel->line.outputs; k++)
        start[k] = (int32_t)((uint32_t)start_in(kernel, packed)[k] + (uint32_t)bias[k]);
    few_job job = {.kernel = kernel, .args = args, .line = kernel->line, .bands = workspace};
    job.line.weights = packed;
    job.line.start = start;
    job.line.mult = args[CNN_ARG_MULT];
    cnn_cpu_parallel(kernel->base.device->host, base->desc.arg[CNN_ARG_SRC].n * kernel->items, kernel->lanes, run_item,
                     &job);
    return CNN_OK;
}

/* Cuts the work into items. */
static void plan(few_i8 *kernel, int32_t images)
{
    const cnn_i8_few *line = &kernel->line;
    const int64_t outputs = (int64_t)images * kernel->out_h * kernel->out_w * line->outputs;
    kernel->lanes = cnn_cpu_lanes_i8(kernel->base.device->host,
                                     outputs * line->pool * line->pool * line->rows * kernel->columns * kernel->c);
    int32_t items = kernel->lanes > 1 ? (kernel->lanes * ITEMS_PER_LANE + images - 1) / images : 1;
    items = items < kernel->out_h ? items : kernel->out_h;
    kernel->lines = (kernel->out_h + items - 1) / items;
    kernel->items = (kernel->out_h + kernel->lines - 1) / kernel->lines;
    if (kernel->lanes > images * kernel->items)
        kernel->lanes = images * kernel->items;
    const size_t lines = (size_t)kernel->lines * (size_t)line->pool - 1 + (size_t)line->rows;
    const size_t beyond = CNN_I8_FEW_LANES * (size_t)line->step + CNN_I8_FEW_BEYOND;
    kernel->band_bytes = cnn_cpu_aligned(lines * line->line_bytes + beyond);
}

cnn_status cnn_cpu_conv_i8_few_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *weight = &desc->arg[CNN_ARG_WEIGHT];
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    few_i8 *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->h = src->h;
    kernel->w = src->w;
    kernel->c = src->c_pad;
    kernel->columns = weight->w;
    kernel->pad = desc->pad;
    kernel->out_h = dst->h;
    kernel->out_w = dst->w;
    const int32_t pool = cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL) ? 2 : 1;
    const int32_t line_bytes = weight->w * src->c_pad;
    const bool down = line_bytes > CNN_I8_FEW_GROUP && line_bytes % CNN_I8_FEW_GROUP == 1;
    kernel->line = (cnn_i8_few){
        .line_bytes = ((size_t)src->w + 2 * (size_t)desc->pad) * (size_t)src->c_pad,
        .rows = weight->h,
        .groups = (line_bytes + (down ? 0 : CNN_I8_FEW_GROUP - 1)) / CNN_I8_FEW_GROUP,
        .downs = down ? weight->h / 2 : 0,
        .pool = pool,
        .step = src->c_pad,
        .pixels = dst->w * pool,
        .outputs = weight->n,
        .lo = desc->lo,
        .hi = desc->hi,
        .dst_stride = (size_t)dst->c_pad,
    };
    kernel->weights_bytes = cnn_cpu_aligned((size_t)weight->n * filter_bytes(&kernel->line));
    plan(kernel, src->n);
    kernel->base.base.workspace_bytes = (size_t)kernel->lanes * kernel->band_bytes +
                                        cnn_cpu_aligned((size_t)weight->n * sizeof(int32_t)) +
                                        (desc->constant_weights ? 0 : packed_bytes(kernel));
    kernel->base.base.pack = desc->constant_weights ? pack : NULL;
    kernel->base.base.run = run;
    *made = &kernel->base.base;
    return CNN_OK;
}

bool cnn_cpu_conv_i8_few_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *weight = &desc->arg[CNN_ARG_WEIGHT];
    const int32_t most = weight->h == 5 ? 5 : CNN_I8_FEW_GROUP * CNN_I8_FEW_GROUPS; /* registers hold all lines */
    const bool pooled = desc->epilogue_count == 2 && desc->epilogue[1] == CNN_EPILOGUE_MAXPOOL;
    if (src->dtype != CNN_I8 || weight->dtype != CNN_I8)
        return cnn_refuse(why, "src and weights are not i8");
    if (cnn_cpu_isa_holds(isa, CNN_CPU_AMX) && weight->n > AMX_OUTPUTS)
        return cnn_refuse(why, "AMX makes more than %d outputs faster", (int)AMX_OUTPUTS);
    if (weight->w * src->c_pad > most || src->c_pad > CNN_I8_FEW_STEP)
        return cnn_refuse(why, "a line of the filter is more than %d bytes", (int)most);
    if (weight->h != weight->w || (weight->h != 3 && weight->h != 5) || desc->stride != 1)
        return cnn_refuse(why, "the filter is not 3x3 or 5x5 with a stride of 1");
    if (desc->epilogue_count == 0 || desc->epilogue[0] != CNN_EPILOGUE_REQUANTIZE || desc->epilogue_count != 1 + pooled)
        return cnn_refuse(why, "its epilogue is neither requantize nor requantize and max-pool");
    if (pooled && (desc->pool_kernel != 2 || desc->pool_stride != 2))
        return cnn_refuse(why, "pooling windows are not 2x2");
    return true;
}

#else
typedef int cnn_cpu_conv_i8_few_not_here; /* ISO C wants a declaration */
#endif
