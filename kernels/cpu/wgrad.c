/* Weight gradients of convolutions and linear layers in float.
 *
 *   dw[k][(r,s,c)] = sum over pixels (n,p,q) of dy[n,p,q][k] * x[n, p*stride+r-pad, q*stride+s-pad][c]
 *
 * One task computes a tile of dw: output channels [k0, k1) x one "strip" of columns (r,s,c). A strip is a piece of one
 * tap's channels, and then only pixels whose tap lies inside the image count; with few channels it is several taps,
 * and x is 0 outside. Both operands are packed DEPTH pixels at a time, so that a register tile reads them in order:
 *   a [register tile of output channels][pixel][a_width]    b [panel of columns][pixel][2 vectors]
 * When there are too few tasks, pixels are divided into slices, whose sums are added in order. All partitions follow
 * from the shape. */
#include "kernels/cpu/floats.h"
#include "kernels/cpu/gather.h"
#include "kernels/cpu/columns.h"

enum {
    STRIP_COLUMNS = 256,
    TILE_CHANNELS = 128,   /* most output channels of a task */
    LONE_TAP_CHANNELS = 8, /* from so many channels on, a strip holds one tap */
    WANTED_TASKS = 16,
    LEAST_SLICE = 1024, /* pixels */
    DEPTH = 192,        /* pixels packed at a time */
    PITCH_EXTRA = 16,   /* floats between rows of sums, so that they do not share cache sets */
    MAX_LANES = 16
};

/* A range of columns of dw and the pixels that count for it. */
typedef struct strip {
    int64_t first; /* column r*S*C + s*C + c */
    int32_t columns;
    int32_t run_first, run_count; /* row: r - pad, start: (s - pad)*C + c, length */
    int32_t p, p_count, q, q_count;
} strip;

typedef struct wgrad_kernel {
    cnn_cpu_kernel cpu;
    const cnn_cpu_loops *loops;
    cnn_conv_shape shape;
    cnn_dtype dtype;
    strip *strips;
    cnn_run *runs;
    int strip_count, run_count, strip_columns;
    int tile_channels, tile_count, slices, slots;
    int a_width, c_pitch; /* floats */
    int32_t panel_start[STRIP_COLUMNS / 4];
    size_t partial_bytes, a_bytes, b_bytes, c_bytes, slot_bytes;
    cnn_columns bias; /* of db */
} wgrad_kernel;

typedef struct wgrad_run {
    const wgrad_kernel *kernel;
    void *const *args;
    float *partial; /* [slices][K][R*S*C] when there are several slices */
    char *scratch;
} wgrad_run;

static int64_t column_count(const cnn_conv_shape *shape)
{
    return (int64_t)shape->r * shape->s * shape->c;
}

/* ---- Planning ---- */

static void add_run(wgrad_kernel *kernel, cnn_run run)
{
    if (kernel->runs)
        kernel->runs[kernel->run_count] = run;
    kernel->run_count++;
}

static void add_strip(wgrad_kernel *kernel, strip s)
{
    s.run_count = kernel->run_count - s.run_first;
    if (kernel->strips)
        kernel->strips[kernel->strip_count] = s;
    kernel->strip_count++;
}

/* Output positions whose tap t falls into [0, size): first and count. */
static void inside(int32_t positions, int32_t size, int32_t stride, int32_t offset, int32_t *first, int32_t *count)
{
    int64_t low = offset < 0 ? (-(int64_t)offset + stride - 1) / stride : 0;
    int64_t high = offset < size ? ((int64_t)size - offset - 1) / stride + 1 : 0;
    high = high < positions ? high : positions;
    *first = low < high ? (int32_t)low : 0;
    *count = low < high ? (int32_t)(high - low) : 0;
}

/* One tap's channels in strips of nearly equal width. */
static void add_tap(wgrad_kernel *kernel, int32_t r, int32_t s)
{
    const cnn_conv_shape *shape = &kernel->shape;
    int32_t pieces = (shape->c + STRIP_COLUMNS - 1) / STRIP_COLUMNS;
    int32_t lanes = kernel->loops->lanes;
    int32_t piece = ((shape->c + pieces - 1) / pieces + lanes - 1) / lanes * lanes;
    for (int32_t c = 0; c < shape->c; c += piece) {
        int32_t columns = shape->c - c < piece ? shape->c - c : piece;
        strip st = {
            .first = ((int64_t)r * shape->s + s) * shape->c + c, .columns = columns, .run_first = kernel->run_count};
        inside(shape->p, shape->h, shape->stride, r - shape->pad, &st.p, &st.p_count);
        inside(shape->q, shape->w, shape->stride, s - shape->pad, &st.q, &st.q_count);
        add_run(kernel, (cnn_run){r - shape->pad, (s - shape->pad) * shape->c + c, columns});
        add_strip(kernel, st);
    }
}

