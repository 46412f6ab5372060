/* Planning which pieces of the input each block of output pixels needs, and packing them. See gather.h. */
#include "kernels/cpu/gather.h"

#include "kernels/cpu/flat.h"

enum {
    SPLIT_IMAGES = 8,                  /* from this batch on, border pixels form groups of their own */
    SPLIT_CHANNELS = CNN_GATHER_SHORT, /* and with so many input channels; below, taps are too short to be worth it */
    DEPTH_MULTIPLE = 8
};

/* One axis of a residue class of output positions: out = first + i*out_step, i < count, and its tap number t (of
 * `taps`, ascending input) reads in = offset + t + i*in_step. In the packed weights it is tap tap_first + t*tap_step.
 */
typedef struct axis {
    int32_t out_first, out_step, count, in_step, in_size;
    int32_t taps, offset, tap_first, tap_step;
} axis;

/* Positions i in [first, first+count) that use the taps [low, high). */
typedef struct span {
    int32_t first, count, low, high;
} span;

static axis forward_axis(int32_t out_size, int32_t in_size, int32_t taps, int32_t stride, int32_t pad)
{
    axis a = {0, 1, out_size, stride, in_size, taps, -pad, 0, 1};
    return a;
}

/* dx[i] = sum over r of dy[(i + pad - r)/stride] where that divides. Turned around, tap number taps-1-r; the largest
 * such r gives the first input. */
static axis dgrad_axis(int32_t out_size, int32_t in_size, int32_t taps, int32_t stride, int32_t pad, int32_t residue)
{
    int32_t smallest = (residue + pad) % stride;
    int32_t fitting = smallest < taps ? (taps - 1 - smallest) / stride + 1 : 0;
    int32_t largest = smallest + (fitting - 1) * stride;
    axis a = {residue, stride, (out_size - residue + stride - 1) / stride, 1, in_size, fitting, 0, 0, stride};
    if (fitting > 0) {
        a.offset = (residue + pad - largest) / stride; /* divides: no rounding, also when negative */
        a.tap_first = taps - 1 - largest;
    }
    return a;
}

static int32_t clamp(int64_t value, int32_t low, int32_t high)
{
    return (int32_t)(value < low ? low : value > high ? high : value);
}

/* The taps of position i that read inside the input. */
static span span_at(const axis *a, int32_t i)
{
    int64_t first_in = (int64_t)a->offset + (int64_t)i * a->in_step;
    span s = {i, 1, clamp(-first_in, 0, a->taps), clamp(a->in_size - first_in, 0, a->taps)};
    if (s.low >= s.high)
        s.low = s.high = 0;
    return s;
}

/* Finds the span that starts at position i: with `split` all positions have just its taps, without it is the rest of
 * the axis with all taps that any of them needs. */
static span next_span(const axis *a, int32_t i, bool split)
{
    span s = span_at(a, i);
    for (int32_t next = i + 1; next < a->count; next++) {
        span other = span_at(a, next);
        if (split && (other.low != s.low || other.high != s.high))
            break;
        if (!split && other.high > other.low) {
            bool empty = s.high == s.low;
            s.low = empty || other.low < s.low ? other.low : s.low;
            s.high = empty || other.high > s.high ? other.high : s.high;
        }
        s.count++;
    }
    return s;
}

/* ---- Building. Every add_* only counts while the arrays are NULL. ---- */

typedef struct builder {
    cnn_gather *gather;
    int32_t filter_columns; /* of the whole filter, in the packed weights */
    int block_rows;
    bool split;
} builder;

static void add_run(cnn_gather *gather, cnn_run run)
{
    if (gather->runs)
        gather->runs[gather->run_count] = run;
    gather->run_count++;
}

/* Cuts the runs of one segment (contiguous in the packed weights from `first`, `total` long) into depths of nearly
 * equal length. `row_length` elements of each run, rows ascending: all segments have that form. */
static void add_segment(cnn_gather *gather, int64_t first, int32_t row, int32_t rows, int32_t start, int32_t row_length)
{
    int64_t total = (int64_t)rows * row_length;
    int64_t pieces = (total + CNN_GEMM_DEPTH - 1) / CNN_GEMM_DEPTH;
    int64_t piece = (total + pieces - 1) / pieces;
    piece = (piece + DEPTH_MULTIPLE - 1) / DEPTH_MULTIPLE * DEPTH_MULTIPLE;
    for (int64_t at = 0; at < total; at += piece) {
        int64_t length = total - at < piece ? total - at : piece;
        cnn_depth depth = {first + at, (int32_t)length, gather->run_count, 0};
        for (int64_t done = 0; done < length;) {
            int64_t in_row = (at + done) % row_length;
            int64_t left = row_length - in_row < length - done ? row_length - in_row : length - done;
            cnn_run run = {row + (int32_t)((at + done) / row_length), start + (int32_t)in_row, (int32_t)left};
            add_run(gather, run);
            depth.run_count++;
            done += left;
        }
        if (gather->depths)
            gather->depths[gather->depth_count] = depth;
        gather->depth_count++;
    }
}

