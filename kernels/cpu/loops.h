/* Inner loops of the float kernels, one table for each ISA level.
 *
 * The drivers (conv.c, wgrad.c, bn.c, ...) know shapes and tasks; these loops know vectors. All of them work on f32:
 * drivers convert f16 and bf16 on the way in and out with to_f32 and from_f32, in blocks that stay in cache. The same
 * sources (loops_gemm.h, loops_winograd.h, loops_rows.h, ...) are compiled for every level. */
#ifndef CNN_CPU_LOOPS_H
#define CNN_CPU_LOOPS_H

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/depthwise.h"

enum {
    CNN_NO_INDEX = 255, /* of a pooled maximum: no gradient passes */
    CNN_TILE_MAX_ROWS = 14,
    CNN_TILE_PIECE = 64,  /* products that a tile sums in a row: sums of such sums err less than one long one */
    CNN_TILE_SHORT = 32,  /* by rows and by steps, which Winograd's transforms follow: they make more of an error */
    CNN_GEMM_DEPTH = 256, /* most steps of one tile call: B's panel of that depth stays in cache */
    CNN_GEMM_PITCH = 272, /* floats between rows of packed A: > depth, and rows do not share cache sets */
    CNN_DOT_OUTPUTS = 8,  /* of one cnn_dot_fn call */
    CNN_DOT_IMAGES = 4
};

/* Winograd's F(m x m, r x r): a tile of n x n inputs, n = m + r - 1, gives m x m outputs by n x n products. */
enum { CNN_WINO_FORMS = 4, CNN_WINO_MAX_POINTS = 9, CNN_WINO_MAX_TAPS = 5 };

/* What ends an output transform. */
typedef struct cnn_wino_end {
    const float *bias; /* [channels], or NULL */
    bool relu;
} cnn_wino_end;

/* One form: its transforms of all `channels` of one tile. pixel: n x n or m x m of them, line by line, each `channels`
 * of a float dtype. Points lie point_pitch floats apart, line by line, the taps of a filter tap_pitch; both have room
 * for whole vectors, whose lanes beyond `channels` may become anything. */
typedef struct cnn_wino_form {
    int taps, outputs, points;
    void (*input)(cnn_dtype dtype, const void *const *pixel, int channels, float *dst, ptrdiff_t point_pitch);
    /* pixels that are NULL are left out */
    void (*output)(const float *src, ptrdiff_t point_pitch, int channels, cnn_dtype dtype, void *const *pixel,
                   const cnn_wino_end *end);
    void (*filter)(const float *src, ptrdiff_t tap_pitch, int channels, float *dst, ptrdiff_t point_pitch);
    void (*output_grad)(cnn_dtype dtype, const void *const *pixel, int channels, float *dst, ptrdiff_t point_pitch);
    void (*filter_grad)(const float *src, ptrdiff_t point_pitch, int channels, float *dst, ptrdiff_t tap_pitch);
} cnn_wino_form;

/* One tile of a matrix product in registers: c[i][j] (+)= sum_k a(i,k) * b(k,j), k < depth.
 *   by rows:  a(i,k) = a[i*CNN_GEMM_PITCH + k*a_step], a_step = 1
 *   by steps: a(i,k) = a[i + k*a_step]
 * b(k,j) = b[k*b_step + j], c row i at c + i*c_pitch. j runs over one or two whole vectors. `add` adds the sum to what
 * c holds.
 */
typedef void (*cnn_tile_fn)(const float *a, ptrdiff_t a_step, const float *b, ptrdiff_t b_step, float *c,
                            ptrdiff_t c_pitch, int depth, bool add);

/* As by steps, with b(k,j) = b[offset[k] + j]. */
typedef void (*cnn_taps_fn)(const float *a, ptrdiff_t a_step, const float *b, const int32_t *offset, float *c,
                            ptrdiff_t c_pitch, int depth, bool add);

/* a(i,k) = a[i*a_row + k/steps*a_line + k%steps] for k < lines*steps, all summed in a row; b(k,j) = b[k*b_step + j]. */
typedef void (*cnn_lines_fn)(const float *a, ptrdiff_t a_row, ptrdiff_t a_line, int lines, int steps, const float *b,
                             ptrdiff_t b_step, float *c, ptrdiff_t c_pitch, bool add);

/* Two neighbouring output lines of a convolution of stride 1 and their windows of 2x2, for one vector of outputs. */
typedef struct cnn_pool_lines {
    const float *x;        /* the first term of the first pixel of the upper line */
    ptrdiff_t pixel, line; /* floats from a pixel to the next, from a line of x to the next */
    int rows, terms;       /* of the filter; terms of a row, neighbours in x: CNN_TILE_PIECE at most */
    const float *weights;  /* [rows][terms][width] */
    ptrdiff_t width;
    const float *bias; /* or NULL */
    bool relu;         /* cuts maxima at 0; CNN_NO_INDEX stands where they are not above it */
    float *y;          /* the first maximum of each window, NaN wins, ... */
    uint8_t *index;    /* ... and its number */
    ptrdiff_t pitch;   /* elements of y and index from a window to the next */
} cnn_pool_lines;
typedef void (*cnn_pool_lines_fn)(const cnn_pool_lines *job);

