/* The transforms of Winograd's minimal filtering F(4x4, 5x5). Included by each loops_<isa>.c before loops_rows.h.
 *
 *   Y = A' [ (G g G') * (B' d B) ] A      d 8x8 inputs, g 5x5 filter, Y 4x4 outputs, * element by element
 *
 * (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016), with the points 0, 1, -1, 2, -2, 1/2,
 * -1/2 and infinity. Row p of A' and of G hold powers of point p; G carries the factors 1, -2/9, 1/90, 32/45. Each
 * function transforms rows, then columns, of one vector of channels at a time; `channels` are whole vectors. */

enum { WINO_POINTS = CNN_WINO_POINTS, WINO_OUTPUTS = CNN_WINO_OUTPUTS, WINO_TAPS = CNN_WINO_TAPS };

/* d = B' d: 8 inputs to 8 points. */
VEC_INLINE void wino_input_line(vec d[WINO_POINTS])
{
    vec even = vec_fma(vec_set(-4.25f), d[4], vec_add(d[2], d[6]));
    vec odd = vec_fma(vec_set(-4.25f), d[3], vec_add(d[1], d[5]));
    vec zero = vec_fma(vec_set(5.25f), vec_sub(d[4], d[2]), vec_sub(d[0], d[6]));
    vec infinity = vec_fma(vec_set(5.25f), vec_sub(d[3], d[5]), vec_sub(d[7], d[1]));
    vec even_2 = vec_fma(vec_set(0.25f), d[2], vec_fma(vec_set(-1.25f), d[4], d[6]));
    vec odd_2 = vec_fma(vec_set(0.5f), d[1], vec_fma(vec_set(-2.5f), d[3], vec_add(d[5], d[5])));
    vec even_half = vec_fma(vec_set(4.0f), d[2], vec_fma(vec_set(-5.0f), d[4], d[6]));
    vec odd_half = vec_fma(vec_set(0.5f), d[5], vec_fma(vec_set(-2.5f), d[3], vec_add(d[1], d[1])));
    d[0] = zero;
    d[1] = vec_add(even, odd);
    d[2] = vec_sub(even, odd);
    d[3] = vec_add(even_2, odd_2);
    d[4] = vec_sub(even_2, odd_2);
    d[5] = vec_add(even_half, odd_half);
    d[6] = vec_sub(even_half, odd_half);
    d[7] = infinity;
}

/* y = A' m: 8 points to 4 outputs. */
VEC_INLINE void wino_output_line(const vec m[WINO_POINTS], vec y[WINO_OUTPUTS])
{
    vec sum_1 = vec_add(m[1], m[2]), difference_1 = vec_sub(m[1], m[2]);
    vec sum_2 = vec_add(m[3], m[4]), difference_2 = vec_sub(m[3], m[4]);
    vec sum_half = vec_add(m[5], m[6]), difference_half = vec_sub(m[5], m[6]);
    y[0] = vec_add(vec_add(m[0], sum_1), vec_add(sum_2, sum_half));
    y[1] = vec_fma(vec_set(0.5f), difference_half, vec_fma(vec_set(2.0f), difference_2, difference_1));
    y[2] = vec_fma(vec_set(0.25f), sum_half, vec_fma(vec_set(4.0f), sum_2, sum_1));
    y[3] = vec_add(m[7], vec_fma(vec_set(0.125f), difference_half, vec_fma(vec_set(8.0f), difference_2, difference_1)));
}

/* m = A y: 4 output gradients to 8 points. */
VEC_INLINE void wino_output_grad_line(const vec y[WINO_OUTPUTS], vec m[WINO_POINTS])
{
    vec even = vec_add(y[0], y[2]), odd = vec_add(y[1], y[3]);
    vec even_2 = vec_fma(vec_set(4.0f), y[2], y[0]);
    vec odd_2 = vec_fma(vec_set(8.0f), y[3], vec_add(y[1], y[1]));
    vec even_half = vec_fma(vec_set(0.25f), y[2], y[0]);
    vec odd_half = vec_fma(vec_set(0.125f), y[3], vec_mul(vec_set(0.5f), y[1]));
    m[0] = y[0];
    m[1] = vec_add(even, odd);
    m[2] = vec_sub(even, odd);
    m[3] = vec_add(even_2, odd_2);
    m[4] = vec_sub(even_2, odd_2);
    m[5] = vec_add(even_half, odd_half);
    m[6] = vec_sub(even_half, odd_half);
    m[7] = y[3];
}

