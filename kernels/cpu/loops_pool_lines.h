/* Two lines of a convolution of stride 1, pooled by 2x2 in registers. Included once by each loops_<isa>.c, after
 * loops_pool.h.
 *
 * A line of x is line l of the filter for the upper outputs and line l - 1 for the lower ones: each of its pixels is
 * read once for both. */

typedef struct pool_lines_sums {
    vec of[2][VEC_TILE_ROWS]; /* of the pixels of the upper and the lower line */
} pool_lines_sums;

/* Adds the products of a line of x to the sums of lines first .. last-1. */
VEC_INLINE void pool_lines_line(const int windows, const cnn_pool_lines *job, int l, const int first, const int last,
                                pool_lines_sums *sum)
{
    const float *x = job->x + l * job->line;
    const float *w[2];
    for (int j = first; j < last; j++)
        w[j] = job->weights + (ptrdiff_t)(l - j) * job->terms * job->width;
    for (int t = 0; t < job->terms; t++, x++) {
        vec weight[2];
        VEC_UNROLL
        for (int j = first; j < last; j++) {
            weight[j] = vec_load(w[j]);
            w[j] += job->width;
        }
        VEC_UNROLL
        for (int i = 0; i < 2 * windows; i++) {
            const vec value = vec_set(x[i * job->pixel]);
            VEC_UNROLL
            for (int j = first; j < last; j++) {
                sum->of[j][i] = vec_fma(value, weight[j], sum->of[j][i]);
                VEC_KEEP(sum->of[j][i]);
            }
        }
    }
}

/* total: sums of earlier lines. */
VEC_INLINE void pool_lines_store(const int windows, const cnn_pool_lines *job, const pool_lines_sums *sum,
                                 const pool_lines_sums *total)
{
    const vec bias = job->bias ? vec_load(job->bias) : vec_zero();
    VEC_UNROLL
    for (int i = 0; i < windows; i++) {
        vec max = vec_zero();
        vec_at at = vec_at_zero();
        VEC_UNROLL
        for (int t = 0; t < 4; t++) {
            const int line = t / 2, pixel = 2 * i + t % 2;
            const vec x = vec_add(vec_add(total->of[line][pixel], sum->of[line][pixel]), bias);
            if (t == 0)
                max = x;
            else
                vec_take_greater(&max, &at, x, t);
        }
        vec_store(job->y + i * job->pitch, job->relu ? vec_relu(max) : max);
        vec_store_at(job->index + i * job->pitch, job->relu ? vec_where_positive(at, max, CNN_NO_INDEX) : at);
    }
}

VEC_INLINE void pool_lines_clear(const int windows, pool_lines_sums *sum)
{
    VEC_UNROLL
    for (int i = 0; i < 2 * windows; i++)
        sum->of[0][i] = sum->of[1][i] = vec_zero();
}

VEC_INLINE void pool_lines_of(const int windows, const cnn_pool_lines *job)
{
    pool_lines_sums sum, total;
    pool_lines_clear(windows, &sum);
    pool_lines_clear(windows, &total);
    for (int l = 0, products = 0; l <= job->rows; l++, products += job->terms) {
        if (products + job->terms > CNN_TILE_PIECE) {
            VEC_UNROLL
            for (int i = 0; i < 2 * windows; i++) {
                total.of[0][i] = vec_add(total.of[0][i], sum.of[0][i]);
                total.of[1][i] = vec_add(total.of[1][i], sum.of[1][i]);
            }
            pool_lines_clear(windows, &sum);
            products = 0;
        }
        if (l == 0)
            pool_lines_line(windows, job, l, 0, 1, &sum);
        else if (l == job->rows)
            pool_lines_line(windows, job, l, 1, 2, &sum);
        else
            pool_lines_line(windows, job, l, 0, 2, &sum);
    }
    pool_lines_store(windows, job, &sum, &total);
}

#define DEFINE_POOL_LINES(WINDOWS)                              \
    static void pool_lines_##WINDOWS(const cnn_pool_lines *job) \
    {                                                           \
        pool_lines_of(WINDOWS, job);                            \
    }
DEFINE_POOL_LINES(1)
DEFINE_POOL_LINES(2)
DEFINE_POOL_LINES(3)
#if defined(CNN_SIMD_AVX512)
DEFINE_POOL_LINES(4)
DEFINE_POOL_LINES(5)
DEFINE_POOL_LINES(6)
DEFINE_POOL_LINES(7)
#define POOL_LINES_LIST                                                                                  \
    {                                                                                                    \
        pool_lines_1, pool_lines_2, pool_lines_3, pool_lines_4, pool_lines_5, pool_lines_6, pool_lines_7 \
    }
#else
#define POOL_LINES_LIST                          \
    {                                            \
        pool_lines_1, pool_lines_2, pool_lines_3 \
    }
#endif
