/* Weight gradients of convolutions and linear layers in float.
 *
 *   dw[k][(r,s,c)] = sum over pixels (n,p,q) of dy[n,p,q][k] * x[n, p*stride+r-pad, q*stride+s-pad][c]
 *
 * A task computes, for a tile of output channels k, one "bundle" of columns (r,s,c): some channels of the taps s of one
 * filter row r. It takes some rows (n,p) of output pixels at a time, only those whose filter row lies inside the
 * image, and packs them once for all taps, column-major:
 *   a [register tile of k][q][row][a_width]    dy
 *   b [panel of c][slot of w][row][2 vectors]  x in row p*stride+r-pad
 * The pixels of tap s are then a contiguous piece of both: q from the first to the last whose w = q*stride+s-pad lies
 * inside the image. Slots order w by its residue modulo the stride, so that this holds for every stride.
 *
 * With few channels a bundle is instead up to STRIP_COLUMNS columns of any taps, gathered for each pixel, 0 outside.
 * When there are too few tasks, rows are divided into slices, whose sums are added in order. All partitions follow
 * from the shape. */
#include "kernels/cpu/columns.h"
#include "kernels/cpu/floats.h"
#include "kernels/cpu/gather.h"

enum {
    STRIP_COLUMNS = 256,                /* most channels of a bundle, or gathered columns */
    TILE_CHANNELS = 128,                /* most output channels of a task */
    GATHER_CHANNELS = CNN_GATHER_SHORT, /* below, columns are gathered */
    SUMS_BYTES = 400 * 1024,            /* of a task: they shall stay in a small L2 cache with what is packed */
    WANTED_TASKS = 14,
    LEAST_SLICE = 1024, /* pixels */
    DEPTH = 256,        /* pixels packed at a time, unless a single row is longer */
    PITCH_EXTRA = 16,   /* floats between rows of sums, so that they do not share cache sets */
    MAX_LANES = 16
};

/* A piece of dw: columns [first, first + the bundle's columns), from output columns [q, q+q_count). */
typedef struct strip {
    int64_t first;
    int32_t q, q_count, slot; /* slot of the x column under q */
} strip;

typedef struct bundle {
    int32_t strip_first, strip_count;
    int32_t columns;
    int32_t p, p_count;           /* output rows that count */
    int32_t row, c;               /* r - pad, first channel */
    int32_t run_first, run_count; /* gathered: row r - pad, start (s - pad)*C + c, length */
} bundle;

typedef struct wgrad_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    cnn_conv_shape shape;
    cnn_dtype dtype;
    bool gathers;
    bundle *bundles;
    strip *strips;
    cnn_run *runs;
    int bundle_count, strip_count, run_count;
    int tile_channels, tile_count, slices, slots;
    int32_t slot_run;         /* slots of one residue of w */
    int chunk_rows;           /* packed at a time */
    int a_width, panel;       /* floats of one pixel in a and b */
    int64_t a_pitch, b_pitch; /* floats between tiles of a, panels of b */
    int c_pitch;              /* floats between rows of sums */
    int32_t panel_start[STRIP_COLUMNS / 8];
    size_t partial_bytes, wide_bytes, a_bytes, b_bytes, c_bytes, slot_bytes; /* c: sums of one strip */
    cnn_columns bias;                                                        /* for db */
} wgrad_kernel;

typedef struct wgrad_run {
    const wgrad_kernel *kernel;
    void *const *args;
    float *partial; /* [slices][K][R*S*C] when there are several slices */
    float *wide;    /* x as f32, or NULL: see cnn_gather_widens */
    char *scratch;
} wgrad_run;

static int64_t column_count(const cnn_conv_shape *shape)
{
    return (int64_t)shape->r * shape->s * shape->c;
}

/* ---- Planning. Every add_* only counts while the arrays are NULL. ---- */