/* The depths of a group with the taps of two spans. */
static void add_depths(const builder *b, const axis *ya, const axis *xa, const span *ys, const span *xs)
{
    cnn_gather *gather = b->gather;
    int32_t channels = gather->in_c, rows = ys->high - ys->low, columns = xs->high - xs->low;
    bool whole_rows = ya->tap_step == 1 && xa->tap_step == 1 && columns == b->filter_columns;
    int32_t row_batch = whole_rows ? rows : 1;              /* filter rows that are contiguous in the weights */
    int32_t column_batch = xa->tap_step == 1 ? columns : 1; /* filter columns that are */
    for (int32_t t = ys->low; t < ys->high; t += row_batch)
        for (int32_t u = xs->low; u < xs->high; u += column_batch) {
            int64_t tap = (int64_t)(ya->tap_first + t * ya->tap_step) * b->filter_columns + xa->tap_first +
                          (int64_t)u * xa->tap_step;
            add_segment(gather, tap * channels, ya->offset + t, row_batch, (xa->offset + u) * channels,
                        column_batch * channels);
        }
}

static void add_blocks(const builder *b, int group, int64_t pixels)
{
    cnn_gather *gather = b->gather;
    int64_t blocks = (pixels + b->block_rows - 1) / b->block_rows;
    for (int64_t i = 0; i < blocks; i++) {
        int64_t first = pixels * i / blocks;
        cnn_pixel_block block = {group, (int32_t)(pixels * (i + 1) / blocks - first), first};
        if (gather->blocks)
            gather->blocks[gather->block_count] = block;
        gather->block_count++;
    }
}

static void add_groups(const builder *b, const axis *ya, const axis *xa)
{
    cnn_gather *gather = b->gather;
    span ys, xs;
    for (int32_t i = 0; i < ya->count; i += ys.count) {
        ys = next_span(ya, i, b->split);
        for (int32_t j = 0; j < xa->count; j += xs.count) {
            xs = next_span(xa, j, b->split);
            cnn_group group = {ya->out_first + ys.first * ya->out_step,
                               ya->out_step,
                               ys.count,
                               xa->out_first + xs.first * xa->out_step,
                               xa->out_step,
                               xs.count,
                               gather->depth_count,
                               0};
            /* Runs count rows and columns from the group's first pixel. */
            axis y0 = *ya, x0 = *xa;
            y0.offset += ys.first * ya->in_step;
            x0.offset += xs.first * xa->in_step;
            add_depths(b, &y0, &x0, &ys, &xs);
            group.depth_count = gather->depth_count - group.depth_first;
            add_blocks(b, gather->group_count, (int64_t)gather->images * ys.count * xs.count);
            if (gather->groups)
                gather->groups[gather->group_count] = group;
            gather->group_count++;
        }
    }
}

static void build(const builder *b, const cnn_conv_shape *shape, bool dgrad)
{
    cnn_gather *gather = b->gather;
    gather->group_count = gather->depth_count = gather->run_count = gather->block_count = 0;
    if (!dgrad) {
        axis ya = forward_axis(shape->p, shape->h, shape->r, shape->stride, shape->pad);
        axis xa = forward_axis(shape->q, shape->w, shape->s, shape->stride, shape->pad);
        add_groups(b, &ya, &xa);
        return;
    }
    for (int32_t i = 0; i < shape->stride && i < shape->h; i++)
        for (int32_t j = 0; j < shape->stride && j < shape->w; j++) {
            axis ya = dgrad_axis(shape->h, shape->p, shape->r, shape->stride, shape->pad, i);
            axis xa = dgrad_axis(shape->w, shape->q, shape->s, shape->stride, shape->pad, j);
            add_groups(b, &ya, &xa);
        }
}

