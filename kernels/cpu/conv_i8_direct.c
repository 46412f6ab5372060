/* CONV in INT8 without im2col, and CONV and LINEAR whose weights are zero in whole blocks (CNN_BLOCK_16X4).
 *
 * An item of work is one image by one range of outputs. A lane lays the image out in planes (direct_i8.h), then for
 * each pair of panels, output row by output row, with blocks two at a time: sums of the rows' tiles, maxima of pooling
 * windows, the formula. A linear layer is a 1x1 convolution over its images as pixels, a tile of them an image.
 *
 * Few input channels would leave groups half empty. There a line of the filter, its S*C weights, counts as the channels
 * of a filter one column wide: the planes then hold for each pixel of a line the bytes that its line of the filter
 * sees, padding included, at any stride.
 *
 * Sums are exact, so that no cut changes a result. */
#include "kernels/cpu/conv_i8.h"

#include "kernels/cpu/direct_i8.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif
#include <stdio.h>
#include <string.h>

static const cnn_cpu_direct_i8 *tiles_of(cnn_cpu_isa isa)
{
#if defined(__x86_64__)
    if (cnn_cpu_isa_holds(isa, CNN_CPU_AVX512VNNI))
        return &cnn_cpu_direct_i8_avx512vnni;
#endif
#if defined(CNN_CPU_AVXVNNI_BUILT)
    if (cnn_cpu_isa_holds(isa, CNN_CPU_AVXVNNI))
        return &cnn_cpu_direct_i8_avxvnni;
#endif
    (void)isa;
    return NULL;
}

enum {
    LEAST_CHANNELS = 8,        /* of dense convolutions: fewer leave groups half empty, and go by lines of the filter */
    MOST_SPARE = 4,            /* one part in so many of the bytes that a pixel sees of a line may be added */
    PLANES_BYTES = 512 * 1024, /* most of an image, which is read once for each pair of panels, from L2 */
    ITEMS_PER_LANE = 4,
    PIXEL_ZERO = 0x80
};

/* An output row: filter rows top .. bottom-1 meet the image. Those of one kind meet the same ones. */
typedef struct out_row {
    int32_t top, bottom, kind;
} out_row;

/* A tile of an output row. */
typedef struct tile_cut {
    int32_t x, pixels;
} tile_cut;

typedef struct direct_i8 {
    cnn_cpu_kernel base;
    const cnn_cpu_direct_i8 *level;
    const cnn_cpu_gemm_i8 *gemm; /* for the formulas */
    bool linear, blocks, pools;
    bool by_lines;                  /* of the filter */
    cnn_tensor_desc weight;         /* as they are packed */
    int32_t images, h, w, channels; /* of a linear layer: tiles, rows of a tile, images in a row, 1 tap's channels */
    int32_t k, r, s, pad, out_h, out_w, pool, pool_stride, windows_h, windows_w;
    int32_t lines;        /* output rows of a tile, most */
    int32_t together;     /* rows of windows that are made together: without pooling as many as a tile's */
    int32_t side, stride; /* columns of padding in the planes; output rows step by so many lines */
    int32_t spots;        /* pixels of the image that a pixel here stands for: H*W of a linear layer, else 1 */
    int32_t pairs;
    cnn_i8_direct packed;
    int32_t *starts; /* what sums of a tile's rows start with: [pairs][kinds][out_w][CNN_I8_SUMS]; owns rows and cuts */
    out_row *rows;   /* [out_h] */
    tile_cut *cuts;  /* [tiles] */
    int32_t kinds, tiles; /* of rows, in a row */
    size_t line_bytes, plane_bytes, above_bytes, planes_bytes;
    size_t rows_bytes, pooled_bytes, lane_bytes; /* sums of the rows of a window, pooled ones */
    int32_t lanes, ranges, range;                /* range: pairs */
} direct_i8;

static int32_t divide_up(int64_t a, int64_t b)
{
    return (int32_t)((a + b - 1) / b);
}

typedef struct direct_job {
    const direct_i8 *kernel;
    void *const *args;
    uint8_t *scratch; /* [lanes] */
    int32_t *filled;  /* [lanes], the image whose planes each has, or -1 */
} direct_job;

