/* Convolutions with AMX by lines of the filter. See amx_lines.h. */
#include "kernels/cpu/amx_lines.h"

#if defined(CNN_CPU_AMX_BUILT)

#include <stdatomic.h>
#include <string.h>

enum {
    MOST_IMAGE = 1 << 20,   /* bytes of a copy: it is read once for each pair of panels, from L2 */
    MOST_GROUP = 800 << 10, /* bytes of the images of an item, which share weights that come from L2 */
    MOST_FLAT = 512,        /* pixels of sums: 64 KiB */
    LEAST_RUN = 40,         /* bytes: shorter ones leave too much of their steps empty */
    BAND_ROWS = 2,          /* of outputs without pooling: two tiles share what is loaded of weights */
    ITEMS_PER_LANE = 4
};

/* ---- The plan ---- */

static int32_t divide_up(int64_t a, int64_t b)
{
    return (int32_t)((a + b - 1) / b);
}

static size_t run_bytes(const cnn_amx_shape *shape)
{
    return (size_t)shape->s * (size_t)shape->c * (size_t)shape->value_bytes;
}

/* Steps of a run; 0 when there are none. */
static int32_t steps_of(const cnn_amx_shape *shape)
{
    const size_t run = run_bytes(shape);
    return shape->value_bytes == 1 ? divide_up((int64_t)run, CNN_AMX_STEP_BYTES) : cnn_amx_even_steps(run);
}

static int64_t copy_bytes(const cnn_amx_shape *shape)
{
    return (int64_t)(shape->h + 2 * shape->pad) * (shape->w + 2 * shape->pad) * shape->c * shape->value_bytes;
}

bool cnn_amx_lines_suit(const cnn_amx_shape *shape, char *why)
{
    if (shape->pad >= shape->r || shape->pad >= shape->s)
        return cnn_refuse(why, "only less padding than the filter's size");
    if (run_bytes(shape) < LEAST_RUN)
        return cnn_refuse(why, "lines of the filter of less than %d bytes", (int)LEAST_RUN);
    if (steps_of(shape) == 0)
        return cnn_refuse(why, "lines of the filter that steps of whole pairs do not fill");
    return copy_bytes(shape) <= MOST_IMAGE || cnn_refuse(why, "an image of more than %d KiB", MOST_IMAGE / 1024);
}

/* One line of pixels, where lines do not matter. */
static void join_lines(cnn_amx_shape *shape)
{
    if (shape->r != 1 || shape->s != 1 || shape->stride != 1 || shape->pool != 1 || shape->pool_stride != 1)
        return;
    shape->w *= shape->h;
    shape->out_w *= shape->out_h;
    shape->windows_w *= shape->windows_h;
    shape->h = shape->out_h = shape->windows_h = 1;
}

/* Rows by themselves, or all of them flat, whatever takes fewer tiles. */
static void choose_bands(cnn_amx_lines *lines)
{
    const cnn_amx_shape *shape = &lines->shape;
    const int32_t across = divide_up(shape->out_w, CNN_AMX_PIXELS), width = shape->w + 2 * shape->pad;
    const int64_t through = (int64_t)(shape->out_h - 1) * width + shape->out_w;
    const int32_t through_tiles = divide_up(through, CNN_AMX_PIXELS);
    lines->flat = through <= MOST_FLAT && shape->out_h > 1 && through_tiles < shape->out_h * across;
    lines->pitch = lines->flat ? width : across * CNN_AMX_PIXELS;
    lines->windows = lines->flat ? shape->windows_h : shape->pool > 1 ? 1 : BAND_ROWS;
    if (lines->windows > shape->windows_h)
        lines->windows = shape->windows_h;
    lines->bands = divide_up(shape->windows_h, lines->windows);
    const int32_t rows = (lines->windows - 1) * shape->pool_stride + shape->pool;
    const int32_t tiles = lines->flat ? through_tiles : rows * across;
    lines->sums_bytes = (size_t)tiles * CNN_AMX_PIXELS * CNN_AMX_SUMS * sizeof(int32_t);
}