static const float wino_factor[3] = {(float)(-2.0 / 9.0), (float)(1.0 / 90.0), (float)(32.0 / 45.0)};

/* u = G g: 5 taps to 8 points. */
VEC_INLINE void wino_filter_line(const vec g[WINO_TAPS], vec u[WINO_POINTS])
{
    vec even = vec_add(vec_add(g[0], g[2]), g[4]), odd = vec_add(g[1], g[3]);
    vec even_2 = vec_fma(vec_set(16.0f), g[4], vec_fma(vec_set(4.0f), g[2], g[0]));
    vec odd_2 = vec_fma(vec_set(8.0f), g[3], vec_add(g[1], g[1]));
    vec even_half = vec_fma(vec_set(0.0625f), g[4], vec_fma(vec_set(0.25f), g[2], g[0]));
    vec odd_half = vec_fma(vec_set(0.125f), g[3], vec_mul(vec_set(0.5f), g[1]));
    u[0] = g[0];
    u[1] = vec_mul(vec_set(wino_factor[0]), vec_add(even, odd));
    u[2] = vec_mul(vec_set(wino_factor[0]), vec_sub(even, odd));
    u[3] = vec_mul(vec_set(wino_factor[1]), vec_add(even_2, odd_2));
    u[4] = vec_mul(vec_set(wino_factor[1]), vec_sub(even_2, odd_2));
    u[5] = vec_mul(vec_set(wino_factor[2]), vec_add(even_half, odd_half));
    u[6] = vec_mul(vec_set(wino_factor[2]), vec_sub(even_half, odd_half));
    u[7] = g[4];
}

/* g = G' u: 8 points to 5 filter gradients. */
VEC_INLINE void wino_filter_grad_line(const vec u[WINO_POINTS], vec g[WINO_TAPS])
{
    vec sum_1 = vec_mul(vec_set(wino_factor[0]), vec_add(u[1], u[2]));
    vec difference_1 = vec_mul(vec_set(wino_factor[0]), vec_sub(u[1], u[2]));
    vec sum_2 = vec_mul(vec_set(wino_factor[1]), vec_add(u[3], u[4]));
    vec difference_2 = vec_mul(vec_set(wino_factor[1]), vec_sub(u[3], u[4]));
    vec sum_half = vec_mul(vec_set(wino_factor[2]), vec_add(u[5], u[6]));
    vec difference_half = vec_mul(vec_set(wino_factor[2]), vec_sub(u[5], u[6]));
    g[0] = vec_add(vec_add(u[0], sum_1), vec_add(sum_2, sum_half));
    g[1] = vec_fma(vec_set(0.5f), difference_half, vec_fma(vec_set(2.0f), difference_2, difference_1));
    g[2] = vec_fma(vec_set(0.25f), sum_half, vec_fma(vec_set(4.0f), sum_2, sum_1));
    g[3] = vec_fma(vec_set(0.125f), difference_half, vec_fma(vec_set(8.0f), difference_2, difference_1));
    g[4] = vec_add(u[7], vec_fma(vec_set(0.0625f), sum_half, vec_fma(vec_set(16.0f), sum_2, sum_1)));
}

static void wino_input(const float *src, ptrdiff_t row_pitch, ptrdiff_t pixel_pitch, int channels, float *dst,
                       ptrdiff_t point_pitch)
{
    for (int c = 0; c < channels; c += VEC_LANES) {
        vec half[WINO_POINTS][WINO_POINTS], line[WINO_POINTS];
        for (int i = 0; i < WINO_POINTS; i++) {
            for (int j = 0; j < WINO_POINTS; j++)
                half[i][j] = vec_load(src + i * row_pitch + j * pixel_pitch + c);
            wino_input_line(half[i]);
        }
        for (int j = 0; j < WINO_POINTS; j++) {
            for (int i = 0; i < WINO_POINTS; i++)
                line[i] = half[i][j];
            wino_input_line(line);
            for (int i = 0; i < WINO_POINTS; i++)
                vec_store(dst + (i * WINO_POINTS + j) * point_pitch + c, line[i]);
        }
    }
}

