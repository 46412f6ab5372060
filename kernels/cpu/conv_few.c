/* Convolutions of stride 1 with few output channels, and data gradients with few input channels, in float.
 *
 * A vector of output channels would be mostly empty, so vectors run along the pixels of a row. A task is one image: its
 * lines are dealt into planes [line][channel][column] as f32, with zeros left and right, so that
 *
 *   sums[k][x] = sum over (r,s,c) of weight[(r,s,c)][k] * plane[y + r - pad_h][c][x + s]
 *
 * for whole vectors of x. Filter rows outside the image are left out. The sums of a row then become pixels.
 * The data gradient is the same over dy with the filter turned around. Weights are packed by every run: they are few.
 */
#include "kernels/cpu/epilogue.h"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/gather.h"
#include "kernels/cpu/planes.h"

enum {
    FEW_CHANNELS = CNN_GATHER_SHORT, /* output channels below it */
    SUMS = 8,                        /* planes of sums: as many are read when they become pixels */
    POOL_PLANES = 16,                /* scratch of pooling */
    POOLED_FLOATS = 2048,            /* that are kept until they are stored, if they are several rows */
    MOST_PLANES = 32768,             /* floats of an image's planes */
    MOST_WEIGHTS = 16384,
    SLACK = 32 /* two vectors */
};

typedef struct few_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    cnn_conv_shape shape;
    cnn_dtype weight_dtype;
    bool dgrad, relu, pools;
    int32_t in_h, in_w, in_c, out_h, out_w, out_c; /* of what is read and written: dgrad swaps x and y */
    int32_t pad_h, pad_w;
    int32_t depth; /* R*S*in_c */
    cnn_planes planes;
    ptrdiff_t sums_pitch; /* floats between channels' sums */
    int32_t pool_lines;   /* rows of windows that are kept until they are stored */
    int slots;
    size_t weights_bytes, wide_bytes, offsets_bytes, bias_bytes; /* of the workspace, then the slots */
    size_t planes_bytes, sums_bytes, line_bytes, pool_bytes, slot_bytes;
} few_kernel;

typedef struct few_run {
    const few_kernel *kernel;
    void *const *args;
    float *weights;  /* [depth][out_c] */
    float *bias;     /* what sums begin with, [out_c][sums_pitch], or NULL */
    int32_t *offset; /* of a term in the planes */
    char *slots;     /* a slot: planes, sums of a row, a line of pixels, lines to pool */
} few_run;

/* ---- Before the tasks ---- */

static void pack_weights(const few_kernel *kernel, const float *w, float *packed)
{
    const cnn_conv_shape *shape = &kernel->shape;
    for (int32_t r = 0; r < shape->r; r++)
        for (int32_t s = 0; s < shape->s; s++)
            for (int32_t c = 0; c < kernel->in_c; c++)
                for (int32_t k = 0; k < kernel->out_c; k++) {
                    int32_t tap = kernel->dgrad ? (shape->r - 1 - r) * shape->s + shape->s - 1 - s : r * shape->s + s;
                    int32_t outer = kernel->dgrad ? c : k, inner = kernel->dgrad ? k : c;
                    *packed++ = w[(outer * shape->r * shape->s + tap) * shape->c + inner];
                }
}

/* ---- One image ---- */

/* sums[out_c][out_w] of row y, behind the bias if there is one. */
static void multiply(const few_run *run, int32_t y, const float *planes, float *sums)
{
    const few_kernel *kernel = run->kernel;
    const cnn_cpu_loops *loops = kernel->loops;
    const int32_t row = y - kernel->pad_h, terms = kernel->shape.s * kernel->in_c;
    const int32_t low = row < 0 ? -row : 0;
    const int32_t high = kernel->in_h - row < kernel->shape.r ? kernel->in_h - row : kernel->shape.r;
    if (run->bias)
        memcpy(sums, run->bias, kernel->bias_bytes);
    else if (high <= low)
        memset(sums, 0, kernel->sums_bytes);
    if (high <= low)
        return;
    const float *b = planes + (row + low) * kernel->in_c * kernel->planes.pitch;
    const int tiles = (kernel->out_c + loops->tile_rows - 1) / loops->tile_rows;
    for (int32_t x = 0; x < kernel->out_w; x += 2 * loops->lanes) {
        const cnn_taps_fn *tile = loops->tile_by_taps[kernel->out_w - x > loops->lanes];
        for (int t = 0; t < tiles; t++) {
            int first = kernel->out_c * t / tiles, count = kernel->out_c * (t + 1) / tiles - first;
            tile[count - 1](run->weights + low * terms * kernel->out_c + first, kernel->out_c, b + x, run->offset,
                            sums + first * kernel->sums_pitch + x, kernel->sums_pitch, (high - low) * terms,
                            run->bias != NULL);
        }
    }
}

