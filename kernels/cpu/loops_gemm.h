/* Matrix-product loops: register tiles, transposition, dot products. Included once by each loops_<isa>.c. */
#include "kernels/cpu/loops.h"
#include "kernels/cpu/simd.h"

/* ---- Register tiles ---- */

enum { STREAM_AHEAD = 4096 }; /* floats of b: 16 KiB */

/* Adds one step's products: x of each row, a_row apart, times one or two vectors. */
VEC_INLINE void tile_step(const int rows, const int vectors, const float *a, const ptrdiff_t a_row, const float *b,
                          vec sum[VEC_TILE_ROWS][2])
{
    vec b0 = vec_load(b);
    vec b1 = vectors == 2 ? vec_load(b + VEC_LANES) : vec_zero();
    VEC_UNROLL
    for (int i = 0; i < rows; i++) {
        vec x = vec_set(a[i * a_row]);
        VEC_KEEP(b0); /* else gcc spills it in a tile of 11 rows */
        sum[i][0] = vec_fma(x, b0, sum[i][0]);
        VEC_KEEP(sum[i][0]);
        if (vectors == 2) {
            sum[i][1] = vec_fma(x, b1, sum[i][1]);
            VEC_KEEP(sum[i][1]);
        }
    }
}

VEC_INLINE void tile_clear(const int rows, const int vectors, vec sum[VEC_TILE_ROWS][2])
{
    VEC_UNROLL
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++)
            sum[i][j] = vec_zero();
}

VEC_INLINE void tile_store(const int rows, const int vectors, vec sum[VEC_TILE_ROWS][2], float *c, ptrdiff_t c_pitch,
                           bool add)
{
    VEC_UNROLL
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++) {
            float *to = c + i * c_pitch + j * VEC_LANES;
            vec_store(to, add ? vec_add(vec_load(to), sum[i][j]) : sum[i][j]);
        }
}

/* most: products in a row. ahead: floats of b beyond a step's that are asked for, or 0. offset: NULL, or where b of
 * each step lies, from which b_step then counts. */
VEC_INLINE void tile(const int rows, const int vectors, const int most, const int ahead, const float *a,
                     const ptrdiff_t a_row, ptrdiff_t a_step, const float *b, ptrdiff_t b_step, const int32_t *offset,
                     float *c, ptrdiff_t c_pitch, int depth, bool add)
{
    vec sum[VEC_TILE_ROWS][2];
    do {
        const int piece = depth < most ? depth : most;
        tile_clear(rows, vectors, sum);
        for (int k = 0; k < piece; k++) {
            const float *from = offset ? b + *offset++ : b;
            if (ahead)
                __builtin_prefetch(from + ahead);
            if (ahead && vectors == 2 && VEC_LANES >= 16)
                __builtin_prefetch(from + ahead + VEC_LANES);
            tile_step(rows, vectors, a, a_row, from, sum);
            a += a_step;
            b += b_step;
        }
        tile_store(rows, vectors, sum, c, c_pitch, add);
        add = true;
        depth -= piece;
    } while (depth > 0);
}

VEC_INLINE void tile_lines(const int rows, const int vectors, const float *a, ptrdiff_t a_row, ptrdiff_t a_line,
                           int lines, int steps, const float *b, ptrdiff_t b_step, float *c, ptrdiff_t c_pitch,
                           bool add)
{
    vec sum[VEC_TILE_ROWS][2];
    tile_clear(rows, vectors, sum);
    for (int l = 0; l < lines; l++)
        for (int k = 0; k < steps; k++, b += b_step)
            tile_step(rows, vectors, a + l * a_line + k, a_row, b, sum);
    tile_store(rows, vectors, sum, c, c_pitch, add);
}