/* Output positions whose tap at `offset` = t - pad falls into [0, size): first and count. */
static void inside(int32_t positions, int32_t size, int32_t stride, int32_t offset, int32_t *first, int32_t *count)
{
    int64_t low = offset < 0 ? (-(int64_t)offset + stride - 1) / stride : 0;
    int64_t high = offset < size ? ((int64_t)size - offset - 1) / stride + 1 : 0;
    high = high < positions ? high : positions;
    *first = low < high ? (int32_t)low : 0;
    *count = low < high ? (int32_t)(high - low) : 0;
}

static int32_t slot_of(const wgrad_kernel *kernel, int32_t w)
{
    return w % kernel->shape.stride * kernel->slot_run + w / kernel->shape.stride;
}

static void add_bundle(wgrad_kernel *kernel, bundle b)
{
    b.strip_count = kernel->strip_count - b.strip_first;
    b.run_count = kernel->run_count - b.run_first;
    if (kernel->bundles)
        kernel->bundles[kernel->bundle_count] = b;
    kernel->bundle_count++;
}

static void add_strip(wgrad_kernel *kernel, strip s)
{
    if (kernel->strips)
        kernel->strips[kernel->strip_count] = s;
    kernel->strip_count++;
}

/* Taps [s0, s1) of filter row r, channels [c, c+columns). */
static void add_taps(wgrad_kernel *kernel, int32_t r, int32_t s0, int32_t s1, int32_t c, int32_t columns)
{
    const cnn_conv_shape *shape = &kernel->shape;
    bundle b = {.strip_first = kernel->strip_count,
                .columns = columns,
                .row = r - shape->pad,
                .c = c,
                .run_first = kernel->run_count};
    inside(shape->p, shape->h, shape->stride, b.row, &b.p, &b.p_count);
    for (int32_t s = s0; s < s1; s++) {
        strip st = {.first = ((int64_t)r * shape->s + s) * shape->c + c};
        inside(shape->q, shape->w, shape->stride, s - shape->pad, &st.q, &st.q_count);
        if (st.q_count > 0)
            st.slot = slot_of(kernel, st.q * shape->stride + s - shape->pad);
        add_strip(kernel, st);
    }
    add_bundle(kernel, b);
}

/* Columns [first, first+columns), whatever taps they belong to. */
static void add_gathered(wgrad_kernel *kernel, int64_t first, int32_t columns)
{
    const cnn_conv_shape *shape = &kernel->shape;
    int64_t row_length = (int64_t)shape->s * shape->c, last = first + columns;
    bundle b = {
        .strip_first = kernel->strip_count, .columns = columns, .p_count = shape->p, .run_first = kernel->run_count};
    add_strip(kernel, (strip){.first = first, .q_count = shape->q});
    for (int64_t at = first; at < last;) {
        int64_t in_row = at % row_length;
        int64_t length = row_length - in_row < last - at ? row_length - in_row : last - at;
        cnn_run run = {(int32_t)(at / row_length) - shape->pad, (int32_t)in_row - shape->pad * shape->c,
                       (int32_t)length};
        if (kernel->runs)
            kernel->runs[kernel->run_count] = run;
        kernel->run_count++;
        at += length;
    }
    add_bundle(kernel, b);
}

/* The width of pieces when `count` columns are cut into nearly equal ones of whole vectors. */
static int32_t even_piece(const wgrad_kernel *kernel, int64_t count)
{
    int64_t pieces = (count + STRIP_COLUMNS - 1) / STRIP_COLUMNS, lanes = kernel->loops->lanes;
    return (int32_t)(((count + pieces - 1) / pieces + lanes - 1) / lanes * lanes);
}

static void plan_bundles(wgrad_kernel *kernel)
{
    const cnn_conv_shape *shape = &kernel->shape;
    int64_t all = kernel->gathers ? column_count(shape) : shape->c;
    int32_t piece = even_piece(kernel, all);
    int32_t fitting = kernel->c_bytes < SUMS_BYTES ? (int32_t)(SUMS_BYTES / kernel->c_bytes) : 1;
    int32_t taps = (shape->s + fitting - 1) / fitting; /* bundles of a filter row */
    taps = (shape->s + taps - 1) / taps;
    kernel->bundle_count = kernel->strip_count = kernel->run_count = 0;
    for (int64_t first = 0; first < all; first += piece) {
        int32_t columns = (int32_t)(all - first < piece ? all - first : piece);
        if (kernel->gathers) {
            add_gathered(kernel, first, columns);
            continue;
        }
        for (int32_t r = 0; r < shape->r; r++)
            for (int32_t s = 0; s < shape->s; s += taps)
                add_taps(kernel, r, s, s + taps < shape->s ? s + taps : shape->s, (int32_t)first, columns);
    }
}