typedef struct lane {
    uint8_t *above;         /* `pad` lines that no tile reads, ... */
    uint8_t *planes;        /* ... then the planes */
    int32_t *rows, *pooled; /* [pool or together][out_w][CNN_I8_SUMS], [windows_w][CNN_I8_SUMS] */
} lane;

/* Rows of outputs, as many as a tile has, for a pair of panels. */
typedef struct row_job {
    const lane *own;
    int32_t panel, panels, lines;
    cnn_i8_tile tile; /* what is the same for all of the pair; run_tile sets the rest */
} row_job;

/* ---- Planes ---- */

/* The bytes of one group of a pixel, 128 more; channels beyond the last are 0 there. */
static void put_group(const int8_t *src, int32_t count, uint8_t *dst)
{
    for (int32_t i = 0; i < CNN_I8_GROUP; i++)
        dst[i] = i < count ? (uint8_t)((uint8_t)src[i] ^ PIXEL_ZERO) : PIXEL_ZERO;
}

static void put_pixel(const direct_i8 *kernel, const int8_t *src, uint8_t *dst)
{
    const int32_t whole = kernel->channels / CNN_I8_GROUP, left = kernel->channels % CNN_I8_GROUP;
    for (int32_t spot = 0; spot < kernel->spots; spot++, src += kernel->channels) {
        for (int32_t g = 0; g < whole; g++, dst += kernel->plane_bytes) {
            uint32_t bytes;
            memcpy(&bytes, src + g * CNN_I8_GROUP, sizeof bytes);
            bytes ^= 0x80808080u;
            memcpy(dst, &bytes, sizeof bytes);
        }
        if (left > 0) {
            put_group(src + whole * CNN_I8_GROUP, left, dst);
            dst += kernel->plane_bytes;
        }
    }
}

#if defined(__x86_64__)
/* Four groups of four pixels. */
static void put_4x4(const int8_t *src, size_t pixel_bytes, uint8_t *dst, size_t plane_bytes)
{
    const __m128i zero = _mm_set1_epi8((char)PIXEL_ZERO);
    __m128i x[4], two[4];
    for (int i = 0; i < 4; i++)
        x[i] = _mm_xor_si128(_mm_loadu_si128((const __m128i *)(const void *)(src + (size_t)i * pixel_bytes)), zero);
    for (int i = 0; i < 2; i++) {
        two[i] = _mm_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
        two[i + 2] = _mm_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++, dst += 2 * plane_bytes) {
        _mm_storeu_si128((__m128i *)(void *)dst, _mm_unpacklo_epi64(two[2 * i], two[2 * i + 1]));
        _mm_storeu_si128((__m128i *)(void *)(dst + plane_bytes), _mm_unpackhi_epi64(two[2 * i], two[2 * i + 1]));
    }
}

/* All pixels, if there are four or more and their channels are whole fours of groups: returns how many were done. The
 * last four may overlap those before. */
static int32_t put_fours(const direct_i8 *kernel, const int8_t *src, int32_t count, uint8_t *dst)
{
    enum { FOUR = 4, FOUR_BYTES = FOUR * CNN_I8_GROUP };
    const size_t pixel_bytes = (size_t)kernel->spots * (size_t)kernel->channels, plane_bytes = kernel->plane_bytes;
    if (count < FOUR || pixel_bytes % FOUR_BYTES != 0 || kernel->channels % CNN_I8_GROUP != 0)
        return 0;
    for (int32_t x = 0; x < count; x += FOUR) {
        const size_t first = (size_t)(x + FOUR <= count ? x : count - FOUR);
        const int8_t *pixels = src + first * pixel_bytes;
        uint8_t *groups = dst + first * CNN_I8_GROUP;
        for (size_t i = 0; i < pixel_bytes; i += FOUR_BYTES, groups += FOUR * plane_bytes)
            put_4x4(pixels + i, pixel_bytes, groups, plane_bytes);
    }
    return count;
}
#else
static int32_t put_fours(const direct_i8 *kernel, const int8_t *src, int32_t count, uint8_t *dst)
{
    (void)kernel, (void)src, (void)count, (void)dst;
    return 0;
}
#endif

