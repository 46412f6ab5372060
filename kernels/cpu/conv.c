/* Convolution, linear layer, and their data gradients in float: packed matrix products in register tiles.
 *
 *   for each block of output pixels and each chunk of output columns (one task)
 *     for each depth: pack A [pixels, depth] from the image; for each panel of B: for each tile of pixels: multiply
 *     epilogue, round, store
 *
 * B [depth, columns] is the weights in panels of two vectors. They are packed once when constant, before the tasks of
 * every run when several blocks of pixels use them, and otherwise inside the only task that does. Each output element
 * is summed by one task in depth order, so results do not depend on the number of threads. */
#include "kernels/cpu/floats.h"
#include "kernels/cpu/gather.h"
#include "kernels/cpu/epilogue.h"

enum {
    BLOCK_TILES_AVX512 = 8, /* 112 pixels: A of one depth is 120 KiB, half of a small L2 cache */
    BLOCK_TILES = 16,
    MAX_BLOCK_ROWS = 128,
    CHUNK_COLUMNS = 256, /* most columns of a task */
    LONE_CHUNKS = 16     /* a single block of pixels is divided into about so many column chunks */
};

typedef enum pack_mode { PACK_ONCE, PACK_EACH_RUN, PACK_IN_TASK } pack_mode;

typedef struct conv_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    cnn_conv_shape shape;
    cnn_gather gather;
    cnn_dtype src_dtype, weight_dtype;
    cnn_dtype gather_dtype; /* src_dtype, or f32 when src is widened first */
    int64_t src_elements;
    bool dgrad;
    pack_mode mode;
    int block_rows, chunk_columns, panel_columns;
    int32_t columns; /* output channels */
    int64_t depth;   /* of the packed weights: taps * input channels */
    int chunks, slots;
    size_t wide_bytes;
    size_t packed_bytes;                          /* all panels */
    size_t a_bytes, c_bytes, b_bytes, slot_bytes; /* scratch of one task */
} conv_kernel;

/* What the tasks of one run share. */
typedef struct conv_run {
    const conv_kernel *kernel;
    void *const *args;
    const void *src; /* as kernel->gather_dtype */
    const void *weights;
    float *packed; /* all panels; NULL: packed in the tasks */
    char *scratch;
} conv_run;

/* ---- Packing weights ----
 * Panel p holds columns [p*panel_columns, ...), row k of it `width` floats; the last panel may be one vector wide. */

static int panel_width(const conv_kernel *kernel, int32_t column)
{
    return kernel->columns - column > kernel->loops->lanes ? kernel->panel_columns : kernel->loops->lanes;
}

/* Forward: B[k][column] = W[column][k], a transposition. */
static void pack_panel_forward(const conv_kernel *kernel, const void *weights, int32_t column, int64_t first,
                               int length, float *dst)
{
    float rows[32 * CNN_GEMM_PITCH];
    int width = panel_width(kernel, column);
    int32_t count = kernel->columns - column < width ? kernel->columns - column : width;
    const float *src = (const float *)weights + column * kernel->depth + first;
    ptrdiff_t pitch = (ptrdiff_t)kernel->depth;
    if (kernel->weight_dtype != CNN_F32) {
        for (int32_t j = 0; j < count; j++)
            kernel->loops->to_f32(kernel->weight_dtype,
                                  (const uint16_t *)weights + (column + j) * kernel->depth + first,
                                  rows + j * CNN_GEMM_PITCH, length);
        src = rows;
        pitch = CNN_GEMM_PITCH;
    }
    kernel->loops->transpose(src, pitch, count, length, dst, width);
}

/* Data gradient: B[(r',s',k)][column] = W[k][R-1-r'][S-1-s'][column]. */
static void pack_panel_dgrad(const conv_kernel *kernel, const void *weights, int32_t column, int64_t first, int length,
                             float *dst)
{
    const cnn_conv_shape *shape = &kernel->shape;
    int width = panel_width(kernel, column);
    int64_t taps = (int64_t)shape->r * shape->s;
    int64_t tap = first / shape->k, k = first % shape->k;
    for (int i = 0; i < length; i++) {
        int64_t offset =
            ((k * taps + (taps - 1 - tap)) * shape->c + column) * (int64_t)cnn_dtype_bytes(kernel->weight_dtype);
        cnn_gather_run(kernel->loops, kernel->weight_dtype, (const char *)weights + offset, shape->c - column, 0, width,
                       dst + (size_t)i * (size_t)width);
        if (++k == shape->k) {
            k = 0;
            tap++;
        }
    }
}