/* Rows of an image. */
static void store_rows(const few_run *run, int64_t image, const float *planes, float *sums, float *line)
{
    const few_kernel *kernel = run->kernel;
    const cnn_cpu_loops *loops = kernel->loops;
    const int64_t count = (int64_t)kernel->out_w * kernel->out_c;
    const cnn_dtype dtype = kernel->cpu.base.desc.arg[CNN_ARG_DST].dtype;
    for (int32_t y = 0; y < kernel->out_h; y++) {
        const int64_t first = (image * kernel->out_h + y) * count;
        void *dst = (char *)run->args[CNN_ARG_DST] + (size_t)first * cnn_dtype_bytes(dtype);
        /* in place, what is written behind the row is written again by the next */
        const bool in_place = dtype == CNN_F32 && y + 1 < kernel->out_h && count >= SUMS;
        multiply(run, y, planes, sums);
        if (kernel->relu)
            loops->relu(sums, sums, kernel->out_c * kernel->sums_pitch);
        loops->interleave(sums, kernel->sums_pitch, kernel->out_c, kernel->out_w, in_place ? dst : line);
        if (!in_place)
            loops->from_f32(dtype, line, dst, count);
    }
}

/* Rows of windows of an image, which are pooled while channels are planes. Some rows are kept until they are stored:
 * the CPU reads what was written in pieces only when it has left for the cache. memory: of pool_bytes. */
static void pool_rows(const few_run *run, int64_t image, const float *planes, float *sums, float *memory)
{
    const few_kernel *kernel = run->kernel;
    const cnn_op_desc *desc = &kernel->cpu.base.desc;
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    const float *bias = cnn_op_has_epilogue(desc, CNN_EPILOGUE_BIAS) ? run->args[CNN_ARG_BIAS] : NULL;
    const ptrdiff_t pitch = kernel->sums_pitch;
    const int64_t line = (int64_t)dst->w * dst->c;
    float *bottom = memory, *scratch = bottom + SUMS * pitch, *max = scratch + POOL_PLANES * pitch;
    float *number = max + kernel->pool_lines * line + CNN_PLANES_SLACK;
    for (int32_t first = 0; first < dst->h; first += kernel->pool_lines) {
        const int32_t lines = dst->h - first < kernel->pool_lines ? dst->h - first : kernel->pool_lines;
        const int64_t at = (image * dst->h + first) * line;
        for (int32_t p = 0; p < lines; p++) {
            multiply(run, 2 * (first + p), planes, sums);
            multiply(run, 2 * (first + p) + 1, planes, bottom);
            kernel->loops->pool_planes(sums, bottom, pitch, kernel->out_c, dst->w, bias, kernel->relu, scratch,
                                       max + p * line, number + p * line);
        }
        kernel->loops->from_f32(
            dst->dtype, max, (char *)run->args[CNN_ARG_DST] + (size_t)at * cnn_dtype_bytes(dst->dtype), lines * line);
        kernel->loops->to_index(number, lines * line, (uint8_t *)run->args[CNN_ARG_INDEX] + at);
    }
}