/* Neighbouring pixels of a line. */
static void put_pixels(const direct_i8 *kernel, const int8_t *src, int32_t count, uint8_t *dst)
{
    const size_t pixel_bytes = (size_t)kernel->spots * (size_t)kernel->channels;
    for (int32_t x = put_fours(kernel, src, count, dst); x < count; x++)
        put_pixel(kernel, src + (size_t)x * pixel_bytes, dst + (size_t)x * CNN_I8_GROUP);
}

/* First image of a tile of a linear layer. */
static int32_t tile_first(const direct_i8 *kernel, int32_t image)
{
    const int32_t n = kernel->base.base.desc.arg[CNN_ARG_SRC].n;
    return (int32_t)((int64_t)n * image / kernel->images);
}

/* What output pixel q of a line sees of it, for each of them: S*C bytes, the first of them beside the image perhaps. */
static void fill_line(const direct_i8 *kernel, const int8_t *line, int32_t stride, uint8_t *dst)
{
    const int32_t channels = kernel->base.base.desc.arg[CNN_ARG_SRC].c_pad, seen = kernel->channels;
    const int32_t end = kernel->base.base.desc.arg[CNN_ARG_SRC].w * channels;
    const int32_t groups = kernel->packed.groups;
    for (int32_t q = 0; q < kernel->w; q++, dst += CNN_I8_GROUP) {
        const int32_t first = (q * stride - kernel->pad) * channels;
        for (int32_t g = 0; g < groups; g++) {
            const int32_t from = first + g * CNN_I8_GROUP;
            uint32_t bytes = 0;
            if (from >= 0 && from + CNN_I8_GROUP <= end) {
                memcpy(&bytes, line + from, sizeof bytes);
            } else {
                uint8_t some[CNN_I8_GROUP] = {0};
                for (int32_t i = 0; i < CNN_I8_GROUP && g * CNN_I8_GROUP + i < seen; i++)
                    some[i] = from + i >= 0 && from + i < end ? (uint8_t)line[from + i] : 0;
                memcpy(&bytes, some, sizeof bytes);
            }
            bytes ^= 0x80808080u;
            memcpy(dst + (size_t)g * kernel->plane_bytes, &bytes, sizeof bytes);
        }
    }
}

static void fill_lines(const direct_job *job, int32_t image, uint8_t *planes)
{
    const direct_i8 *kernel = job->kernel;
    const cnn_tensor_desc *src = &kernel->base.base.desc.arg[CNN_ARG_SRC];
    const size_t line = (size_t)src->w * (size_t)src->c_pad;
    const int8_t *from = (const int8_t *)job->args[CNN_ARG_SRC] + (size_t)image * (size_t)src->h * line;
    for (int32_t y = 0; y < kernel->h; y++, from += line, planes += kernel->line_bytes)
        fill_line(kernel, from, kernel->stride, planes);
}

static void fill_planes(const direct_job *job, int32_t image, uint8_t *planes)
{
    const direct_i8 *kernel = job->kernel;
    if (kernel->by_lines) {
        fill_lines(job, image, planes);
        return;
    }
    const size_t pixel_bytes = (size_t)kernel->spots * (size_t)kernel->channels;
    const int64_t first = kernel->linear ? tile_first(kernel, image) : (int64_t)image * kernel->h * kernel->w;
    const int32_t pixels =
        kernel->linear ? tile_first(kernel, image + 1) - tile_first(kernel, image) : kernel->h * kernel->w;
    const int8_t *src = (const int8_t *)job->args[CNN_ARG_SRC] + (size_t)first * pixel_bytes;
    for (int32_t i = 0; i < pixels; i += kernel->w, planes += kernel->line_bytes)
        put_pixels(kernel, src + (size_t)i * pixel_bytes, pixels - i < kernel->w ? pixels - i : kernel->w,
                   planes + (size_t)kernel->side * CNN_I8_GROUP);
}

/* ---- Output rows ---- */