/* dst[k*width + j] = src[j*src_pitch + k] for j < rows, 0 for rows <= j < width. */
typedef void (*cnn_transpose_fn)(const float *src, ptrdiff_t src_pitch, int rows, int depth, float *dst, int width);

/* sum[o][n] += sum_k w[o*w_pitch + k] * x[n*x_pitch + k] for CNN_DOT_OUTPUTS rows of w and `images` rows of x. */
typedef void (*cnn_dot_fn)(const float *w, ptrdiff_t w_pitch, const float *x, ptrdiff_t x_pitch, int images, int depth,
                           float sum[CNN_DOT_OUTPUTS][CNN_DOT_IMAGES]);

/* Coefficients of one Adam step, as cnn/ops.h has them. */
typedef struct cnn_adam_step {
    float divisor, l2;
    float keep1, take1, keep2, take2; /* beta1, 1 - beta1, beta2, 1 - beta2 */
    float shrink, rate, root, eps;
} cnn_adam_step;

typedef struct cnn_cpu_loops {
    int lanes;
    int tile_rows; /* most rows of a tile */

    /* [vectors - 1][rows - 1] */
    cnn_tile_fn tile_by_rows[2][CNN_TILE_MAX_ROWS];
    cnn_tile_fn tile_by_stream[2][CNN_TILE_MAX_ROWS]; /* by rows, for a b that is read once: asks for what follows */
    cnn_tile_fn tile_by_steps[2][CNN_TILE_MAX_ROWS];
    cnn_taps_fn tile_by_taps[2][CNN_TILE_MAX_ROWS];
    cnn_lines_fn tile_by_lines[2][CNN_TILE_MAX_ROWS];
    cnn_pool_lines_fn pool_lines[CNN_TILE_MAX_ROWS / 2]; /* [windows - 1], up to tile_rows / 2 */
    cnn_transpose_fn transpose;
    cnn_dot_fn dot;

    /* Pixels of 1 to 8 channels out of and into planes: interleave dst[x*channels + c] = src[c*src_pitch + x], where
     * planes up to the eighth are read and 8 - channels floats behind the last pixel written, and deinterleave
     * dst[c*dst_pitch + x] = src[x*channels + c], of 8 pixels or more, where as many floats behind the last are read.
     */
    void (*interleave)(const float *src, ptrdiff_t src_pitch, int channels, int pixels, float *dst);
    void (*deinterleave)(const float *src, int channels, int pixels, float *dst, ptrdiff_t dst_pitch);

    /* dst[g*dst_pitch + i] = row[start[g] + i], i < width (a multiple of lanes), for `groups` pieces of a row. */
    void (*deal)(const float *row, const int32_t *start, int groups, int width, float *dst, ptrdiff_t dst_pitch);

    /* Gradients of what was pooled by windows of `window` pixels: to[i] = dy[i] where index[i] names a pixel of the
     * window, else 0, and offset[i] = base[i] + row*line + column*channels of that pixel. to may be dy. */
    void (*pooled_offsets)(const float *dy, const uint8_t *index, int64_t count, int window, int line, int channels,
                           const int32_t *base, float *to, int32_t *offset);
    /* sums[r*width + j] += the sum over i < count of dy[i*pitch] * x[offset[i*pitch] + r*line + j], for `rows` rows of
     * `width` floats, whole vectors. */
    void (*pooled_sums)(const float *dy, const int32_t *offset, ptrdiff_t pitch, int count, const float *x,
                        ptrdiff_t line, int rows, int width, float *sums);
    /* One window of `taps` pixels: x[tap[t] + r*line + j] += the sum over k with index[k] = t of dy[k] *
     * weights[(k*rows + r)*width + j], for `rows` rows of `width` floats, whole vectors. */
    void (*pooled_spread)(const float *dy, const uint8_t *index, int count, const float *weights, int rows, int width,
                          const int32_t *tap, int taps, ptrdiff_t line, float *x);
    /* The same of windows of 2x2, 3 or 5 rows and at most 3 vectors; NULL where registers do not hold a window. Weights
     * are [k][rows][left] vectors for pixels on the left, then [rows][right] vectors for those on the right, whose
     * terms begin one pixel further on. */
    void (*pooled_spread_2x2)(const float *dy, const uint8_t *index, int count, const float *weights, int rows,
                              int left, int right, ptrdiff_t line, float *x);

    /* dst[x*channels + c] = the sum over t < taps of src[(x - t)*pitch + t*channels + c], in that order, for `pixels`
     * pixels. Whole vectors are read and written. */
    void (*fold)(const float *src, ptrdiff_t pitch, int taps, int pixels, int channels, float *dst);

    /* Depthwise convolutions (loops_depthwise.h): y = ..., as cnn_depthwise_taps has it; sums of the weights' gradient,
     * sum[weight[t] + c] += sum over j of x[j*x_step + tap[t] + c] * dy[j*y_step + c]; and y of int8. */
    void (*depthwise)(const cnn_depthwise_taps *taps, const float *x, const float *w, float *y);
    void (*depthwise_grad)(const cnn_depthwise_taps *taps, const float *x, const float *dy, float *sum);
    void (*depthwise_i8)(const cnn_depthwise_taps *taps, const int8_t *x, const int16_t *w, int32_t *y);

    const cnn_wino_form *wino[CNN_WINO_FORMS]; /* loops_winograd.h; the first wino_forms are exact enough here */
    int wino_forms;

    /* `count` elements of a float dtype to and from f32; f32 is copied. */
    void (*to_f32)(cnn_dtype dtype, const void *src, float *dst, int64_t count);
    void (*from_f32)(cnn_dtype dtype, const float *src, void *dst, int64_t count);

    /* dst[i*dst_pitch + j] = sums[i*sums_pitch + j] + bias[j], with relu cut at 0, rounded: j < columns. bias may be
     * NULL. */
    void (*store_rows)(cnn_dtype dtype, const float *sums, ptrdiff_t sums_pitch, int rows, int columns,
                       const float *bias, bool relu, void *dst, ptrdiff_t dst_pitch);

    /* Element-wise over `count` floats; dst may be a source. */
    void (*relu)(const float *x, float *y, int64_t count);
    void (*relu_grad)(const float *y, const float *dy, float *dx, int64_t count);
    void (*clip)(const float *x, float *y, int64_t count, float hi);
    void (*clip_grad)(const float *y, const float *dy, float *dx, int64_t count, float hi);
    void (*leaky_relu)(const float *x, float *y, int64_t count, float slope);
    void (*leaky_relu_grad)(const float *y, const float *dy, float *dx, int64_t count, float slope);
    /* LEAKY_RELU of int8, as cnn/ops.h has it: v = x*s_in, y = nearest(clamp((v > 0 ? v : v*slope)/s_out, lo, hi)) */
    void (*leaky_relu_i8)(const int8_t *x, int8_t *y, int64_t count, float s_in, float slope, float s_out, float lo,
                          float hi);
    /* y[i] = cnn_dropout_keeps(key, i, rate) ? x[i]*scale : 0 */
    void (*dropout)(const float *x, float *y, int64_t count, uint64_t key, float rate, float scale);
    void (*add)(const float *a, const float *b, float *sum, int64_t count);
    /* ADD of int8, as cnn/ops.h has it: y = nearest(clamp((a*scale[0] + b*scale[1])/s_out, lo, hi)) */
    void (*add_i8)(const int8_t *a, const int8_t *b, int8_t *y, int64_t count, const float scale[2], float s_out,
                   float lo, float hi);
    /* y = x/divisor */
    void (*divide)(const float *x, float divisor, float *y, int64_t count);
    /* x = mask ? x : 0 */
    void (*mask)(const uint8_t *mask, float *x, int64_t count);

    /* Weights on a grid, as ops GRID and GRID_GRAD have them; the second returns its share of the step's gradient. */
    void (*grid)(const float *w, float *point, int64_t count, float step, float levels);
    double (*grid_grad)(const float *w, float *gradient, int64_t count, float step, float levels);

    /* Over pixels x channels, rows dense. Sums are added to what is there. */
    void (*column_sums)(const float *x, int64_t pixels, int channels, double *sum);
    /* of x - shift */
    void (*column_moments)(const float *x, const float *shift, int64_t pixels, int channels, double *sum,
                           double *sum_squares);
    /* sum += dy, dot += dy * (x - mean)*invstd */
    void (*bn_grad_sums)(const float *x, const float *dy, const float *mean, const float *invstd, int64_t pixels,
                         int channels, double *sum, double *dot);
    /* y = (x - mean)*invstd*gamma + beta */
    void (*bn_apply)(const float *x, const float *mean, const float *invstd, const float *gamma, const float *beta,
                     int64_t pixels, int channels, float *y);
    /* dx = scale*(dy - mean_dy - (x - mean)*invstd*mean_dot) */
    void (*bn_grad_apply)(const float *x, const float *dy, const float *mean, const float *invstd, const float *scale,
                          const float *mean_dy, const float *mean_dot, int64_t pixels, int channels, float *dx);

    /* Batch norm, ReLU and max-pooling in one, of `windows` windows, the next one `step` floats on: tap t of a window
     * is x[tap[t] + c]. y and index, [windows][channels], get the first maximum of the normalized taps, cut at 0 with
     * relu, and its number, CNN_NO_INDEX where relu cut it off. NaN wins. index: NULL for none. */
    void (*bn_pool)(const float *x, ptrdiff_t step, const ptrdiff_t *tap, int taps, int windows, const float *mean,
                    const float *invstd, const float *gamma, const float *beta, int channels, bool relu, float *y,
                    uint8_t *index);
    /* As bn_grad_sums of such windows, where dy reaches the tap that index names, or none. some: room for 2*channels
     * floats. */
    void (*bn_pool_grad_sums)(const float *x, ptrdiff_t step, const ptrdiff_t *tap, int taps, int windows,
                              const float *dy, const uint8_t *index, const float *mean, const float *invstd,
                              int channels, float *some, double *sum, double *dot);
    /* As bn_grad_apply of such windows, where dy reaches the tap that index names and 0 the others; dx lies as x. */
    void (*bn_pool_grad_apply)(const float *x, ptrdiff_t step, const ptrdiff_t *tap, int taps, int windows,
                               const float *dy, const uint8_t *index, const float *mean, const float *invstd,
                               const float *scale, const float *mean_dy, const float *mean_dot, int channels,
                               float *dx);

    /* Max-pooling of `windows` neighbouring windows: y and index, [windows][channels], get the first maximum of kernel
     * x kernel pixels (NaN wins) and its number; with relu maxima are cut at 0, and CNN_NO_INDEX stands where they are
     * not above it. line: floats between lines of x. Whole vectors are read and written. */
    void (*pool_windows)(const float *x, ptrdiff_t line, int kernel, int stride, int windows, int channels, bool relu,
                         float *y, uint8_t *index);
    /* The same of windows of 2x2 that touch, where the lines of x are planes [channels][pitch], fewer than 8, of whole
     * vectors behind which two more can be read. bias: of the channels, added to maxima, or NULL. y and number, which
     * to_index makes an index of, are pixels with 8 - channels floats behind them. scratch: 16 planes. */
    void (*pool_planes)(const float *top, const float *bottom, ptrdiff_t pitch, int channels, int windows,
                        const float *bias, bool relu, float *scratch, float *y, float *number);
    void (*to_index)(const float *number, int64_t count, uint8_t *index);
    /* A line of dx under windows that touch: pixel s of window q gets dy where index is position + s, else 0. Whole
     * vectors are read and written. */
    void (*pool_grad_line)(const float *dy, const uint8_t *index, int position, int kernel, int windows, int channels,
                           float *dx);
    /* One more element of each window: where value beats max (first maximum, NaN wins), max and first take it. */
    void (*pool_step)(const float *value, int position, float *max, int32_t *first, int count);
    /* sum += dy where first == position */
    void (*pool_grad_step)(const float *dy, const uint8_t *first, int position, float *sum, int count);

    double (*sum_squares)(const float *g, int64_t count);
    /* g' = g/divisor + decay*w; v = momentum*v + g'; w = w - rate*v, in sgd_nesterov w = w - rate*(g' + momentum*v) */
    void (*sgd)(const float *g, float *w, float *v, int64_t count, float divisor, float decay, float momentum,
                float rate);
    void (*sgd_nesterov)(const float *g, float *w, float *v, int64_t count, float divisor, float decay, float momentum,
                         float rate);
    /* g' = g/divisor + l2*w; m = keep1*m + take1*g'; v = keep2*v + take2*g'*g';
     * w = shrink*w - rate*m/(sqrt(v)/root + eps) */
    void (*adam)(const float *g, float *w, float *m, float *v, int64_t count, const cnn_adam_step *step);
    /* average = average + share*(value - average) */
    void (*approach)(const float *value, float *average, int64_t count, float share);
} cnn_cpu_loops;

/* The table for a level. */
const cnn_cpu_loops *cnn_cpu_loops_get(cnn_cpu_isa isa);

extern const cnn_cpu_loops cnn_cpu_loops_portable;
#if defined(__x86_64__)
extern const cnn_cpu_loops cnn_cpu_loops_avx2;
extern const cnn_cpu_loops cnn_cpu_loops_avx512;
#endif

/* "avx512": the level that the float kernels of a level are compiled for. */
const char *cnn_cpu_loops_isa(cnn_cpu_isa isa);

/* Vectors that hold `count` floats. */
static inline int64_t cnn_cpu_vectors(int64_t count, int32_t lanes)
{
    return (count + lanes - 1) / lanes;
}

/* Sets base.name to "cnn_cpu_<op>_<dtype>_<isa>". */
void cnn_cpu_kernel_name_float(cnn_cpu_kernel *kernel, const char *op, cnn_dtype dtype);

#endif