static void image_task(void *context, int task, int worker)
{
    const few_run *run = context;
    const few_kernel *kernel = run->kernel;
    char *slot = run->slots + (size_t)worker * kernel->slot_bytes;
    float *planes = (float *)(void *)slot, *sums = (float *)(void *)(slot + kernel->planes_bytes);
    char *lines = slot + kernel->planes_bytes + kernel->sums_bytes;
    float *line = (float *)(void *)lines;
    memset(planes, 0, kernel->planes_bytes);
    memset(sums, 0, kernel->sums_bytes);
    cnn_planes_fill(&kernel->planes, run->args[CNN_ARG_SRC], task, 0, kernel->in_h, planes, line);
    if (kernel->pools)
        pool_rows(run, task, planes, sums, (float *)(void *)(lines + kernel->line_bytes));
    else
        store_rows(run, task, planes, sums, line);
}

/* ---- The kernel ---- */

static cnn_status few_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const few_kernel *kernel = (const few_kernel *)base;
    char *memory = workspace;
    few_run run = {.kernel = kernel, .args = args, .weights = (float *)(void *)memory};
    const float *w = args[CNN_ARG_WEIGHT];
    memory += kernel->weights_bytes;
    if (kernel->weight_dtype != CNN_F32) {
        float *wide = (float *)(void *)memory;
        kernel->loops->to_f32(kernel->weight_dtype, args[CNN_ARG_WEIGHT], wide,
                              cnn_desc_elements(&base->desc.arg[CNN_ARG_WEIGHT]));
        w = wide;
    }
    memory += kernel->wide_bytes;
    run.offset = (int32_t *)(void *)memory;
    memory += kernel->offsets_bytes;
    pack_weights(kernel, w, run.weights);
    cnn_planes_offsets(&kernel->planes, kernel->shape.r, kernel->shape.s, run.offset);
    if (cnn_op_has_epilogue(&base->desc, CNN_EPILOGUE_BIAS) && !kernel->pools) { /* else it is added to maxima */
        run.bias = (float *)(void *)memory;
        for (int32_t k = 0; k < kernel->out_c; k++)
            for (ptrdiff_t x = 0; x < kernel->sums_pitch; x++)
                run.bias[k * kernel->sums_pitch + x] = ((const float *)args[CNN_ARG_BIAS])[k];
    }
    run.slots = memory + kernel->bias_bytes;
    cnn_cpu_parallel(kernel->cpu.device->host, kernel->shape.n, kernel->slots, image_task, &run);
    return CNN_OK;
}

static void choose_sizes(few_kernel *kernel, const cnn_op_desc *desc, const cnn_cpu_loops *loops)
{
    const cnn_conv_shape shape = cnn_conv_shape_of(desc);
    const bool dgrad = desc->op == CNN_OP_CONV_DGRAD;
    kernel->loops = loops;
    kernel->shape = shape;
    kernel->dgrad = dgrad;
    kernel->in_h = dgrad ? shape.p : shape.h;
    kernel->in_w = dgrad ? shape.q : shape.w;
    kernel->in_c = dgrad ? shape.k : shape.c;
    kernel->out_h = dgrad ? shape.h : shape.p;
    kernel->out_w = dgrad ? shape.w : shape.q;
    kernel->out_c = dgrad ? shape.c : shape.k;
    kernel->pad_h = dgrad ? shape.r - 1 - shape.pad : shape.pad;
    kernel->pad_w = dgrad ? shape.s - 1 - shape.pad : shape.pad;
    kernel->depth = shape.r * shape.s * kernel->in_c;
    kernel->planes = (cnn_planes){.loops = loops,
                                  .dtype = desc->arg[CNN_ARG_SRC].dtype,
                                  .h = kernel->in_h,
                                  .w = kernel->in_w,
                                  .c = kernel->in_c,
                                  .pad = kernel->pad_w,
                                  .pitch = kernel->out_w + shape.s - 1};
    kernel->sums_pitch = (kernel->out_w + loops->lanes - 1) / loops->lanes * loops->lanes;
}