#define DEFINE_TILE(ROWS, VECTORS)                                                                                    \
    static void tile_by_rows_##ROWS##x##VECTORS(const float *a, ptrdiff_t a_step, const float *b, ptrdiff_t b_step,   \
                                                float *c, ptrdiff_t c_pitch, int depth, bool add)                     \
    {                                                                                                                 \
        (void)a_step;                                                                                                 \
        tile(ROWS, VECTORS, CNN_TILE_SHORT, 0, a, CNN_GEMM_PITCH, 1, b, b_step, NULL, c, c_pitch, depth, add);        \
    }                                                                                                                 \
    static void tile_by_stream_##ROWS##x##VECTORS(const float *a, ptrdiff_t a_step, const float *b, ptrdiff_t b_step, \
                                                  float *c, ptrdiff_t c_pitch, int depth, bool add)                   \
    {                                                                                                                 \
        (void)a_step;                                                                                                 \
        tile(ROWS, VECTORS, CNN_TILE_SHORT, STREAM_AHEAD, a, CNN_GEMM_PITCH, 1, b, b_step, NULL, c, c_pitch, depth,   \
             add);                                                                                                    \
    }                                                                                                                 \
    static void tile_by_steps_##ROWS##x##VECTORS(const float *a, ptrdiff_t a_step, const float *b, ptrdiff_t b_step,  \
                                                 float *c, ptrdiff_t c_pitch, int depth, bool add)                    \
    {                                                                                                                 \
        tile(ROWS, VECTORS, CNN_TILE_SHORT, 0, a, 1, a_step, b, b_step, NULL, c, c_pitch, depth, add);                \
    }                                                                                                                 \
    static void tile_by_taps_##ROWS##x##VECTORS(const float *a, ptrdiff_t a_step, const float *b,                     \
                                                const int32_t *offset, float *c, ptrdiff_t c_pitch, int depth,        \
                                                bool add)                                                             \
    {                                                                                                                 \
        tile(ROWS, VECTORS, CNN_TILE_PIECE, 0, a, 1, a_step, b, 0, offset, c, c_pitch, depth, add);                   \
    }                                                                                                                 \
    static void tile_by_lines_##ROWS##x##VECTORS(const float *a, ptrdiff_t a_row, ptrdiff_t a_line, int lines,        \
                                                 int steps, const float *b, ptrdiff_t b_step, float *c,               \
                                                 ptrdiff_t c_pitch, bool add)                                         \
    {                                                                                                                 \
        tile_lines(ROWS, VECTORS, a, a_row, a_line, lines, steps, b, b_step, c, c_pitch, add);                        \
    }
#define DEFINE_TILES(ROWS) DEFINE_TILE(ROWS, 1) DEFINE_TILE(ROWS, 2)

DEFINE_TILES(1)
DEFINE_TILES(2)
DEFINE_TILES(3)
DEFINE_TILES(4)
DEFINE_TILES(5)
DEFINE_TILES(6)
#if defined(CNN_SIMD_AVX512)
DEFINE_TILES(7)
DEFINE_TILES(8)
DEFINE_TILES(9)
DEFINE_TILES(10)
DEFINE_TILES(11)
DEFINE_TILES(12)
DEFINE_TILES(13)
DEFINE_TILES(14)
#define TILE_LIST(KIND, V)                                                                                            \
    {                                                                                                                 \
        tile_##KIND##_1x##V, tile_##KIND##_2x##V, tile_##KIND##_3x##V, tile_##KIND##_4x##V, tile_##KIND##_5x##V,      \
            tile_##KIND##_6x##V, tile_##KIND##_7x##V, tile_##KIND##_8x##V, tile_##KIND##_9x##V, tile_##KIND##_10x##V, \
            tile_##KIND##_11x##V, tile_##KIND##_12x##V, tile_##KIND##_13x##V, tile_##KIND##_14x##V                    \
    }
#else
#define TILE_LIST(KIND, V)                                                                                       \
    {                                                                                                            \
        tile_##KIND##_1x##V, tile_##KIND##_2x##V, tile_##KIND##_3x##V, tile_##KIND##_4x##V, tile_##KIND##_5x##V, \
            tile_##KIND##_6x##V                                                                                  \
    }
#endif

/* ---- Transposition ---- */

static void transpose_some(const float *src, ptrdiff_t src_pitch, int rows, int depth, float *dst, int width)
{
    for (int k = 0; k < depth; k++) {
        for (int j = 0; j < rows; j++)
            dst[j] = src[j * src_pitch + k];
        for (int j = rows; j < width; j++)
            dst[j] = 0.0f;
        dst += width;
    }
}