/* Rows at the top and at the bottom, whose filters leave the image, are of kinds of their own. */
static int32_t kind_of(const direct_i8 *kernel, int32_t y)
{
    const int32_t stride = kernel->stride, above = divide_up(kernel->pad, stride);
    const int32_t inside = (kernel->h - kernel->r + kernel->pad) / stride; /* the last row whose filter ends inside */
    return (y < above ? y : above) + (y > inside ? y - inside : 0);
}

static void fill_rows(const direct_i8 *kernel)
{
    for (int32_t y = 0; y < kernel->out_h; y++) {
        const int32_t line = y * kernel->stride - kernel->pad; /* that filter row 0 meets */
        kernel->rows[y] = (out_row){
            .top = line < 0 ? -line : 0,
            .bottom = kernel->h - line < kernel->r ? kernel->h - line : kernel->r,
            .kind = kind_of(kernel, y),
        };
    }
}

static void fill_cuts(const direct_i8 *kernel)
{
    for (int32_t t = 0; t < kernel->tiles; t++) {
        const int32_t x = kernel->out_w * t / kernel->tiles;
        kernel->cuts[t] = (tile_cut){x, kernel->out_w * (t + 1) / kernel->tiles - x};
    }
}

static int32_t *start_of(const direct_i8 *kernel, int32_t pair, const out_row *row, const tile_cut *cut)
{
    return kernel->starts + (((int64_t)pair * kernel->kinds + row->kind) * kernel->out_w + cut->x) * CNN_I8_SUMS;
}

/* What is the same for all panels and rows. */
static cnn_i8_tile tile_of(const direct_i8 *kernel)
{
    const cnn_i8_direct *packed = &kernel->packed;
    return (cnn_i8_tile){
        .line_bytes = kernel->line_bytes,
        .plane_bytes = kernel->plane_bytes,
        .columns = kernel->s,
        .groups = packed->groups,
        .weights = packed->weights,
        .panel_bytes = packed->panel_bytes,
        .offset = packed->offset,
        .all_rows = kernel->r,
        .line_sums = (size_t)kernel->out_w * CNN_I8_SUMS,
    };
}

static void set_cut(const direct_i8 *kernel, const tile_cut *cut, cnn_i8_tile *tile)
{
    tile->left = kernel->side - cut->x;
    tile->right = cut->x + cut->pixels - 1 + kernel->s - kernel->side - kernel->w;
    tile->pixels = cut->pixels;
}

/* Task: the starts of a pair of panels. */
static void make_starts(void *context, int pair, int worker)
{
    const direct_i8 *kernel = context;
    cnn_i8_tile tile = tile_of(kernel);
    (void)worker;
    for (const tile_cut *cut = kernel->cuts; cut < kernel->cuts + kernel->tiles; cut++) {
        set_cut(kernel, cut, &tile);
        for (const out_row *row = kernel->rows; row < kernel->rows + kernel->out_h; row++) {
            if (row > kernel->rows && row->kind == row[-1].kind)
                continue;
            tile.rows = row->bottom - row->top;
            for (int32_t j = 0; j < CNN_I8_PANELS && pair * CNN_I8_PANELS + j < kernel->packed.panels; j++) {
                const int64_t tap = ((int64_t)(pair * CNN_I8_PANELS + j) * kernel->r + row->top) * kernel->s;
                kernel->level->fill_start(&tile, kernel->packed.sums + tap * CNN_I8_PANEL,
                                          start_of(kernel, pair, row, cut) + j * CNN_I8_PANEL);
            }
        }
    }
}

static void run_dense(const direct_i8 *kernel, row_job *job, const out_row *row)
{
    const cnn_i8_direct *packed = &kernel->packed;
    cnn_i8_tile *tile = &job->tile;
    const size_t first = (size_t)(row->top * kernel->s) * (size_t)packed->groups * CNN_I8_GROUP_BYTES;
    tile->rows = row->bottom - row->top;
    tile->x += (size_t)row->top * kernel->line_bytes;
    tile->weights = packed->weights + (size_t)job->panel * packed->panel_bytes + first;
    kernel->level->dense(tile);
}