/* All columns in order, STRIP_COLUMNS at a time, whatever taps they belong to. */
static void add_mixed(wgrad_kernel *kernel)
{
    const cnn_conv_shape *shape = &kernel->shape;
    int64_t row_length = (int64_t)shape->s * shape->c, all = column_count(shape);
    for (int64_t first = 0; first < all; first += STRIP_COLUMNS) {
        int64_t columns = all - first < STRIP_COLUMNS ? all - first : STRIP_COLUMNS;
        strip st = {.first = first,
                    .columns = (int32_t)columns,
                    .run_first = kernel->run_count,
                    .p_count = shape->p,
                    .q_count = shape->q};
        for (int64_t at = first; at < first + columns;) {
            int64_t in_row = at % row_length;
            int64_t length = row_length - in_row < first + columns - at ? row_length - in_row : first + columns - at;
            add_run(kernel, (cnn_run){(int32_t)(at / row_length) - shape->pad, (int32_t)in_row - shape->pad * shape->c,
                                      (int32_t)length});
            at += length;
        }
        add_strip(kernel, st);
    }
}

static void plan_strips(wgrad_kernel *kernel)
{
    const cnn_conv_shape *shape = &kernel->shape;
    kernel->strip_count = kernel->run_count = 0;
    if (shape->c < LONE_TAP_CHANNELS) {
        add_mixed(kernel);
        return;
    }
    for (int32_t r = 0; r < shape->r; r++)
        for (int32_t s = 0; s < shape->s; s++)
            add_tap(kernel, r, s);
}

/* ---- Packing ---- */

/* Pixels of a strip in order, counted on while packing. */
typedef struct pixel_cursor {
    int64_t n;
    int32_t p, q; /* from the strip's first */
} pixel_cursor;

static void advance(pixel_cursor *cursor, const strip *s)
{
    if (++cursor->q < s->q_count)
        return;
    cursor->q = 0;
    if (++cursor->p < s->p_count)
        return;
    cursor->p = 0;
    cursor->n++;
}

/* x under the strip for one pixel: row[column]. */
static void read_strip(const wgrad_run *run, const strip *s, int64_t n, int64_t p, int64_t q, float *row)
{
    const wgrad_kernel *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    int64_t row_length = (int64_t)shape->w * shape->c;
    for (int r = 0; r < s->run_count; r++) {
        const cnn_run *piece = &kernel->runs[s->run_first + r];
        int64_t h = p * shape->stride + piece->row;
        bool in_image = h >= 0 && h < shape->h;
        size_t offset = in_image ? (size_t)((n * shape->h + h) * row_length) * cnn_dtype_bytes(kernel->dtype) : 0;
        const char *from = in_image ? (const char *)run->args[CNN_ARG_SRC] + offset : NULL;
        cnn_gather_run(kernel->loops, kernel->dtype, from, row_length, q * shape->stride * shape->c + piece->start,
                       piece->length, row);
        row += piece->length;
    }
}

/* Packs `count` pixels from the cursor on: dy of output channels [k0, k0+channels) into a, x into b. */
static void pack_pixels(const wgrad_run *run, const strip *s, pixel_cursor *cursor, int count, int32_t k0,
                        int32_t channels, float *a, float *b)
{
    const wgrad_kernel *kernel = run->kernel;
    const cnn_conv_shape *shape = &kernel->shape;
    const cnn_cpu_loops *loops = kernel->loops;
    int tiles = (channels + loops->tile_rows - 1) / loops->tile_rows, panel = 2 * loops->lanes;
    int32_t tile_start[TILE_CHANNELS];
    float dy_row[TILE_CHANNELS + MAX_LANES] = {0}, x_row[STRIP_COLUMNS + 2 * MAX_LANES] = {0};
    for (int t = 0; t < tiles; t++)
        tile_start[t] = channels * t / tiles;
    for (int i = 0; i < count; i++, advance(cursor, s)) {
        int64_t p = s->p + cursor->p, q = s->q + cursor->q;
        int64_t pixel = (cursor->n * shape->p + p) * shape->q + q;
        size_t offset = (size_t)(pixel * shape->k + k0) * cnn_dtype_bytes(kernel->dtype);
        loops->to_f32(kernel->dtype, (const char *)run->args[CNN_ARG_SRC2] + offset, dy_row, channels);
        loops->deal(dy_row, tile_start, tiles, kernel->a_width, a + i * kernel->a_width, DEPTH * kernel->a_width);
        read_strip(run, s, cursor->n, p, q, x_row);
        loops->deal(x_row, kernel->panel_start, (s->columns + panel - 1) / panel, panel, b + i * panel, DEPTH * panel);
    }
}

