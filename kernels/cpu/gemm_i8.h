/* INT8 matrix products: what each instruction set implements, and what the ops in conv_i8.c and requantize.c use.
 *
 *   sums[p][k] = sum over d of rows[p][d] * weights[k][d], exact in int32
 *
 * p counts output pixels, d = (r, s, c) the depth, k output channels.
 *
 * Packed weights. Outputs come in panels of 16 (the last one filled up with zeros). Within a panel, `group` depth
 * values of each output lie together: [K/16][depth/group][16][group] int8. A vector instruction multiplies one group of
 * a pixel, 4 bytes broadcast to all lanes, with a group of each of 16 outputs.
 *
 * Rows. im2col writes int8 rows, one a pixel; convert() turns them into what product() reads, which only the
 * instruction set knows. Depth beyond the real one meets zero weights, so that what rows hold there does not matter.
 *
 * Offset. vpdpbusd multiplies unsigned by signed bytes. Rows then hold x + 128, and `start` = -128 * sum of the weights
 * of an output begins its sum: exact, since int32 arithmetic wraps. A padding pixel is the byte 128 like any other 0.
 */
#ifndef CNN_CPU_GEMM_I8_H
#define CNN_CPU_GEMM_I8_H

#include "kernels/cpu/cpu.h"

/* Outputs of a panel; panels that product() does at once; bytes of a row that lie together in converted rows. */
enum { CNN_I8_PANEL = 16, CNN_I8_PANELS = 2, CNN_I8_SUMS = CNN_I8_PANEL * CNN_I8_PANELS, CNN_I8_BLOCK_BYTES = 64 };

/* int8 rows to converted rows. */
typedef struct cnn_i8_convert {
    const int8_t *bytes; /* [pixels][row_bytes] */
    size_t row_bytes;
    int32_t pixels;
    int32_t blocks; /* of CNN_I8_BLOCK_BYTES in a converted row */
    void *rows;
} cnn_i8_convert;

/* One call multiplies some pixels with one or two panels. Rows and sums have room for whole tiles of pixels, of which
 * it may read and write more than are there. */
typedef struct cnn_i8_product {
    const void *rows;      /* converted */
    const int8_t *weights; /* the first panel; the second one follows at panel_bytes */
    const int32_t *start;  /* [panels][16] */
    int32_t *sums;         /* [pixels][CNN_I8_SUMS] */
    size_t panel_bytes;
    int32_t pixels, panels;
    int32_t depth; /* packed: a multiple of group */
} cnn_i8_product;

/* Sums of one panel to outputs: the largest of `area` consecutive rows (a pooling window; the formulas are monotonic,
 * so that the order does not matter), then the formula. */
typedef struct cnn_i8_finish {
    const int32_t *sums; /* [outputs*area][stride], CNN_I8_PANEL of each row are read */
    size_t stride;
    int32_t outputs, area;
    const int32_t *bias; /* [16] */
    const float *mult;   /* [16] */
    float lo, hi;
    void *dst; /* [outputs][dst_stride] int8 or f32 */
    size_t dst_stride;
    int32_t channels; /* 1 to 16: how many of each row are written */
} cnn_i8_finish;

typedef struct cnn_cpu_gemm_i8 {
    const char *name; /* "avx512vnni" */
    cnn_cpu_isa isa;
    int32_t tile;                                   /* pixels that product() does best at once */
    int32_t group;                                  /* 0: the whole depth, that is plain rows of weights */
    int32_t depth;                                  /* the packed depth is a multiple of it */
    int32_t value_bytes;                            /* of a converted value: 1 or 2 */
    bool offset;                                    /* rows hold x + 128 */
    void (*convert)(const cnn_i8_convert *convert); /* NULL: product() reads im2col's rows */
    void (*begin)(void);                            /* in a thread, before product(); may be NULL */
    void (*product)(const cnn_i8_product *product);
    void (*end)(void); /* after it; NULL with begin */
    void (*requantize)(const cnn_i8_finish *finish);
    void (*dequantize)(const cnn_i8_finish *finish);
} cnn_cpu_gemm_i8;

extern const cnn_cpu_gemm_i8 cnn_cpu_gemm_i8_portable;
#if defined(__x86_64__)
extern const cnn_cpu_gemm_i8 cnn_cpu_gemm_i8_avx2, cnn_cpu_gemm_i8_avx512, cnn_cpu_gemm_i8_avx512vnni;
void cnn_cpu_requantize_i8_avx2(const cnn_i8_finish *finish);
void cnn_cpu_dequantize_i8_avx2(const cnn_i8_finish *finish);
#endif
#if defined(CNN_CPU_AVXVNNI_BUILT)
extern const cnn_cpu_gemm_i8 cnn_cpu_gemm_i8_avxvnni;
#endif
#if defined(CNN_CPU_AMX_BUILT)
extern const cnn_cpu_gemm_i8 cnn_cpu_gemm_i8_amx;
#endif

/* Rounds |value| < 2^22 to the nearest integer, ties to even: 1.5 * 2^23 leaves no bits for fractions. Unlike rintf,
 * any compiler vectorizes it. */
static inline float cnn_i8_nearest(float value)
{
    const float shift = 12582912.0f;
    return (value + shift) - shift;
}

/* The best that `isa` runs. */
const cnn_cpu_gemm_i8 *cnn_cpu_gemm_i8_get(cnn_cpu_isa isa);

/* ---- Convolutions as im2col sees them: im2col_i8.c ---- */

/* Output pixels are grouped in windows of pool x pool, which a max-pool epilogue reduces to one output each; pool = 1
 * without it. A linear layer is the one pixel of a 1x1 convolution over H*W*C channels. */
typedef struct cnn_i8_conv {
    int32_t n, h, w, c; /* the image; c in memory */
    int32_t k, r, s, stride, pad;
    int32_t out_h, out_w; /* windows */
    int32_t pool, pool_stride;
} cnn_i8_conv;

static inline int32_t cnn_i8_conv_depth(const cnn_i8_conv *conv)
{
    return conv->r * conv->s * conv->c;
}

/* Writes the rows of windows first .. first+count-1 (numbered through all images): [count*pool*pool][row_bytes], the
 * pixels of a window together. Up to 8 bytes beyond the last row are written. src: [n,h,w,c] */
void cnn_cpu_im2col_i8(const cnn_i8_conv *conv, const int8_t *src, int64_t first, int32_t count, int8_t *rows,
                       size_t row_bytes);

#endif
