/* Lines of INT8 convolutions of few channels with AVX-512 VNNI. See few_i8.h. */
#if defined(__x86_64__)

#include "kernels/cpu/few_i8.h"
#include "kernels/cpu/gemm_i8_avx512.h"

#define VNNI __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))

enum { PAIR = 2, EIGHT = 8, MOST_LINES = 6, MOST_DOWN = 3, EVEN_LANES = 0x5555, ODD_LANES = 0xAAAA };

/* Bytes step * lane + 0..3 of 64: first the words that hold a quarter's, then the bytes of these; or byte 0 as the last
 * of 4. */
typedef struct shuffle {
    __m512i words, bytes, last;
} shuffle;

VNNI static shuffle shuffle_of(int32_t step)
{
    enum { WORDS = 4 };
    int32_t words[CNN_I8_FEW_LANES];
    uint8_t bytes[CNN_I8_FEW_LANES * CNN_I8_FEW_GROUP], last[sizeof bytes];
    for (int lane = 0; lane < CNN_I8_FEW_LANES; lane++) {
        words[lane] = lane / WORDS * step + lane % WORDS;
        for (int i = 0; i < CNN_I8_FEW_GROUP; i++) {
            bytes[lane * CNN_I8_FEW_GROUP + i] = (uint8_t)(lane % WORDS * step + i);
            last[lane * CNN_I8_FEW_GROUP + i] = (uint8_t)(lane % WORDS * step);
        }
    }
    return (shuffle){_mm512_loadu_si512(words), _mm512_loadu_si512(bytes), _mm512_loadu_si512(last)};
}

/* What the filter's lines see of 16 pixels: the groups of each, and of bytes left over those of a line and the three
 * above it. */
typedef struct seen {
    __m512i across[MOST_LINES][CNN_I8_FEW_GROUPS], down[MOST_DOWN];
} seen;

/* As in cnn_i8_few; pool: lines of outputs that become one. */
typedef struct form {
    int rows, groups, downs, pool;
} form;

VNNI CNN_INLINE __m512i words_of(const uint8_t *x, const shuffle *order)
{
    return _mm512_permutexvar_epi32(order->words, _mm512_loadu_si512(x));
}

VNNI CNN_INLINE __m512i take(const uint8_t *x, const shuffle *order)
{
    return _mm512_shuffle_epi8(words_of(x, order), order->bytes);
}

/* x: the first line's byte that is left over. */
VNNI CNN_INLINE void see_down(const uint8_t *x, size_t line_bytes, const shuffle *order, form f, __m512i *down)
{
    enum { BYTE_BITS = 8 };
    const __mmask64 last = 0x8888888888888888; /* bytes of words */
    const int first = f.rows - f.downs;
    __m512i four = _mm512_setzero_si512();
    CNN_UNROLL
    for (int l = 0; l < f.rows + f.pool - 1; l++) {
        four = _mm512_mask_shuffle_epi8(_mm512_srli_epi32(four, BYTE_BITS), last,
                                        words_of(x + (size_t)l * line_bytes, order), order->last);
        if (l >= first)
            down[l - first] = four;
    }
}

VNNI CNN_INLINE void see(const cnn_i8_few *a, const uint8_t *from, const shuffle *order, form f, seen *x)
{
    CNN_UNROLL
    for (int l = 0; l < f.rows + f.pool - 1; l++)
        CNN_UNROLL
    for (int g = 0; g < f.groups; g++)
        x->across[l][g] = take(from + (size_t)l * a->line_bytes + (size_t)g * CNN_I8_FEW_GROUP, order);
    if (f.downs)
        see_down(from + (size_t)f.groups * CNN_I8_FEW_GROUP, a->line_bytes, order, f, x->down);
}

/* Adds a group of an output to its sums of each line. */
VNNI CNN_INLINE void add_group(__m512i *sum, const __m512i *x, int pitch, const int8_t *weights, int pool)
{
    const __m512i weight = _mm512_set1_epi32(cnn_i8_load_group((const uint8_t *)weights));
    CNN_UNROLL
    for (int p = 0; p < pool; p++)
        sum[p] = _mm512_dpbusd_epi32(sum[p], x[p * pitch], weight);
}