static void wino_output(const float *src, ptrdiff_t point_pitch, int channels, float *dst, ptrdiff_t pixel_pitch)
{
    for (int c = 0; c < channels; c += VEC_LANES) {
        vec half[WINO_OUTPUTS][WINO_POINTS], line[WINO_POINTS], out[WINO_OUTPUTS];
        for (int j = 0; j < WINO_POINTS; j++) {
            for (int i = 0; i < WINO_POINTS; i++)
                line[i] = vec_load(src + (i * WINO_POINTS + j) * point_pitch + c);
            wino_output_line(line, out);
            for (int i = 0; i < WINO_OUTPUTS; i++)
                half[i][j] = out[i];
        }
        for (int i = 0; i < WINO_OUTPUTS; i++) {
            wino_output_line(half[i], out);
            for (int j = 0; j < WINO_OUTPUTS; j++)
                vec_store(dst + (i * WINO_OUTPUTS + j) * pixel_pitch + c, out[j]);
        }
    }
}

static void wino_output_grad(const float *src, ptrdiff_t row_pitch, ptrdiff_t pixel_pitch, int channels, float *dst,
                             ptrdiff_t point_pitch)
{
    for (int c = 0; c < channels; c += VEC_LANES) {
        vec half[WINO_OUTPUTS][WINO_POINTS], in[WINO_OUTPUTS], line[WINO_POINTS];
        for (int i = 0; i < WINO_OUTPUTS; i++) {
            for (int j = 0; j < WINO_OUTPUTS; j++)
                in[j] = vec_load(src + i * row_pitch + j * pixel_pitch + c);
            wino_output_grad_line(in, half[i]);
        }
        for (int j = 0; j < WINO_POINTS; j++) {
            for (int i = 0; i < WINO_OUTPUTS; i++)
                in[i] = half[i][j];
            wino_output_grad_line(in, line);
            for (int i = 0; i < WINO_POINTS; i++)
                vec_store(dst + (i * WINO_POINTS + j) * point_pitch + c, line[i]);
        }
    }
}

static void wino_filter(const float *src, ptrdiff_t tap_pitch, int channels, float *dst, ptrdiff_t point_pitch)
{
    for (int c = 0; c < channels; c += VEC_LANES) {
        vec half[WINO_TAPS][WINO_POINTS], in[WINO_TAPS], line[WINO_POINTS];
        for (int i = 0; i < WINO_TAPS; i++) {
            for (int j = 0; j < WINO_TAPS; j++)
                in[j] = vec_load(src + (i * WINO_TAPS + j) * tap_pitch + c);
            wino_filter_line(in, half[i]);
        }
        for (int j = 0; j < WINO_POINTS; j++) {
            for (int i = 0; i < WINO_TAPS; i++)
                in[i] = half[i][j];
            wino_filter_line(in, line);
            for (int i = 0; i < WINO_POINTS; i++)
                vec_store(dst + (i * WINO_POINTS + j) * point_pitch + c, line[i]);
        }
    }
}

static void wino_filter_grad(const float *src, ptrdiff_t point_pitch, int channels, float *dst, ptrdiff_t tap_pitch)
{
    for (int c = 0; c < channels; c += VEC_LANES) {
        vec half[WINO_TAPS][WINO_POINTS], line[WINO_POINTS], out[WINO_TAPS];
        for (int j = 0; j < WINO_POINTS; j++) {
            for (int i = 0; i < WINO_POINTS; i++)
                line[i] = vec_load(src + (i * WINO_POINTS + j) * point_pitch + c);
            wino_filter_grad_line(line, out);
            for (int i = 0; i < WINO_TAPS; i++)
                half[i][j] = out[i];
        }
        for (int i = 0; i < WINO_TAPS; i++) {
            wino_filter_grad_line(half[i], out);
            for (int j = 0; j < WINO_TAPS; j++)
                vec_store(dst + (i * WINO_TAPS + j) * tap_pitch + c, out[j]);
        }
    }
}