static void choose_items(cnn_amx_lines *lines, const cnn_host *host)
{
    const cnn_amx_shape *shape = &lines->shape;
    enum { LEAST_PRODUCTS = 1 << 21 }; /* of a thread: about a microsecond */
    const int64_t products =
        (int64_t)shape->n * shape->out_h * shape->out_w * shape->r * shape->s * shape->c * shape->k;
    const int64_t most = products / LEAST_PRODUCTS + 1;
    lines->lanes = host->threads() < most ? host->threads() : (int32_t)most;
    const int32_t wanted = lines->lanes > 1 ? lines->lanes * ITEMS_PER_LANE : 1;
    const int32_t fit = (int32_t)(MOST_GROUP / lines->image_bytes), fair = shape->n / wanted;
    lines->images = fit < fair ? fit : fair;
    if (lines->images < 1)
        lines->images = 1;
    lines->groups = divide_up(shape->n, lines->images);
    const int32_t ranges = divide_up(wanted, lines->groups);
    lines->range = divide_up(lines->pairs, ranges < lines->pairs ? ranges : lines->pairs);
    lines->ranges = divide_up(lines->pairs, lines->range);
    if (lines->lanes > lines->groups * lines->ranges)
        lines->lanes = lines->groups * lines->ranges;
}

void cnn_amx_lines_plan(cnn_amx_lines *lines, const cnn_amx_shape *given, cnn_amx_multiply_fn multiply,
                        const cnn_host *host)
{
    memset(lines, 0, sizeof *lines);
    lines->shape = *given;
    lines->multiply = multiply;
    join_lines(&lines->shape);
    const cnn_amx_shape *shape = &lines->shape;
    const size_t pixel = (size_t)shape->c * (size_t)shape->value_bytes;
    lines->steps = steps_of(shape);
    lines->step_bytes =
        (size_t)divide_up((int64_t)run_bytes(shape), lines->steps * CNN_AMX_GROUP_BYTES) * CNN_AMX_GROUP_BYTES;
    lines->pixel_bytes = (size_t)shape->stride * pixel;
    lines->line_bytes = (size_t)(shape->w + 2 * shape->pad) * pixel;
    lines->image_bytes = cnn_cpu_aligned((size_t)(shape->h + 2 * shape->pad) * lines->line_bytes);
    lines->panels = divide_up(shape->k, CNN_AMX_OUTPUTS);
    lines->pairs = divide_up(lines->panels, 2);
    lines->panel_bytes = (size_t)shape->r * (size_t)lines->steps * lines->step_bytes * CNN_AMX_OUTPUTS;
    lines->packed_bytes = (size_t)lines->panels * lines->panel_bytes;
    choose_bands(lines);
    choose_items(lines, host);
    /* Tiles read pixels beyond the last one, and a last step beyond its run. */
    lines->lines_bytes = cnn_cpu_aligned((size_t)lines->images * lines->image_bytes +
                                         CNN_AMX_PIXELS * lines->pixel_bytes + CNN_AMX_STEP_BYTES);
}

/* ---- Weights ---- */

void cnn_amx_lines_pack(const cnn_amx_lines *lines, const void *weights, int32_t panel, void *packed)
{
    const cnn_amx_shape *shape = &lines->shape;
    const size_t run = run_bytes(shape), output = (size_t)shape->r * run;
    const int32_t first = panel * CNN_AMX_OUTPUTS, left = shape->k - first;
    const int32_t outputs = left < CNN_AMX_OUTPUTS ? left : CNN_AMX_OUTPUTS;
    uint8_t *dst = (uint8_t *)packed + (size_t)panel * lines->panel_bytes;
    memset(dst, 0, lines->panel_bytes);
    for (int32_t r = 0; r < shape->r; r++) {
        const uint8_t *src = (const uint8_t *)weights + (size_t)first * output + (size_t)r * run;
        for (size_t at = 0; at < run; at += CNN_AMX_GROUP_BYTES) {
            const size_t bytes = run - at < CNN_AMX_GROUP_BYTES ? run - at : CNN_AMX_GROUP_BYTES;
            uint8_t *group = dst + at * CNN_AMX_OUTPUTS;
            if (bytes == CNN_AMX_GROUP_BYTES)
                for (int32_t k = 0; k < outputs; k++)
                    memcpy(group + k * CNN_AMX_GROUP_BYTES, src + (size_t)k * output + at, CNN_AMX_GROUP_BYTES);
            else
                for (int32_t k = 0; k < outputs; k++)
                    memcpy(group + k * CNN_AMX_GROUP_BYTES, src + (size_t)k * output + at, bytes);
        }
        dst += (size_t)lines->steps * lines->step_bytes * CNN_AMX_OUTPUTS;
    }
}