static void pack_panel(const conv_kernel *kernel, const void *weights, int32_t column, int64_t first, int length,
                       float *dst)
{
    if (kernel->dgrad)
        pack_panel_dgrad(kernel, weights, column, first, length, dst);
    else
        pack_panel_forward(kernel, weights, column, first, length, dst);
}

/* Task: one depth-long piece of one panel. */
static void pack_task(void *context, int task, int worker)
{
    const conv_run *run = context;
    const conv_kernel *kernel = run->kernel;
    int64_t pieces = (kernel->depth + CNN_GEMM_DEPTH - 1) / CNN_GEMM_DEPTH;
    int32_t column = (int32_t)(task / pieces) * kernel->panel_columns;
    int64_t first = task % pieces * CNN_GEMM_DEPTH;
    int64_t length = kernel->depth - first < CNN_GEMM_DEPTH ? kernel->depth - first : CNN_GEMM_DEPTH;
    float *panel = run->packed + (int64_t)column * kernel->depth;
    (void)worker;
    pack_panel(kernel, run->weights, column, first, (int)length, panel + first * panel_width(kernel, column));
}

static void pack_all(const conv_kernel *kernel, const void *weights, float *packed)
{
    conv_run run = {.kernel = kernel, .weights = weights, .packed = packed};
    int64_t pieces = (kernel->depth + CNN_GEMM_DEPTH - 1) / CNN_GEMM_DEPTH;
    int panels = (kernel->columns + kernel->panel_columns - 1) / kernel->panel_columns;
    kernel->cpu.device->host->parallel((int)(panels * pieces), pack_task, &run);
}

/* ---- The product ---- */

/* C[count][chunk] (+)= A * B for one depth and the columns [first, last) of a chunk. */
static void multiply(const conv_run *run, const cnn_depth *depth, int32_t first, int32_t last, int count, bool add,
                     const float *a, float *c, float *b_scratch)
{
    const conv_kernel *kernel = run->kernel;
    int tiles = (count + kernel->loops->tile_rows - 1) / kernel->loops->tile_rows;
    for (int32_t column = first; column < last; column += kernel->panel_columns) {
        int width = panel_width(kernel, column);
        const float *b = b_scratch;
        if (run->packed)
            b = run->packed + (int64_t)column * kernel->depth + depth->first * width;
        else
            pack_panel(kernel, run->weights, column, depth->first, depth->length, b_scratch);
        const cnn_tile_fn *tile = kernel->loops->tile_by_rows[width == kernel->panel_columns];
        for (int t = 0; t < tiles; t++) {
            int row = count * t / tiles, rows = count * (t + 1) / tiles - row;
            tile[rows - 1](a + (size_t)row * CNN_GEMM_PITCH, 1, b, width,
                           c + (size_t)row * (size_t)kernel->chunk_columns + (column - first), kernel->chunk_columns,
                           depth->length, add);
        }
    }
}