static cnn_status alloc_arrays(cnn_gather *gather, const cnn_host *host)
{
    gather->groups = host->alloc((size_t)gather->group_count * sizeof *gather->groups);
    gather->depths = host->alloc((size_t)gather->depth_count * sizeof *gather->depths);
    gather->runs = host->alloc((size_t)gather->run_count * sizeof *gather->runs);
    gather->blocks = host->alloc((size_t)gather->block_count * sizeof *gather->blocks);
    if (gather->groups && gather->depths && gather->runs && gather->blocks)
        return CNN_OK;
    cnn_gather_free(gather, host);
    return host->error(CNN_ERR_MEMORY, "device cpu: out of memory for the plan of a convolution");
}

cnn_status cnn_gather_plan(cnn_gather *gather, const cnn_host *host, const cnn_conv_shape *shape, bool dgrad,
                           int block_rows)
{
    memset(gather, 0, sizeof *gather);
    gather->images = shape->n;
    gather->in_h = dgrad ? shape->p : shape->h;
    gather->in_w = dgrad ? shape->q : shape->w;
    gather->in_c = dgrad ? shape->k : shape->c;
    gather->out_h = dgrad ? shape->h : shape->p;
    gather->out_w = dgrad ? shape->w : shape->q;
    gather->in_step = dgrad ? 1 : shape->stride;
    builder b = {gather, shape->s, block_rows, false};
    b.split = shape->n >= SPLIT_IMAGES && gather->in_c >= SPLIT_CHANNELS;
    build(&b, shape, dgrad);
    cnn_status status = alloc_arrays(gather, host);
    if (status == CNN_OK)
        build(&b, shape, dgrad);
    return status;
}

void cnn_gather_free(cnn_gather *gather, const cnn_host *host)
{
    host->free(gather->groups);
    host->free(gather->depths);
    host->free(gather->runs);
    host->free(gather->blocks);
    memset(gather, 0, sizeof *gather);
}

/* ---- Packing ---- */

void cnn_gather_pixels(const cnn_gather *gather, const cnn_pixel_block *block, cnn_gather_pixel *pixels)
{
    const cnn_group *group = &gather->groups[block->group];
    int64_t image_elements = (int64_t)gather->in_h * gather->in_w * gather->in_c;
    int32_t column = (int32_t)(block->first % group->columns);
    int64_t line = block->first / group->columns;
    int32_t row = (int32_t)(line % group->rows);
    int64_t image = line / group->rows;
    for (int i = 0; i < block->count; i++) {
        int64_t y = group->y + (int64_t)row * group->y_step, x = group->x + (int64_t)column * group->x_step;
        pixels[i].out = (image * gather->out_h + y) * gather->out_w + x;
        pixels[i].image = image * image_elements;
        pixels[i].row = row * gather->in_step;
        pixels[i].start = column * gather->in_step * gather->in_c;
        if (++column == group->columns) {
            column = 0;
            if (++row == group->rows) {
                row = 0;
                image++;
            }
        }
    }
}

void cnn_gather_pack(const cnn_gather *gather, const cnn_cpu_loops *loops, cnn_dtype dtype, const void *src,
                     const cnn_gather_pixel *pixels, int count, const cnn_depth *depth, float *dst)
{
    size_t element_bytes = cnn_dtype_bytes(dtype);
    int64_t row_length = (int64_t)gather->in_w * gather->in_c;
    for (int i = 0; i < count; i++) {
        float *out = dst + (size_t)i * CNN_GEMM_PITCH;
        for (int r = 0; r < depth->run_count; r++) {
            const cnn_run *run = &gather->runs[depth->run_first + r];
            int64_t row = (int64_t)run->row + pixels[i].row;
            bool inside = row >= 0 && row < gather->in_h;
            size_t offset = inside ? (size_t)(pixels[i].image + row * row_length) * element_bytes : 0;
            cnn_gather_run(loops, dtype, inside ? (const char *)src + offset : NULL, row_length,
                           (int64_t)run->start + pixels[i].start, run->length, out);
            out += run->length;
        }
    }
}

/* ---- Widening ---- */

typedef struct widening {
    const cnn_cpu_loops *loops;
    cnn_dtype dtype;
    const char *src;
    float *dst;
    int64_t count;
} widening;

static void widen_task(void *context, int task, int worker)
{
    const widening *w = context;
    int64_t first, last = cnn_flat_range(task, w->count, &first);
    (void)worker;
    w->loops->to_f32(w->dtype, w->src + (size_t)first * cnn_dtype_bytes(w->dtype), w->dst + first, last - first);
}

void cnn_gather_widen(const cnn_host *host, const cnn_cpu_loops *loops, cnn_dtype dtype, const void *src, float *dst,
                      int64_t count)
{
    widening w = {loops, dtype, src, dst, count};
    host->parallel(cnn_flat_tasks(count), widen_task, &w);
}