/* ---- Packing ---- */

/* Row number v of a bundle. */
static void row_at(const bundle *b, int64_t v, int64_t *n, int64_t *p)
{
    *n = v / b->p_count;
    *p = b->p + v % b->p_count;
}

/* dy of rows [v, v+rows), output channels [k0, k0+channels). */
static void pack_dy(const wgrad_run *run, const bundle *b, int64_t v, int rows, int32_t k0, int32_t channels, float *a)
{
    const wgrad_kernel *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    const cnn_cpu_loops *loops = kernel->loops;
    int tiles = (channels + loops->tile_rows - 1) / loops->tile_rows;
    int32_t tile_start[TILE_CHANNELS];
    float block[TILE_CHANNELS + MAX_LANES] = {0};
    for (int t = 0; t < tiles; t++)
        tile_start[t] = channels * t / tiles;
    for (int i = 0; i < rows; i++) {
        int64_t n, p;
        row_at(b, v + i, &n, &p);
        for (int32_t q = 0; q < shape->q; q++) {
            size_t offset = (size_t)(((n * shape->p + p) * shape->q + q) * shape->k + k0);
            loops->to_f32(kernel->dtype,
                          (const char *)run->args[CNN_ARG_SRC2] + offset * cnn_dtype_bytes(kernel->dtype), block,
                          channels);
            loops->deal(block, tile_start, tiles, kernel->a_width, a + ((int64_t)q * rows + i) * kernel->a_width,
                        kernel->a_pitch);
        }
    }
}

static void deal_x(const wgrad_kernel *kernel, const bundle *b, const float *block, int64_t at, float *dst)
{
    kernel->loops->deal(block, kernel->panel_start, (b->columns + kernel->panel - 1) / kernel->panel, kernel->panel,
                        dst + at * kernel->panel, kernel->b_pitch);
}

/* The image row under each of rows [v, v+rows), all of its columns. */
static void pack_x(const wgrad_run *run, const bundle *b, int64_t v, int rows, float *dst)
{
    const wgrad_kernel *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    float block[STRIP_COLUMNS + 2 * MAX_LANES] = {0};
    for (int i = 0; i < rows; i++) {
        int64_t n, p;
        row_at(b, v + i, &n, &p);
        int64_t h = p * shape->stride + b->row;
        for (int32_t w = 0; w < shape->w; w++) {
            size_t offset = (size_t)(((n * shape->h + h) * shape->w + w) * shape->c + b->c);
            kernel->loops->to_f32(kernel->dtype,
                                  (const char *)run->args[CNN_ARG_SRC] + offset * cnn_dtype_bytes(kernel->dtype), block,
                                  b->columns);
            deal_x(kernel, b, block, (int64_t)slot_of(kernel, w) * rows + i, dst);
        }
    }
}

/* The columns of a gathered bundle for each output pixel of rows [v, v+rows). */
static void pack_gathered(const wgrad_run *run, const bundle *b, int64_t v, int rows, float *dst)
{
    const wgrad_kernel *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    cnn_dtype dtype = run->wide ? CNN_F32 : kernel->dtype;
    const char *src = run->wide ? (const char *)run->wide : run->args[CNN_ARG_SRC];
    int64_t row_length = (int64_t)shape->w * shape->c;
    float block[STRIP_COLUMNS + 2 * MAX_LANES] = {0};
    for (int i = 0; i < rows; i++) {
        int64_t n, p;
        row_at(b, v + i, &n, &p);
        for (int32_t q = 0; q < shape->q; q++) {
            float *to = block;
            for (int r = 0; r < b->run_count; r++) {
                const cnn_run *piece = &kernel->runs[b->run_first + r];
                int64_t h = p * shape->stride + piece->row;
                bool in_image = h >= 0 && h < shape->h;
                size_t offset = in_image ? (size_t)((n * shape->h + h) * row_length) * cnn_dtype_bytes(dtype) : 0;
                cnn_gather_run(kernel->loops, dtype, in_image ? src + offset : NULL, row_length,
                               (int64_t)q * shape->stride * shape->c + piece->start, piece->length, to);
                to += piece->length;
            }
            deal_x(kernel, b, block, (int64_t)q * rows + i, dst);
        }
    }
}