static void conv_task(void *context, int task, int worker)
{
    const conv_run *run = context;
    const conv_kernel *kernel = run->kernel;
    const cnn_gather *gather = &kernel->gather;
    const cnn_pixel_block *block = &gather->blocks[task / kernel->chunks];
    const cnn_group *group = &gather->groups[block->group];
    int32_t first = task % kernel->chunks * kernel->chunk_columns;
    int32_t last = first + kernel->chunk_columns < kernel->columns ? first + kernel->chunk_columns : kernel->columns;
    char *scratch = run->scratch + (size_t)worker * kernel->slot_bytes;
    float *a = (float *)(void *)scratch;
    float *c = (float *)(void *)(scratch + kernel->a_bytes);
    float *b = (float *)(void *)(scratch + kernel->a_bytes + kernel->c_bytes);
    cnn_gather_pixel pixels[MAX_BLOCK_ROWS];

    cnn_gather_pixels(gather, block, pixels);
    if (group->depth_count == 0)
        memset(c, 0, kernel->c_bytes);
    for (int d = 0; d < group->depth_count; d++) {
        const cnn_depth *depth = &gather->depths[group->depth_first + d];
        cnn_gather_pack(gather, kernel->loops, kernel->gather_dtype, run->src, pixels, block->count, depth, a);
        multiply(run, depth, first, last, block->count, d > 0, a, c, b);
    }
    for (int i = 0, next; i < block->count; i = next) { /* pixels that lie side by side */
        for (next = i + 1; next < block->count && pixels[next].out == pixels[i].out + next - i;)
            next++;
        cnn_epilogue_store_pixels(kernel->loops, &kernel->cpu.base.desc, run->args, c + i * kernel->chunk_columns,
                                  kernel->chunk_columns, pixels[i].out, next - i, first, last - first);
    }
}

/* ---- The kernel ---- */

static cnn_status conv_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    conv_kernel *kernel = (conv_kernel *)base;
    const cnn_host *host = kernel->cpu.device->host;
    char *memory = workspace;
    conv_run run = {.kernel = kernel, .args = args, .src = args[CNN_ARG_SRC], .weights = args[CNN_ARG_WEIGHT]};
    if (kernel->mode == PACK_ONCE)
        run.packed = kernel->cpu.packed;
    if (kernel->mode == PACK_EACH_RUN) {
        run.packed = (float *)(void *)memory;
        pack_all(kernel, run.weights, run.packed);
        memory += kernel->packed_bytes;
    }
    if (kernel->gather_dtype != kernel->src_dtype) {
        float *wide = (float *)(void *)memory;
        cnn_gather_widen(host, kernel->loops, kernel->src_dtype, run.src, wide, kernel->src_elements);
        run.src = wide;
        memory += kernel->wide_bytes;
    }
    run.scratch = memory;
    cnn_cpu_parallel(host, kernel->gather.block_count * kernel->chunks, kernel->slots, conv_task, &run);
    return CNN_OK;
}

static cnn_status conv_pack(cnn_kernel *base, const void *weights)
{
    conv_kernel *kernel = (conv_kernel *)base;
    const cnn_host *host = kernel->cpu.device->host;
    if (!kernel->cpu.packed)
        kernel->cpu.packed = host->alloc(kernel->packed_bytes);
    if (!kernel->cpu.packed)
        return host->error(CNN_ERR_MEMORY, "device cpu: out of memory for %zu bytes of packed weights",
                           kernel->packed_bytes);
    pack_all(kernel, weights, kernel->cpu.packed);
    return CNN_OK;
}

static void conv_destroy(cnn_kernel *base)
{
    conv_kernel *kernel = (conv_kernel *)base;
    if (kernel)
        cnn_gather_free(&kernel->gather, kernel->cpu.device->host);
    cnn_cpu_kernel_destroy(base);
}

bool cnn_cpu_conv_float_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    if (!cnn_cpu_is_float(desc->arg[CNN_ARG_SRC].dtype) || !cnn_cpu_is_float(desc->arg[CNN_ARG_DST].dtype))
        return cnn_refuse(why, "src and dst must be float");
    if (!cnn_unpadded(desc, why) || !cnn_epilogue_suits(desc, why))
        return false;
    return cnn_conv_shape_fits(desc, why);
}