#if defined(CNN_SIMD_AVX512) || defined(CNN_SIMD_AVX2)
/* 8 rows of 8 floats become 8 columns of dst, of which the first `kept` rows are stored, in their order. */
VEC_INLINE void transpose_8x8(const float *src, ptrdiff_t src_pitch, const int kept, float *dst, ptrdiff_t dst_pitch)
{
    __m256 row[8], pair[8];
    VEC_UNROLL
    for (int i = 0; i < 4; i++) { /* lanes: first halves of rows i and i+4; second halves */
        row[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(src + i * src_pitch)),
                                      _mm_loadu_ps(src + (i + 4) * src_pitch), 1);
        row[i + 4] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(src + i * src_pitch + 4)),
                                          _mm_loadu_ps(src + (i + 4) * src_pitch + 4), 1);
    }
    VEC_UNROLL
    for (int half = 0; half < 8; half += 4) {
        pair[half + 0] = _mm256_unpacklo_ps(row[half + 0], row[half + 1]);
        pair[half + 1] = _mm256_unpackhi_ps(row[half + 0], row[half + 1]);
        pair[half + 2] = _mm256_unpacklo_ps(row[half + 2], row[half + 3]);
        pair[half + 3] = _mm256_unpackhi_ps(row[half + 2], row[half + 3]);
        float *out = dst + half * dst_pitch;
        const int rest = kept - half;
        if (rest > 0)
            _mm256_storeu_ps(out + 0 * dst_pitch, _mm256_shuffle_ps(pair[half + 0], pair[half + 2], 0x44));
        if (rest > 1)
            _mm256_storeu_ps(out + 1 * dst_pitch, _mm256_shuffle_ps(pair[half + 0], pair[half + 2], 0xee));
        if (rest > 2)
            _mm256_storeu_ps(out + 2 * dst_pitch, _mm256_shuffle_ps(pair[half + 1], pair[half + 3], 0x44));
        if (rest > 3)
            _mm256_storeu_ps(out + 3 * dst_pitch, _mm256_shuffle_ps(pair[half + 1], pair[half + 3], 0xee));
    }
}

/* The last group of 8 pixels overlaps the one before. */
static void interleave(const float *src, ptrdiff_t src_pitch, int channels, int pixels, float *dst)
{
    for (int x = 0; x < pixels && pixels >= 8; x += 8) {
        const int at = x + 8 <= pixels ? x : pixels - 8;
        transpose_8x8(src + at, src_pitch, 8, dst + (ptrdiff_t)at * channels, channels);
    }
    if (pixels < 8)
        transpose_some(src, src_pitch, channels, pixels, dst, channels);
}

static void deinterleave(const float *src, int channels, int pixels, float *dst, ptrdiff_t dst_pitch)
{
    for (int x = 0; x < pixels; x += 8) {
        const int at = x + 8 <= pixels ? x : pixels - 8;
        transpose_8x8(src + (ptrdiff_t)at * channels, channels, channels, dst + at, dst_pitch);
    }
}

static void transpose(const float *src, ptrdiff_t src_pitch, int rows, int depth, float *dst, int width)
{
    int whole = rows == width && width % 8 == 0 ? depth / 8 * 8 : 0;
    for (int k = 0; k < whole; k += 8)
        for (int j = 0; j < width; j += 8)
            transpose_8x8(src + j * src_pitch + k, src_pitch, 8, dst + (ptrdiff_t)k * width + j, width);
    transpose_some(src + whole, src_pitch, rows, depth - whole, dst + (ptrdiff_t)whole * width, width);
}
#else
static void transpose(const float *src, ptrdiff_t src_pitch, int rows, int depth, float *dst, int width)
{
    transpose_some(src, src_pitch, rows, depth, dst, width);
}

static void interleave(const float *src, ptrdiff_t src_pitch, int channels, int pixels, float *dst)
{
    transpose_some(src, src_pitch, channels, pixels, dst, channels);
}

static void deinterleave(const float *src, int channels, int pixels, float *dst, ptrdiff_t dst_pitch)
{
    for (int c = 0; c < channels; c++)
        for (int x = 0; x < pixels; x++)
            dst[c * dst_pitch + x] = src[x * channels + c];
}
#endif