/* ---- A run ---- */

typedef struct run {
    const cnn_amx_job *job;
    atomic_int next;
} run;

typedef struct lane {
    uint8_t *images; /* copies */
    uint8_t *sums;
    void *spare;
} lane;

/* A tile of pixels of a band. */
typedef struct spot {
    int32_t row, x; /* of the image's outputs */
} spot;

static void copy_image(const cnn_amx_job *job, int32_t image, uint8_t *dst)
{
    const cnn_amx_lines *lines = job->lines;
    const cnn_amx_shape *shape = &lines->shape;
    const size_t line = (size_t)shape->w * (size_t)shape->c * (size_t)shape->value_bytes;
    const size_t side = (lines->line_bytes - line) / 2, border = (size_t)shape->pad * lines->line_bytes;
    const uint8_t *src = (const uint8_t *)job->src + (size_t)image * (size_t)shape->h * line;
    memset(dst, 0, border);
    dst += border;
    for (int32_t y = 0; y < shape->h; y++, src += line, dst += lines->line_bytes) {
        memset(dst, 0, side);
        memcpy(dst + side, src, line);
        memset(dst + side + line, 0, side);
    }
    memset(dst, 0, lines->image_bytes - border - (size_t)shape->h * lines->line_bytes);
}

/* Filter lines that lie inside the image for any of `rows` output rows from `row` on. */
static void lines_inside(const cnn_amx_shape *shape, int32_t row, int32_t rows, int32_t *first, int32_t *last)
{
    const int32_t top = (row + rows - 1) * shape->stride - shape->pad, bottom = row * shape->stride - shape->pad;
    *first = top < 0 ? -top : 0;
    *last = shape->h - bottom < shape->r ? shape->h - bottom : shape->r;
}

/* One or two tiles of pixels by one or two panels. */
static void multiply_spots(const cnn_amx_job *job, const uint8_t *image, const spot spots[2], int32_t count,
                           const cnn_amx_band *band, uint8_t *sums)
{
    const cnn_amx_lines *lines = job->lines;
    const cnn_amx_shape *shape = &lines->shape;
    int32_t first = 0, last = shape->r;
    if (!lines->flat)
        lines_inside(shape, spots[0].row, spots[count - 1].row - spots[0].row + 1, &first, &last);
    const size_t tile_bytes = lines->step_bytes * CNN_AMX_OUTPUTS; /* of weights */
    cnn_amx_product product = {
        .pixel_bytes = lines->pixel_bytes,
        .line_bytes = lines->line_bytes,
        .runs = last - first,
        .steps = lines->steps,
        .pixel_step_bytes = lines->step_bytes,
        .weights_step_bytes = tile_bytes,
        .weights_line_bytes = (size_t)lines->steps * tile_bytes,
        .weights = (const uint8_t *)job->packed + (size_t)band->panel * lines->panel_bytes +
                   (size_t)(first * lines->steps) * tile_bytes,
        .panel_bytes = lines->panel_bytes,
        .sums = {sums, sums + (size_t)CNN_AMX_PIXELS * CNN_AMX_SUMS * sizeof(int32_t)},
        .sums_bytes = CNN_AMX_SUMS_BYTES,
        .tiles = count,
        .panels = band->panels,
    };
    for (int32_t i = 0; i < count; i++)
        product.pixels[i] = image + (size_t)(spots[i].row * shape->stride + first) * lines->line_bytes +
                            (size_t)spots[i].x * lines->pixel_bytes;
    lines->multiply(&product);
}