bool cnn_cpu_conv_few_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    if (!cnn_conv_goes_by_lines(desc, why))
        return false;
    cnn_op_desc plain;
    if (cnn_epilogue_unpool(desc, &plain) && (desc->pool_kernel != 2 || desc->pool_stride != 2))
        return cnn_refuse(why, "it pools by 2 x 2");
    if (!cnn_epilogue_suits(&plain, why))
        return false;
    for (int32_t i = 0; i < plain.epilogue_count; i++)
        if (plain.epilogue[i] != CNN_EPILOGUE_BIAS && plain.epilogue[i] != CNN_EPILOGUE_RELU)
            return cnn_refuse(why, "its epilogue is more than bias, relu, max-pool with an index");
    few_kernel sizes;
    choose_sizes(&sizes, desc, cnn_cpu_loops_get(isa));
    const int32_t lanes = sizes.loops->lanes;
    const int64_t channels = (sizes.out_c + lanes - 1) / lanes * lanes;
    if (sizes.out_c >= FEW_CHANNELS || sizes.pad_h < 0 || sizes.pad_w < 0 ||
        sizes.out_w * channels < sizes.out_c * (int64_t)sizes.sums_pitch)
        return cnn_refuse(why, "vectors of pixels would be emptier than vectors of channels");
    if ((int64_t)sizes.in_h * sizes.in_c * sizes.planes.pitch > MOST_PLANES ||
        (int64_t)sizes.depth * sizes.out_c > MOST_WEIGHTS)
        return cnn_refuse(why, "images or weights do not stay in cache");
    return true;
}

static void choose_memory(few_kernel *kernel)
{
    const size_t floats = sizeof(float), weights = (size_t)kernel->depth * (size_t)kernel->out_c;
    const size_t in_line = (size_t)kernel->in_w * (size_t)kernel->in_c;
    const size_t out_line = (size_t)kernel->out_w * (size_t)kernel->out_c;
    kernel->weights_bytes = cnn_cpu_aligned(weights * floats);
    kernel->wide_bytes = kernel->weight_dtype == CNN_F32 ? 0 : kernel->weights_bytes;
    kernel->offsets_bytes = cnn_cpu_aligned((size_t)kernel->depth * sizeof(int32_t));
    kernel->bias_bytes = cnn_cpu_aligned((size_t)kernel->out_c * (size_t)kernel->sums_pitch * floats);
    kernel->planes_bytes =
        cnn_cpu_aligned(((size_t)kernel->in_h * (size_t)kernel->in_c * (size_t)kernel->planes.pitch + SLACK) * floats);
    kernel->sums_bytes = cnn_cpu_aligned(SUMS * (size_t)kernel->sums_pitch * floats);
    kernel->line_bytes = cnn_cpu_aligned(((in_line > out_line ? in_line : out_line) + CNN_PLANES_SLACK) * floats);
    if (kernel->pools) { /* sums of a second row, scratch, rows of maxima and of their numbers */
        const int32_t rows = kernel->cpu.base.desc.arg[CNN_ARG_DST].h, fit = (int32_t)(2 * POOLED_FLOATS / out_line);
        kernel->pool_lines = fit < 1 ? 1 : fit < rows ? fit : rows;
        kernel->pool_bytes = cnn_cpu_aligned(((size_t)(SUMS + POOL_PLANES) * (size_t)kernel->sums_pitch +
                                              (size_t)kernel->pool_lines * out_line + 2 * CNN_PLANES_SLACK) *
                                             floats);
    }
    kernel->slot_bytes = kernel->planes_bytes + kernel->sums_bytes + kernel->line_bytes + kernel->pool_bytes;
    kernel->slots = kernel->cpu.device->host->threads();
    kernel->cpu.base.workspace_bytes = kernel->weights_bytes + kernel->wide_bytes + kernel->offsets_bytes +
                                       kernel->bias_bytes + (size_t)kernel->slots * kernel->slot_bytes;
}

cnn_status cnn_cpu_conv_few_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    few_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    choose_sizes(kernel, desc, cnn_cpu_loops_get(device->isa));
    kernel->weight_dtype = desc->arg[CNN_ARG_WEIGHT].dtype;
    kernel->relu = cnn_op_has_epilogue(desc, CNN_EPILOGUE_RELU);
    kernel->pools = desc->arg[CNN_ARG_INDEX].dtype != CNN_NONE;
    choose_memory(kernel);
    kernel->cpu.base.run = few_run_kernel;
    cnn_cpu_kernel_name_float(&kernel->cpu, kernel->dgrad ? "conv_dgrad_few" : "conv_few", kernel->planes.dtype);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