/* The pixels of a cut in rows y, y+1, ..., as many as the job has. */
static void run_tile(const direct_i8 *kernel, row_job *job, int32_t y, const tile_cut *cut, int32_t *sums)
{
    cnn_i8_tile *tile = &job->tile;
    set_cut(kernel, cut, tile);
    tile->x = job->own->above + (size_t)(y * kernel->stride) * kernel->line_bytes + (size_t)cut->x * CNN_I8_GROUP;
    tile->sums = sums;
    tile->lines = job->lines;
    for (int32_t l = 0; l < job->lines; l++) {
        const out_row *row = &kernel->rows[y + l];
        tile->start[l] = start_of(kernel, job->panel / CNN_I8_PANELS, row, cut);
        tile->top[l] = row->top;
        tile->bottom[l] = row->bottom;
    }
    if (!kernel->blocks) {
        run_dense(kernel, job, &kernel->rows[y]);
        return;
    }
    for (int32_t j = 0; j < job->panels; j++, tile->sums += CNN_I8_PANEL) {
        tile->begin = kernel->packed.begin + (job->panel + j) * kernel->r * kernel->s;
        kernel->level->blocks(tile);
        for (int32_t l = 0; l < job->lines; l++)
            tile->start[l] += CNN_I8_PANEL;
    }
}

/* Rows y, y+1, ..., as many as the job has. */
static void run_rows(const direct_i8 *kernel, row_job *row, int32_t y, int32_t *sums)
{
    for (const tile_cut *cut = kernel->cuts; cut < kernel->cuts + kernel->tiles; cut++)
        run_tile(kernel, row, y, cut, sums + (size_t)cut->x * CNN_I8_SUMS);
}

/* Output rows y .. y+count-1, before pooling. */
static void run_all_rows(const direct_i8 *kernel, row_job *row, int32_t y, int32_t count)
{
    for (int32_t i = 0; i < count; i += row->lines) {
        row->lines = count - i < kernel->lines ? count - i : kernel->lines;
        run_rows(kernel, row, y + i, row->own->rows + (size_t)(i * kernel->out_w) * CNN_I8_SUMS);
    }
}

/* All outputs of an image, one pair of panels. */
static void run_pair(const direct_job *job, const lane *own, int32_t image, int32_t pair)
{
    const direct_i8 *kernel = job->kernel;
    const int32_t panel = pair * CNN_I8_PANELS, left = kernel->packed.panels - panel;
    const int32_t pixels = kernel->linear ? tile_first(kernel, image + 1) - tile_first(kernel, image)
                                          : kernel->windows_h * kernel->windows_w;
    const int64_t first = kernel->linear ? tile_first(kernel, image) : (int64_t)image * pixels;
    row_job row = {.own = own, .panel = panel, .panels = left < CNN_I8_PANELS ? left : CNN_I8_PANELS};
    row.tile = tile_of(kernel);
    row.tile.panels = row.panels;
    for (int32_t p = 0; p < kernel->windows_h; p += kernel->together) {
        const int32_t windows = kernel->windows_h - p < kernel->together ? kernel->windows_h - p : kernel->together;
        run_all_rows(kernel, &row, p * kernel->pool_stride, kernel->pools ? kernel->pool : windows);
        if (kernel->pools)
            kernel->level->pool(own->rows, kernel->out_w, kernel->pool, kernel->pool_stride, kernel->windows_w,
                                own->pooled);
        const int32_t *sums = kernel->pools ? own->pooled : own->rows;
        const int32_t done = p * kernel->windows_w, rest = pixels - done, some = windows * kernel->windows_w;
        for (int32_t j = 0; j < row.panels; j++)
            cnn_cpu_finish_i8(kernel->gemm, &kernel->base.base.desc, job->args, sums + j * CNN_I8_PANEL, 1,
                              first + done, some < rest ? some : rest, (panel + j) * CNN_I8_PANEL);
    }
}