static void run_band(const cnn_amx_job *job, const uint8_t *image, cnn_amx_band *band)
{
    const cnn_amx_lines *lines = job->lines;
    const cnn_amx_shape *shape = &lines->shape;
    const int32_t row = band->first * shape->pool_stride;
    const int32_t rows = (band->windows - 1) * shape->pool_stride + shape->pool;
    const int32_t width = lines->flat ? (rows - 1) * lines->pitch + shape->out_w : shape->out_w;
    const int32_t across = divide_up(width, CNN_AMX_PIXELS), tiles = lines->flat ? across : rows * across;
    uint8_t *sums = band->sums;
    for (int32_t t = 0; t < tiles; t += 2) {
        const spot spots[2] = {{row + t / across, t % across * CNN_AMX_PIXELS},
                               {row + (t + 1) / across, (t + 1) % across * CNN_AMX_PIXELS}};
        multiply_spots(job, image, spots, tiles - t < 2 ? 1 : 2, band, sums);
        sums += (size_t)2 * CNN_AMX_PIXELS * CNN_AMX_SUMS * sizeof(int32_t);
    }
    job->finish(job->context, band);
}

/* All outputs of an item. */
static void run_item(const cnn_amx_job *job, const lane *own, int32_t first, int32_t pair)
{
    const cnn_amx_lines *lines = job->lines;
    const int32_t end = first + lines->images < lines->shape.n ? first + lines->images : lines->shape.n;
    const int32_t last = pair + lines->range < lines->pairs ? pair + lines->range : lines->pairs;
    for (; pair < last; pair++)
        for (int32_t image = first; image < end; image++)
            for (int32_t b = 0; b < lines->bands; b++) {
                const int32_t window = b * lines->windows, left = lines->shape.windows_h - window;
                cnn_amx_band band = {
                    .image = image,
                    .panel = 2 * pair,
                    .panels = lines->panels - 2 * pair < 2 ? 1 : 2,
                    .first = window,
                    .windows = left < lines->windows ? left : lines->windows,
                    .sums = own->sums,
                    .spare = own->spare,
                };
                run_band(job, own->images + (size_t)(image - first) * lines->image_bytes, &band);
            }
}

/* Takes items until none is left. Those of the same images follow each other, so that a lane often has their copies. */
static void run_lane(void *context, int number, int worker)
{
    (void)worker;
    run *shared = context;
    const cnn_amx_job *job = shared->job;
    const cnn_amx_lines *lines = job->lines;
    uint8_t *memory =
        (uint8_t *)job->memory + (size_t)number * (lines->lines_bytes + lines->sums_bytes + job->spare_bytes);
    const lane own = {memory, memory + lines->lines_bytes, memory + lines->lines_bytes + lines->sums_bytes};
    int copied = -1;
    memset(memory + (size_t)lines->images * lines->image_bytes, 0,
           lines->lines_bytes - (size_t)lines->images * lines->image_bytes);
    cnn_amx_begin(lines->step_bytes);
    for (;;) {
        const int item = atomic_fetch_add(&shared->next, 1);
        if (item >= lines->groups * lines->ranges)
            break;
        const int group = item / lines->ranges;
        const int32_t first = group * lines->images;
        for (int32_t i = 0; group != copied && i < lines->images && first + i < lines->shape.n; i++)
            copy_image(job, first + i, own.images + (size_t)i * lines->image_bytes);
        copied = group;
        run_item(job, &own, first, item % lines->ranges * lines->range);
    }
    cnn_amx_end();
}

void cnn_amx_lines_run(const cnn_amx_job *job, const cnn_host *host)
{
    run shared = {.job = job};
    atomic_init(&shared.next, 0);
    host->parallel(job->lines->lanes, run_lane, &shared);
}

#else
typedef int cnn_amx_lines_not_here; /* ISO C wants a declaration */
#endif