/* Sizes of blocks and chunks follow from the shape alone. */
static void choose_sizes(conv_kernel *kernel)
{
    const cnn_cpu_loops *loops = kernel->loops;
    const cnn_conv_shape *shape = &kernel->shape;
    int64_t pixels = (int64_t)shape->n * (kernel->dgrad ? (int64_t)shape->h * shape->w : (int64_t)shape->p * shape->q);
    kernel->panel_columns = 2 * loops->lanes;
    kernel->block_rows = loops->tile_rows * (loops->lanes == 16 ? BLOCK_TILES_AVX512 : BLOCK_TILES);
    bool lone = pixels <= MAX_BLOCK_ROWS && (shape->h == 1 && shape->w == 1);
    if (lone)
        kernel->block_rows = MAX_BLOCK_ROWS;
    int64_t chunk = lone ? kernel->columns / LONE_CHUNKS : CHUNK_COLUMNS;
    chunk = chunk < kernel->panel_columns ? kernel->panel_columns : chunk > CHUNK_COLUMNS ? CHUNK_COLUMNS : chunk;
    int64_t all = (kernel->columns + kernel->panel_columns - 1) / kernel->panel_columns * kernel->panel_columns;
    chunk = (chunk + kernel->panel_columns - 1) / kernel->panel_columns * kernel->panel_columns;
    kernel->chunk_columns = (int)(chunk < all ? chunk : all);
    kernel->chunks = (kernel->columns + kernel->chunk_columns - 1) / kernel->chunk_columns;
    kernel->mode = kernel->cpu.base.desc.constant_weights ? PACK_ONCE : lone ? PACK_IN_TASK : PACK_EACH_RUN;
}

static void choose_memory(conv_kernel *kernel)
{
    size_t floats = sizeof(float);
    int64_t panels = (kernel->columns + kernel->panel_columns - 1) / kernel->panel_columns;
    kernel->packed_bytes = cnn_cpu_aligned((size_t)(panels * kernel->panel_columns * kernel->depth) * floats);
    kernel->a_bytes = cnn_cpu_aligned((size_t)kernel->block_rows * CNN_GEMM_PITCH * floats);
    kernel->c_bytes = cnn_cpu_aligned((size_t)(kernel->block_rows * kernel->chunk_columns) * floats);
    kernel->b_bytes =
        kernel->mode == PACK_IN_TASK ? cnn_cpu_aligned((size_t)(kernel->panel_columns * CNN_GEMM_DEPTH) * floats) : 0;
    kernel->slot_bytes = kernel->a_bytes + kernel->c_bytes + kernel->b_bytes;
    kernel->slots = kernel->cpu.device->host->threads();
    if (kernel->gather_dtype != kernel->src_dtype)
        kernel->wide_bytes = cnn_cpu_aligned((size_t)kernel->src_elements * floats);
    kernel->cpu.base.workspace_bytes = (kernel->mode == PACK_EACH_RUN ? kernel->packed_bytes : 0) + kernel->wide_bytes +
                                       (size_t)kernel->slots * kernel->slot_bytes;
}

cnn_status cnn_cpu_conv_float_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    conv_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->shape = cnn_conv_shape_of(desc);
    kernel->dgrad = desc->op == CNN_OP_CONV_DGRAD || desc->op == CNN_OP_LINEAR_DGRAD;
    kernel->src_dtype = desc->arg[CNN_ARG_SRC].dtype;
    kernel->weight_dtype = desc->arg[CNN_ARG_WEIGHT].dtype;
    kernel->columns = kernel->dgrad ? kernel->shape.c : kernel->shape.k;
    kernel->depth = (int64_t)kernel->shape.r * kernel->shape.s * (kernel->dgrad ? kernel->shape.k : kernel->shape.c);
    bool widens = cnn_gather_widens(kernel->src_dtype, kernel->dgrad ? kernel->shape.k : kernel->shape.c);
    kernel->gather_dtype = widens ? CNN_F32 : kernel->src_dtype;
    kernel->src_elements = cnn_desc_elements(&desc->arg[CNN_ARG_SRC]);
    choose_sizes(kernel);
    choose_memory(kernel);
    kernel->cpu.base.run = conv_run_kernel;
    kernel->cpu.base.pack = kernel->mode == PACK_ONCE ? conv_pack : NULL;
    kernel->cpu.base.destroy = conv_destroy;
    cnn_cpu_kernel_name_float(&kernel->cpu, cnn_op_info_get(desc->op)->name, kernel->src_dtype);
    status = cnn_gather_plan(&kernel->gather, device->host, &kernel->shape, kernel->dgrad, kernel->block_rows);
    if (status != CNN_OK) {
        conv_destroy(&kernel->cpu.base);
        return status;
    }
    *made = &kernel->cpu.base;
    return CNN_OK;
}