/* Writes 0 to the padding channels of an image's outputs. */
static void clear_padding(const direct_job *job, int32_t image)
{
    const direct_i8 *kernel = job->kernel;
    const int64_t outputs = kernel->windows_h * kernel->windows_w;
    const int64_t first = kernel->linear ? tile_first(kernel, image) : image * outputs;
    const int64_t last = kernel->linear ? tile_first(kernel, image + 1) : first + outputs;
    cnn_cpu_clear_padding_i8(&kernel->base.base.desc.arg[CNN_ARG_DST], job->args[CNN_ARG_DST], first, last - first);
}

/* Task: an item. Those of one image follow each other, so that a lane often has its planes already. */
static void run_item(void *context, int item, int number)
{
    const direct_job *job = context;
    const direct_i8 *kernel = job->kernel;
    uint8_t *scratch = job->scratch + (size_t)number * kernel->lane_bytes;
    int32_t *rows = (int32_t *)(void *)(scratch + kernel->above_bytes + kernel->planes_bytes);
    int32_t *pooled = rows + kernel->rows_bytes / sizeof *rows;
    uint8_t *planes = scratch + kernel->above_bytes;
    const lane own = {planes - (size_t)kernel->pad * kernel->line_bytes, planes, rows, pooled};
    const int32_t image = item / kernel->ranges, first = item % kernel->ranges * kernel->range;
    if (job->filled[number] < 0 && kernel->side > 0) /* the padding, which stays */
        memset(own.planes, PIXEL_ZERO, kernel->planes_bytes);
    if (image != job->filled[number])
        fill_planes(job, image, own.planes);
    job->filled[number] = image;
    for (int32_t pair = first; pair < first + kernel->range && pair < kernel->pairs; pair++)
        run_pair(job, &own, image, pair);
    if (first == 0)
        clear_padding(job, image);
}

static cnn_status run(cnn_kernel *base, void *const args[CNN_ARG_COUNT], void *workspace)
{
    const direct_i8 *kernel = (const direct_i8 *)base;
    direct_job job = {.kernel = kernel, .args = args, .scratch = workspace};
    job.filled = (int32_t *)(void *)(job.scratch + (size_t)kernel->lanes * kernel->lane_bytes);
    for (int32_t i = 0; i < kernel->lanes; i++)
        job.filled[i] = -1;
    cnn_cpu_parallel(kernel->base.device->host, kernel->images * kernel->ranges, kernel->lanes, run_item, &job);
    return CNN_OK;
}

/* ---- The kernel ---- */

static cnn_status pack(cnn_kernel *base, const void *weights)
{
    direct_i8 *kernel = (direct_i8 *)base;
    const cnn_host *host = kernel->base.device->host;
    const size_t starts = (size_t)(kernel->pairs * kernel->kinds) * (size_t)kernel->out_w * CNN_I8_SUMS;
    const size_t bytes = starts * sizeof *kernel->starts + (size_t)kernel->out_h * sizeof *kernel->rows +
                         (size_t)kernel->tiles * sizeof *kernel->cuts;
    cnn_status status = cnn_cpu_pack_direct_i8(&kernel->packed, host, weights, kernel->blocks);
    kernel->base.packed = kernel->packed.memory; /* freed with the kernel */
    if (status != CNN_OK)
        return status;
    if (base->spent)
        base->spent(weights, cnn_desc_bytes(kernel->packed.weight));
    if (!kernel->starts)
        kernel->starts = host->alloc(bytes);
    if (!kernel->starts)
        return host->error(CNN_ERR_MEMORY, "out of memory: %zu bytes for the starts of sums", bytes);
    kernel->rows = (out_row *)(void *)(kernel->starts + starts);
    kernel->cuts = (tile_cut *)(void *)(kernel->rows + kernel->out_h);
    fill_rows(kernel);
    fill_cuts(kernel);
    host->parallel(kernel->pairs, make_starts, kernel);
    return CNN_OK;
}

static void destroy(cnn_kernel *base)
{
    const direct_i8 *kernel = (const direct_i8 *)base;
    if (kernel)
        kernel->base.device->host->free(kernel->starts);
    cnn_cpu_kernel_destroy(base);
}