/* ---- Tasks ---- */

/* c[channels][columns] += dy^T x over the pixels of a strip in the packed rows. */
static void multiply(const wgrad_kernel *kernel, const bundle *b, const strip *s, int32_t channels, int rows,
                     const float *dy, const float *x, float *c)
{
    const cnn_cpu_loops *loops = kernel->loops;
    int tiles = (channels + loops->tile_rows - 1) / loops->tile_rows;
    const float *a_first = dy + (int64_t)s->q * rows * kernel->a_width;
    const float *b_first = x + (int64_t)s->slot * rows * kernel->panel;
    for (int column = 0; column < b->columns; column += kernel->panel) {
        const cnn_tile_fn *tile = loops->tile_by_steps[b->columns - column > loops->lanes];
        const float *b_panel = b_first + column / kernel->panel * kernel->b_pitch;
        for (int t = 0; t < tiles; t++) {
            int k = channels * t / tiles, count = channels * (t + 1) / tiles - k;
            tile[count - 1](a_first + t * kernel->a_pitch, kernel->a_width, b_panel, kernel->panel,
                            c + k * kernel->c_pitch + column, kernel->c_pitch, s->q_count * rows, true);
        }
    }
}

/* Copies the sums of a bundle to dw or to the slice's part. */
static void store_sums(const wgrad_run *run, const bundle *b, int slice, int32_t k0, int32_t channels,
                       const float *sums)
{
    const wgrad_kernel *kernel = run->kernel;
    int64_t columns = column_count(&kernel->shape);
    float *dst = kernel->slices > 1 ? run->partial + (int64_t)slice * kernel->shape.k * columns
                                    : (float *)run->args[CNN_ARG_DST];
    for (int i = 0; i < b->strip_count; i++, sums += kernel->c_bytes / sizeof *sums)
        for (int32_t k = 0; k < channels; k++)
            memcpy(dst + (k0 + k) * columns + kernel->strips[b->strip_first + i].first, sums + k * kernel->c_pitch,
                   (size_t)b->columns * sizeof *sums);
}

static void wgrad_task(void *context, int task, int worker)
{
    const wgrad_run *run = context;
    const wgrad_kernel *kernel = run->kernel;
    const bundle *b = &kernel->bundles[task % kernel->bundle_count];
    int rest = task / kernel->bundle_count, tile = rest % kernel->tile_count, slice = rest / kernel->tile_count;
    int32_t k0 = tile * kernel->tile_channels;
    int32_t channels = kernel->shape.k - k0 < kernel->tile_channels ? kernel->shape.k - k0 : kernel->tile_channels;
    char *memory = run->scratch + (size_t)worker * kernel->slot_bytes;
    float *dy = (float *)(void *)memory, *x = (float *)(void *)(memory + kernel->a_bytes);
    float *sums = (float *)(void *)(memory + kernel->a_bytes + kernel->b_bytes);
    memset(sums, 0, (size_t)b->strip_count * kernel->c_bytes);

    int64_t all = (int64_t)kernel->shape.n * b->p_count, last = all * (slice + 1) / kernel->slices;
    for (int64_t v = all * slice / kernel->slices; v < last; v += kernel->chunk_rows) {
        int rows = last - v < kernel->chunk_rows ? (int)(last - v) : kernel->chunk_rows;
        pack_dy(run, b, v, rows, k0, channels, dy);
        if (kernel->gathers)
            pack_gathered(run, b, v, rows, x);
        else
            pack_x(run, b, v, rows, x);
        for (int i = 0; i < b->strip_count; i++)
            multiply(kernel, b, &kernel->strips[b->strip_first + i], channels, rows, dy, x,
                     sums + (size_t)i * kernel->c_bytes / sizeof *sums);
    }
    store_sums(run, b, slice, k0, channels, sums);
}