/* The sums of one output, of two lines the larger ones. */
VNNI CNN_INLINE __m512i sums_of(const seen *x, const int8_t *weights, int32_t start, form f)
{
    __m512i sum[2];
    CNN_UNROLL
    for (int p = 0; p < f.pool; p++)
        sum[p] = _mm512_set1_epi32(start);
    CNN_UNROLL
    for (int r = 0; r < f.rows; r++)
        CNN_UNROLL
    for (int g = 0; g < f.groups; g++, weights += CNN_I8_FEW_GROUP)
        add_group(sum, &x->across[r][g], CNN_I8_FEW_GROUPS, weights, f.pool);
    CNN_UNROLL
    for (int d = 0; d < f.downs; d++, weights += CNN_I8_FEW_GROUP)
        add_group(sum, &x->down[d], 1, weights, f.pool);
    return f.pool == 1 ? sum[0] : _mm512_max_epi32(sum[0], sum[1]);
}

/* The larger of each two pixels: of a in even lanes, of b in odd ones. */
VNNI CNN_INLINE __m512i largest_of_pairs(__m512i a, __m512i b)
{
    const __m512i first = _mm512_mask_shuffle_epi32(a, ODD_LANES, b, _MM_PERM_CDAB);
    const __m512i second = _mm512_mask_shuffle_epi32(b, EVEN_LANES, a, _MM_PERM_CDAB);
    return _mm512_max_epi32(first, second);
}

VNNI CNN_INLINE __m128i requantize(const cnn_i8_few *a, __m512i sum, __m512 mult)
{
    __m512 y = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), mult);
    y = _mm512_min_ps(_mm512_max_ps(y, _mm512_set1_ps(a->lo)), _mm512_set1_ps(a->hi));
    return _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(y)); /* rounds ties to even */
}

/* Stores both bytes of each pair, or the first one, for up to 8 outputs of the line. */
VNNI CNN_INLINE void store(__m128i pairs, bool both, int8_t *dst, size_t stride, int32_t count)
{
    int8_t all[EIGHT * PAIR];
    if (count >= EIGHT && both) {
        CNN_UNROLL
        for (int i = 0; i < EIGHT; i++) {
            const uint16_t pair = (uint16_t)_mm_cvtsi128_si32(pairs);
            memcpy(dst + (size_t)i * stride, &pair, PAIR);
            pairs = _mm_srli_si128(pairs, PAIR);
        }
        return;
    }
    _mm_storeu_si128((__m128i *)all, pairs);
    if (both)
        for (int32_t i = 0; i < count && i < EIGHT; i++)
            memcpy(dst + (size_t)i * stride, all + i * PAIR, PAIR);
    else
        for (int32_t i = 0; i < count && i < EIGHT; i++)
            dst[(size_t)i * stride] = all[i * PAIR];
}

/* Outputs k and, where there is one, k + 1 of 16 pixels, by turns: of the first 8 outputs of the line, of the last 8,
 * which pooling leaves out. */
typedef struct pairs {
    __m128i first, last;
} pairs;

VNNI CNN_INLINE pairs two_outputs(const cnn_i8_few *a, const seen *x, int32_t k, form f)
{
    const int32_t next = k + 1 < a->outputs ? k + 1 : k;
    const size_t filter = (size_t)(f.rows * f.groups + f.downs) * CNN_I8_FEW_GROUP;
    const __m512i first = sums_of(x, a->weights + (size_t)k * filter, a->start[k], f);
    const __m512i second = sums_of(x, a->weights + (size_t)next * filter, a->start[next], f);
    if (f.pool == 2) {
        const __m512 mult = _mm512_mask_mov_ps(_mm512_set1_ps(a->mult[k]), ODD_LANES, _mm512_set1_ps(a->mult[next]));
        return (pairs){.first = requantize(a, largest_of_pairs(first, second), mult)};
    }
    const __m128i low = requantize(a, first, _mm512_set1_ps(a->mult[k]));
    const __m128i high = requantize(a, second, _mm512_set1_ps(a->mult[next]));
    return (pairs){_mm_unpacklo_epi8(low, high), _mm_unpackhi_epi8(low, high)};
}