/* ---- Tasks ---- */

/* c[channels][strip] (+)= a^T b over `depth` pixels. */
static void multiply(const wgrad_kernel *kernel, const strip *s, int32_t channels, int depth, bool add, const float *a,
                     const float *b, float *c)
{
    const cnn_cpu_loops *loops = kernel->loops;
    int tiles = (channels + loops->tile_rows - 1) / loops->tile_rows, panel = 2 * loops->lanes;
    for (int column = 0; column < s->columns; column += panel) {
        const cnn_tile_fn *tile = loops->tile_by_steps[s->columns - column > loops->lanes];
        for (int t = 0; t < tiles; t++) {
            int row = channels * t / tiles, rows = channels * (t + 1) / tiles - row;
            tile[rows - 1](a + (size_t)(t * DEPTH * kernel->a_width), kernel->a_width, b + (size_t)(column * DEPTH),
                           panel, c + row * kernel->c_pitch + column, kernel->c_pitch, depth, add);
        }
    }
}

static void wgrad_task(void *context, int task, int worker)
{
    const wgrad_run *run = context;
    const wgrad_kernel *kernel = run->kernel;
    const strip *s = &kernel->strips[task % kernel->strip_count];
    int tile = task / kernel->strip_count % kernel->tile_count, slice = task / kernel->strip_count / kernel->tile_count;
    int32_t k0 = tile * kernel->tile_channels;
    int32_t channels = kernel->shape.k - k0 < kernel->tile_channels ? kernel->shape.k - k0 : kernel->tile_channels;
    char *scratch = run->scratch + (size_t)worker * kernel->slot_bytes;
    float *a = (float *)(void *)scratch;
    float *b = (float *)(void *)(scratch + kernel->a_bytes);
    float *c = (float *)(void *)(scratch + kernel->a_bytes + kernel->b_bytes);

    int64_t per_image = (int64_t)s->p_count * s->q_count, all = per_image * kernel->shape.n;
    int64_t first = all * slice / kernel->slices, last = all * (slice + 1) / kernel->slices;
    pixel_cursor cursor = {0, 0, 0};
    if (last > first)
        cursor = (pixel_cursor){first / per_image, (int32_t)(first % per_image / s->q_count),
                                (int32_t)(first % per_image % s->q_count)};
    else
        memset(c, 0, kernel->c_bytes);
    int64_t steps = (last - first + DEPTH - 1) / DEPTH;
    for (int64_t i = 0; i < steps; i++) {
        int depth = (int)((last - first) * (i + 1) / steps - (last - first) * i / steps);
        pack_pixels(run, s, &cursor, depth, k0, channels, a, b);
        multiply(kernel, s, channels, depth, i > 0, a, b, c);
    }

    int64_t columns = column_count(&kernel->shape);
    float *dst = kernel->slices > 1 ? run->partial + (int64_t)slice * kernel->shape.k * columns
                                    : (float *)run->args[CNN_ARG_DST];
    for (int32_t k = 0; k < channels; k++)
        memcpy(dst + (k0 + k) * columns + s->first, c + k * kernel->c_pitch, (size_t)s->columns * sizeof *c);
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
    wgrad_run run = {kernel, args, workspace, (char *)workspace + kernel->partial_bytes};
    cnn_cpu_parallel(host, kernel->strip_count * kernel->tile_count * kernel->slices, kernel->slots, wgrad_task, &run);
    if (kernel->slices > 1)
        host->parallel(kernel->shape.k, combine_task, &run);
    if (base->desc.arg[CNN_ARG_DST2].dtype != CNN_NONE) {
        double *sum = cnn_columns_reduce(&kernel->bias, workspace, cnn_columns_add, args[CNN_ARG_SRC2]);
        float *db = args[CNN_ARG_DST2];
        for (int32_t k = 0; k < kernel->shape.k; k++)
            db[k] = (float)sum[k];
    }
    return CNN_OK;
}