/* Task: adds the slices of one output channel, in order. */
static void combine_task(void *context, int task, int worker)
{
    const wgrad_run *run = context;
    const wgrad_kernel *kernel = run->kernel;
    int64_t columns = column_count(&kernel->shape);
    float *dst = (float *)run->args[CNN_ARG_DST] + task * columns;
    const float *src = run->partial + task * columns;
    (void)worker;
    memcpy(dst, src, (size_t)columns * sizeof *dst);
    for (int slice = 1; slice < kernel->slices; slice++)
        kernel->loops->add(dst, src + (int64_t)slice * kernel->shape.k * columns, dst, columns);
}

/* ---- The kernel ---- */

static cnn_status wgrad_run_kernel(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const wgrad_kernel *kernel = (const wgrad_kernel *)base;
    const cnn_host *host = kernel->cpu.device->host;
    char *rest = (char *)workspace + kernel->partial_bytes;
    wgrad_run run = {kernel, args, workspace, NULL, rest + kernel->wide_bytes};
    if (kernel->wide_bytes) {
        run.wide = (float *)(void *)rest;
        cnn_gather_widen(host, kernel->loops, kernel->dtype, args[CNN_ARG_SRC], run.wide,
                         cnn_desc_elements(&base->desc.arg[CNN_ARG_SRC]));
    }
    cnn_cpu_parallel(host, kernel->bundle_count * kernel->tile_count * kernel->slices, kernel->slots, wgrad_task, &run);
    if (kernel->slices > 1)
        host->parallel(kernel->shape.k, combine_task, &run);
    if (base->desc.arg[CNN_ARG_DST2].dtype != CNN_NONE)
        cnn_columns_bias_grad(&kernel->bias, workspace, args[CNN_ARG_SRC2], args[CNN_ARG_DST2]);
    return CNN_OK;
}

static void wgrad_destroy(cnn_kernel *base)
{
    wgrad_kernel *kernel = (wgrad_kernel *)base;
    if (kernel) {
        kernel->cpu.device->host->free(kernel->bundles);
        kernel->cpu.device->host->free(kernel->strips);
        kernel->cpu.device->host->free(kernel->runs);
    }
    cnn_cpu_kernel_destroy(base);
}

bool cnn_cpu_wgrad_float_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    if (!cnn_cpu_is_float(desc->arg[CNN_ARG_SRC].dtype))
        return cnn_refuse(why, "src must be float");
    return cnn_unpadded(desc, why) && cnn_conv_shape_fits(desc, why);
}

/* Sizes of tiles and packed rows. */
static void choose_tiles(wgrad_kernel *kernel)
{
    const cnn_conv_shape *shape = &kernel->shape;
    const cnn_cpu_loops *loops = kernel->loops;
    int32_t tiles = (shape->k + TILE_CHANNELS - 1) / TILE_CHANNELS;
    kernel->gathers = shape->c < GATHER_CHANNELS;
    kernel->tile_channels = (shape->k + tiles - 1) / tiles;
    kernel->tile_count = (shape->k + kernel->tile_channels - 1) / kernel->tile_channels;
    kernel->slot_run = (shape->w + shape->stride - 1) / shape->stride;
    int64_t longest = (int64_t)kernel->slot_run * shape->stride;
    longest = kernel->gathers || longest < shape->q ? shape->q : longest;
    kernel->chunk_rows = longest < DEPTH ? DEPTH / (int)longest : 1;
    int64_t depth = kernel->chunk_rows * longest;

    kernel->panel = 2 * loops->lanes;
    int piece = even_piece(kernel, kernel->gathers ? column_count(shape) : shape->c);
    int panels = (piece + kernel->panel - 1) / kernel->panel;
    int row_tiles = (kernel->tile_channels + loops->tile_rows - 1) / loops->tile_rows;
    for (int i = 0; i < panels; i++)
        kernel->panel_start[i] = i * kernel->panel;
    kernel->a_width = (loops->tile_rows + loops->lanes - 1) / loops->lanes * loops->lanes;
    kernel->a_pitch = depth * kernel->a_width;
    kernel->b_pitch = depth * kernel->panel;
    kernel->c_pitch = panels * kernel->panel + PITCH_EXTRA;
    kernel->a_bytes = cnn_cpu_aligned((size_t)(row_tiles * kernel->a_pitch) * sizeof(float));
    kernel->b_bytes = cnn_cpu_aligned((size_t)(panels * kernel->b_pitch) * sizeof(float));
    kernel->c_bytes = cnn_cpu_aligned((size_t)(kernel->tile_channels * kernel->c_pitch) * sizeof(float));
}