static void read_shape(direct_i8 *kernel, const cnn_op_desc *desc)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *weight = &desc->arg[CNN_ARG_WEIGHT];
    const cnn_tensor_desc *dst = &desc->arg[CNN_ARG_DST];
    kernel->linear = desc->op == CNN_OP_LINEAR; /* whose windows are one pixel */
    const bool pool = cnn_op_has_epilogue(desc, CNN_EPILOGUE_MAXPOOL) && desc->op != CNN_OP_LINEAR;
    kernel->blocks = weight->structure == CNN_BLOCK_16X4;
    kernel->lines = kernel->blocks ? kernel->level->lines : 1;
    kernel->together = pool ? 1 : kernel->lines;
    kernel->by_lines = !kernel->linear && !kernel->blocks && src->c_pad < LEAST_CHANNELS;
    kernel->weight = *weight;
    kernel->stride = 1;
    kernel->channels = src->c_pad;
    kernel->k = weight->n;
    kernel->pools = pool;
    kernel->pool = pool ? desc->pool_kernel : 1;
    kernel->pool_stride = pool ? desc->pool_stride : 1;
    kernel->windows_h = dst->h;
    kernel->windows_w = dst->w;
    if (kernel->linear) {
        kernel->images = divide_up(src->n, kernel->level->tile * kernel->lines);
        kernel->h = kernel->out_h = kernel->windows_h = src->n > kernel->level->tile ? kernel->lines : 1;
        kernel->w = kernel->out_w = kernel->windows_w = divide_up(divide_up(src->n, kernel->images), kernel->h);
        kernel->r = kernel->s = 1;
        kernel->spots = src->h * src->w;
    } else {
        kernel->images = src->n;
        kernel->h = src->h;
        kernel->w = src->w;
        kernel->r = weight->h;
        kernel->s = weight->w;
        kernel->pad = kernel->side = desc->pad;
        kernel->out_h = cnn_window_count(src->h, weight->h, desc->stride, desc->pad);
        kernel->out_w = cnn_window_count(src->w, weight->w, desc->stride, desc->pad);
        kernel->spots = 1;
    }
}

/* The convolution as one with a filter one column wide. */
static void go_by_lines(direct_i8 *kernel)
{
    kernel->stride = kernel->base.base.desc.stride;
    kernel->channels = kernel->weight.c = kernel->weight.c_pad = kernel->s * kernel->channels;
    kernel->weight.w = kernel->s = 1;
    kernel->side = 0;
    kernel->w = kernel->out_w;
}

static void choose_memory(direct_i8 *kernel)
{
    cnn_i8_direct *packed = &kernel->packed;
    kernel->line_bytes = (size_t)(kernel->w + 2 * kernel->side) * CNN_I8_GROUP;
    kernel->plane_bytes = (size_t)kernel->h * kernel->line_bytes;
    packed->weight = &kernel->weight;
    packed->rows = kernel->r;
    packed->columns = kernel->s;
    packed->line_bytes = kernel->line_bytes;
    packed->spots = kernel->spots;
    packed->groups = kernel->spots * divide_up(kernel->channels, CNN_I8_GROUP);
    packed->panels = divide_up(kernel->k, CNN_I8_PANEL);
    packed->plane_bytes = kernel->plane_bytes;
    packed->panel_bytes = (size_t)(kernel->r * kernel->s) * (size_t)packed->groups * CNN_I8_GROUP_BYTES;
    kernel->pairs = divide_up(packed->panels, CNN_I8_PANELS);
    kernel->planes_bytes = cnn_cpu_aligned((size_t)packed->groups * kernel->plane_bytes);
    const int32_t rows = kernel->pools ? kernel->pool : kernel->together;
    kernel->rows_bytes = (size_t)rows * (size_t)kernel->out_w * CNN_I8_SUMS * sizeof(int32_t);
    kernel->pooled_bytes = (size_t)kernel->windows_w * CNN_I8_SUMS * sizeof(int32_t);
    kernel->above_bytes = cnn_cpu_aligned((size_t)kernel->pad * kernel->line_bytes);
    kernel->lane_bytes = kernel->above_bytes + kernel->planes_bytes + kernel->rows_bytes + kernel->pooled_bytes;
    kernel->kinds = kind_of(kernel, kernel->out_h - 1) + 1;
    kernel->tiles = divide_up(kernel->out_w, kernel->level->tile);
}