static void wgrad_destroy(cnn_kernel *base)
{
    wgrad_kernel *kernel = (wgrad_kernel *)base;
    if (kernel) {
        kernel->cpu.device->host->free(kernel->strips);
        kernel->cpu.device->host->free(kernel->runs);
    }
    cnn_cpu_kernel_destroy(base);
}

bool cnn_cpu_wgrad_float_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    (void)isa;
    if (!cnn_cpu_is_float(desc->arg[CNN_ARG_SRC].dtype))
        return cnn_cpu_refuse(why, "src must be float");
    return cnn_cpu_unpadded(desc, why) && cnn_conv_shape_fits(desc, why);
}

static void choose_sizes(wgrad_kernel *kernel)
{
    const cnn_conv_shape *shape = &kernel->shape;
    int32_t tiles = (shape->k + TILE_CHANNELS - 1) / TILE_CHANNELS;
    kernel->tile_channels = (shape->k + tiles - 1) / tiles;
    kernel->tile_count = (shape->k + kernel->tile_channels - 1) / kernel->tile_channels;

    int64_t pixels = (int64_t)shape->n * shape->p * shape->q;
    int64_t tasks = (int64_t)kernel->strip_count * kernel->tile_count;
    int64_t slices = (WANTED_TASKS + tasks - 1) / tasks;
    slices = slices < pixels / LEAST_SLICE ? slices : pixels / LEAST_SLICE;
    kernel->slices = slices > 1 ? (int)slices : 1;

    int widest = 0;
    for (int i = 0; i < kernel->strip_count; i++)
        widest = kernel->strips[i].columns > widest ? kernel->strips[i].columns : widest;
    const cnn_cpu_loops *loops = kernel->loops;
    int panel = 2 * loops->lanes, panels = (widest + panel - 1) / panel;
    int row_tiles = (kernel->tile_channels + loops->tile_rows - 1) / loops->tile_rows;
    for (int i = 0; i < panels; i++)
        kernel->panel_start[i] = i * panel;
    kernel->a_width = (loops->tile_rows + loops->lanes - 1) / loops->lanes * loops->lanes;
    kernel->c_pitch = panels * panel + PITCH_EXTRA;
    kernel->partial_bytes =
        kernel->slices > 1 ? cnn_cpu_aligned((size_t)(kernel->slices * shape->k * column_count(shape)) * sizeof(float))
                           : 0;
    kernel->a_bytes = (size_t)(row_tiles * DEPTH * kernel->a_width) * sizeof(float);
    kernel->b_bytes = (size_t)(panels * DEPTH * panel) * sizeof(float);
    kernel->c_bytes = cnn_cpu_aligned((size_t)(kernel->tile_channels * kernel->c_pitch) * sizeof(float));
    kernel->slot_bytes = kernel->a_bytes + kernel->b_bytes + kernel->c_bytes;
    kernel->slots = kernel->cpu.device->host->threads();
    kernel->cpu.base.workspace_bytes = kernel->partial_bytes + (size_t)kernel->slots * kernel->slot_bytes;
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

    plan_strips(kernel);
    kernel->strips = device->host->alloc((size_t)kernel->strip_count * sizeof *kernel->strips);
    kernel->runs = device->host->alloc((size_t)kernel->run_count * sizeof *kernel->runs);
    if (!kernel->strips || !kernel->runs) {
        wgrad_destroy(&kernel->cpu.base);
        return device->host->error(CNN_ERR_MEMORY, "device cpu: out of memory for the plan of a weight gradient");
    }
    plan_strips(kernel);
    choose_sizes(kernel);
    const cnn_conv_shape *shape = &kernel->shape;
    kernel->bias = cnn_columns_plan(device, kernel->dtype, (int64_t)shape->n * shape->p * shape->q, shape->k);
    if (desc->arg[CNN_ARG_DST2].dtype != CNN_NONE && kernel->bias.workspace_bytes > kernel->cpu.base.workspace_bytes)
        kernel->cpu.base.workspace_bytes = kernel->bias.workspace_bytes;
    *made = &kernel->cpu.base;
    return CNN_OK;
}