/* Slices and memory, once the bundles are known. */
static void choose_memory(wgrad_kernel *kernel)
{
    const cnn_conv_shape *shape = &kernel->shape;
    int64_t pixels = (int64_t)shape->n * shape->p * shape->q, rows = (int64_t)shape->n * shape->p;
    int64_t tasks = (int64_t)kernel->bundle_count * kernel->tile_count;
    int64_t slices = (WANTED_TASKS + tasks - 1) / tasks;
    slices = slices < pixels / LEAST_SLICE ? slices : pixels / LEAST_SLICE;
    slices = slices < rows ? slices : rows;
    kernel->slices = slices > 1 ? (int)slices : 1;
    int most = 0; /* strips of a bundle */
    for (int i = 0; i < kernel->bundle_count; i++)
        most = kernel->bundles[i].strip_count > most ? kernel->bundles[i].strip_count : most;
    int64_t partial = kernel->slices > 1 ? kernel->slices * shape->k * column_count(shape) : 0;
    kernel->partial_bytes = cnn_cpu_aligned((size_t)partial * sizeof(float));
    if (cnn_gather_widens(kernel->dtype, shape->c))
        kernel->wide_bytes =
            cnn_cpu_aligned((size_t)cnn_desc_elements(&kernel->cpu.base.desc.arg[CNN_ARG_SRC]) * sizeof(float));
    kernel->slot_bytes = kernel->a_bytes + kernel->b_bytes + (size_t)most * kernel->c_bytes;
    kernel->slots = kernel->cpu.device->host->threads();
    kernel->cpu.base.workspace_bytes =
        kernel->partial_bytes + kernel->wide_bytes + (size_t)kernel->slots * kernel->slot_bytes;
}

static cnn_status alloc_plan(wgrad_kernel *kernel, const cnn_host *host)
{
    plan_bundles(kernel);
    kernel->bundles = host->alloc((size_t)kernel->bundle_count * sizeof *kernel->bundles);
    kernel->strips = host->alloc((size_t)kernel->strip_count * sizeof *kernel->strips);
    kernel->runs = host->alloc((size_t)kernel->run_count * sizeof *kernel->runs);
    if (!kernel->bundles || !kernel->strips || !kernel->runs)
        return host->error(CNN_ERR_MEMORY, "device cpu: out of memory for the plan of a weight gradient");
    plan_bundles(kernel);
    return CNN_OK;
}

cnn_status cnn_cpu_wgrad_float_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    wgrad_kernel *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->loops = cnn_cpu_loops_get(device->isa);
    kernel->shape = cnn_conv_shape_of(desc);
    kernel->dtype = desc->arg[CNN_ARG_SRC].dtype;
    kernel->cpu.base.run = wgrad_run_kernel;
    kernel->cpu.base.destroy = wgrad_destroy;
    cnn_cpu_kernel_name_float(&kernel->cpu, cnn_op_info_get(desc->op)->name, kernel->dtype);
    choose_tiles(kernel);
    status = alloc_plan(kernel, device->host);
    if (status != CNN_OK) {
        wgrad_destroy(&kernel->cpu.base);
        return status;
    }
    choose_memory(kernel);
    kernel->bias = cnn_columns_plan_bias(&kernel->cpu);
    *made = &kernel->cpu.base;
    return CNN_OK;
}