/* Stores EIGHT outputs of up to 8 pixels. */
VNNI CNN_INLINE void store_eight(__m128i a, __m128i b, __m128i c, __m128i d, int8_t *dst, size_t stride, int32_t count)
{
    const __m128i ab = _mm_unpacklo_epi16(a, b), cd = _mm_unpacklo_epi16(c, d);
    const __m128i ab4 = _mm_unpackhi_epi16(a, b), cd4 = _mm_unpackhi_epi16(c, d); /* from pixel 4 on */
    const __m128i two[] = {_mm_unpacklo_epi32(ab, cd), _mm_unpackhi_epi32(ab, cd), _mm_unpacklo_epi32(ab4, cd4),
                           _mm_unpackhi_epi32(ab4, cd4)};
    CNN_UNROLL
    for (int i = 0; i < EIGHT; i++)
        if (i < count)
            _mm_storel_epi64((__m128i *)(void *)(dst + (size_t)i * stride),
                             i % 2 ? _mm_unpackhi_epi64(two[i / 2], two[i / 2]) : two[i / 2]);
}

/* All outputs of 16 pixels; count: outputs of the line from dst on. */
VNNI CNN_INLINE void sixteen_pixels(const cnn_i8_few *a, const seen *x, int8_t *dst, int32_t count, form f)
{
    int32_t k = 0;
    for (; k + EIGHT <= a->outputs; k += EIGHT) {
        pairs some[EIGHT / PAIR];
        for (int i = 0; i < EIGHT / PAIR; i++)
            some[i] = two_outputs(a, x, k + i * PAIR, f);
        store_eight(some[0].first, some[1].first, some[2].first, some[3].first, dst + k, a->dst_stride, count);
        if (f.pool == 1)
            store_eight(some[0].last, some[1].last, some[2].last, some[3].last, dst + EIGHT * a->dst_stride + k,
                        a->dst_stride, count - EIGHT);
    }
    for (; k < a->outputs; k += PAIR) {
        const pairs two = two_outputs(a, x, k, f);
        store(two.first, k + 1 < a->outputs, dst + k, a->dst_stride, count);
        if (f.pool == 1)
            store(two.last, k + 1 < a->outputs, dst + EIGHT * a->dst_stride + k, a->dst_stride, count - EIGHT);
    }
}

VNNI CNN_INLINE void run(const cnn_i8_few *a, form f)
{
    const shuffle order = shuffle_of(a->step);
    seen x;
    for (int32_t q = 0; q < a->pixels; q += CNN_I8_FEW_LANES) {
        see(a, a->x + (size_t)q * (size_t)a->step, &order, f, &x);
        sixteen_pixels(a, &x, a->dst + (size_t)(q / f.pool) * a->dst_stride, (a->pixels - q) / f.pool, f);
    }
}

VNNI CNN_INLINE void run_pooled(const cnn_i8_few *a, int rows, int groups, int downs)
{
    if (a->pool == 2)
        run(a, (form){rows, groups, downs, 2});
    else
        run(a, (form){rows, groups, downs, 1});
}

VNNI void cnn_cpu_few_i8_avx512vnni(const cnn_i8_few *a)
{
    if (a->rows == 5)
        run_pooled(a, 5, 1, 2);
    else if (a->groups == 1)
        run_pooled(a, 3, 1, 0);
    else if (a->groups == 3)
        run_pooled(a, 3, 3, 0);
    else if (a->downs)
        run_pooled(a, 3, 2, 1);
    else
        run_pooled(a, 3, 2, 0);
}

#else
typedef int cnn_cpu_few_i8_avx512vnni_not_here; /* ISO C wants a declaration */
#endif