static void deal(const float *row, const int32_t *start, int groups, int width, float *dst, ptrdiff_t dst_pitch)
{
    for (int g = 0; g < groups; g++)
        for (int i = 0; i < width; i += VEC_LANES)
            vec_store(dst + g * dst_pitch + i, vec_load(row + start[g] + i));
}

VEC_INLINE void fold_of(const float *src, ptrdiff_t pitch, const int taps, int pixels, int channels, float *dst)
{
    const ptrdiff_t step = channels - pitch;
    for (int x = 0; x < pixels; x++, src += pitch, dst += channels)
        for (int c = 0; c < channels; c += VEC_LANES) {
            vec sum = vec_load(src + c);
            for (int t = 1; t < taps; t++)
                sum = vec_add(sum, vec_load(src + t * step + c));
            vec_store(dst + c, sum);
        }
}

static void fold(const float *src, ptrdiff_t pitch, int taps, int pixels, int channels, float *dst)
{
    if (taps == 3)
        fold_of(src, pitch, 3, pixels, channels, dst);
    else if (taps == 5)
        fold_of(src, pitch, 5, pixels, channels, dst);
    else
        fold_of(src, pitch, taps, pixels, channels, dst);
}

/* ---- Dot products ----
 * Many rows at a time, each a stream of memory: 25 MB of weights came at 147 GB/s by 8 rows, at 128 by 4 and at 84 by 2
 * (a Zen 5, both cores); asking for lines ahead only held them up. */

VEC_INLINE void dot_rows(const int rows, const int images, const float *w, ptrdiff_t w_pitch, const float *x,
                         ptrdiff_t x_pitch, int depth, float (*result)[CNN_DOT_IMAGES])
{
    vec sum[CNN_DOT_OUTPUTS][CNN_DOT_IMAGES];
    VEC_UNROLL
    for (int o = 0; o < rows; o++)
        for (int n = 0; n < images; n++)
            sum[o][n] = vec_zero();
    int k = 0;
    for (; k + VEC_LANES <= depth; k += VEC_LANES) {
        vec image[CNN_DOT_IMAGES];
        for (int n = 0; n < images; n++)
            image[n] = vec_load(x + n * x_pitch + k);
        VEC_UNROLL
        for (int o = 0; o < rows; o++) {
            vec weight = vec_load(w + o * w_pitch + k);
            for (int n = 0; n < images; n++)
                sum[o][n] = vec_fma(weight, image[n], sum[o][n]);
        }
    }
    for (int o = 0; o < rows; o++)
        for (int n = 0; n < images; n++) {
            float tail = 0.0f;
            for (int i = k; i < depth; i++)
                tail += w[o * w_pitch + i] * x[n * x_pitch + i];
            result[o][n] += vec_sum(sum[o][n]) + tail;
        }
}

VEC_INLINE void dot_images(const int images, const float *w, ptrdiff_t w_pitch, const float *x, ptrdiff_t x_pitch,
                           int depth, float (*sum)[CNN_DOT_IMAGES])
{
    enum { HALF = CNN_DOT_OUTPUTS / 2, MOST_SUMS = VEC_LANES == 16 ? 24 : 8 }; /* that registers hold */
    if (images * CNN_DOT_OUTPUTS <= MOST_SUMS) {
        dot_rows(CNN_DOT_OUTPUTS, images, w, w_pitch, x, x_pitch, depth, sum);
        return;
    }
    dot_rows(HALF, images, w, w_pitch, x, x_pitch, depth, sum);
    dot_rows(HALF, images, w + HALF * w_pitch, w_pitch, x, x_pitch, depth, sum + HALF);
}

static void dot(const float *w, ptrdiff_t w_pitch, const float *x, ptrdiff_t x_pitch, int images, int depth,
                float sum[CNN_DOT_OUTPUTS][CNN_DOT_IMAGES])
{
    switch (images) {
    case 1:
        dot_images(1, w, w_pitch, x, x_pitch, depth, sum);
        break;
    case 2:
        dot_images(2, w, w_pitch, x, x_pitch, depth, sum);
        break;
    case 3:
        dot_images(3, w, w_pitch, x, x_pitch, depth, sum);
        break;
    default:
        dot_images(4, w, w_pitch, x, x_pitch, depth, sum);
        break;
    }
}