/* Cuts the work into items. */
static void choose_items(direct_i8 *kernel)
{
    const int64_t pixels = (int64_t)kernel->images * kernel->out_h * kernel->out_w;
    kernel->lanes = cnn_cpu_lanes_i8(kernel->base.device->host,
                                     pixels * kernel->r * kernel->s * kernel->channels * kernel->spots * kernel->k);
    const int64_t wanted = (int64_t)kernel->lanes * ITEMS_PER_LANE;
    int32_t ranges = kernel->lanes > 1 ? divide_up(wanted, kernel->images) : 1;
    ranges = ranges < kernel->pairs ? ranges : kernel->pairs;
    kernel->range = divide_up(kernel->pairs, ranges);
    kernel->ranges = divide_up(kernel->pairs, kernel->range);
    if (kernel->lanes > kernel->images * kernel->ranges)
        kernel->lanes = kernel->images * kernel->ranges;
}

cnn_status cnn_cpu_conv_i8_direct_make(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **made)
{
    direct_i8 *kernel;
    cnn_status status = cnn_cpu_kernel_new(device, desc, sizeof *kernel, &kernel);
    if (status != CNN_OK)
        return status;
    kernel->level = tiles_of(device->isa);
    kernel->gemm = cnn_cpu_gemm_i8_get(device->isa);
    read_shape(kernel, desc);
    if (kernel->by_lines)
        go_by_lines(kernel);
    choose_memory(kernel);
    choose_items(kernel);
    kernel->base.base.workspace_bytes = (size_t)kernel->lanes * (kernel->lane_bytes + sizeof(int32_t));
    kernel->base.base.pack = pack;
    kernel->base.base.run = run;
    kernel->base.base.destroy = destroy;
    snprintf(kernel->base.name, sizeof kernel->base.name, "cnn_cpu_%s_i8_%s_%s", kernel->linear ? "linear" : "conv",
             kernel->blocks ? "blocks" : "direct", kernel->level->name);
    kernel->base.base.name = kernel->base.name;
    *made = &kernel->base.base;
    return CNN_OK;
}

bool cnn_cpu_conv_i8_direct_suits(const cnn_op_desc *desc, cnn_cpu_isa isa, char *why)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *weight = &desc->arg[CNN_ARG_WEIGHT];
    const bool blocks = weight->structure == CNN_BLOCK_16X4;
    const cnn_cpu_direct_i8 *tiles = tiles_of(isa);
    if (!tiles)
        return cnn_refuse(why, "there are no tiles of this level");
    if (!cnn_cpu_conv_i8_suits(desc, isa, why))
        return false;
    if (!desc->constant_weights)
        return cnn_refuse(why, "weights change");
    if (desc->op == CNN_OP_LINEAR)
        return blocks || cnn_refuse(why, "the weights are dense");
    if (desc->pad >= weight->h || desc->pad >= weight->w)
        return cnn_refuse(why, "only less padding than the filter's size");
    const bool few = src->c_pad < LEAST_CHANNELS && !blocks;
    if (!few && desc->stride != 1)
        return cnn_refuse(why, "only stride 1");
    if (few && (src->c_pad != src->c || weight->c_pad != weight->c))
        return cnn_refuse(why, "lines of the filter with padding channels");
    const int32_t seen = weight->w * src->c_pad;
    if (few && divide_up(seen, CNN_I8_GROUP) * CNN_I8_GROUP > seen + seen / MOST_SPARE)
        return cnn_refuse(why, "lines of the filter leave too much of their last group empty");
    const int64_t width = few ? cnn_window_count(src->w, weight->w, desc->stride, desc->pad) : src->w + 2 * desc->pad;
    const int64_t bytes = src->h * width * ((few ? weight->w : 1) * src->c_pad + CNN_I8_GROUP);
    return bytes <= PLANES_BYTES || cnn_refuse(why, "an image of more than %d KiB", PLANES_BYTES / 1024);
}
