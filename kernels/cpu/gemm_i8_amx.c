/* INT8 products and direct convolutions with AMX.
 *
 * tdpbssd multiplies a tile of 16 pixels x 64 bytes with one of 64 bytes x 16 outputs and adds the products to a tile
 * of 16 x 16 sums. Both sides are signed, so that rows hold the values as they are and no offset has to come out of the
 * sums again. A tile of weights, [16 groups][16 outputs][4], is what panels consist of (gemm_i8.h).
 *
 * Up to 32 pixels and two panels are multiplied at once: 4 tiles of sums, 2 of pixels, 2 of weights are all there are.
 * The pixels of a tile lie at any one distance from each other: rows of im2col, or pixels of a line of an image. */
#include "kernels/cpu/isa.h"

#if defined(CNN_CPU_AMX_BUILT)

#include "kernels/cpu/amx.h"
#include "kernels/cpu/direct_i8.h"
#include "kernels/cpu/gemm_i8_avx512.h"

enum {
    TILE = 2 * CNN_AMX_ROWS, /* pixels */
    GROUP = 4,
    WEIGHTS_BYTES = CNN_AMX_ROWS * CNN_AMX_ROW_BYTES, /* of a tile */
    SUMS_BYTES = CNN_I8_SUMS * (int)sizeof(int32_t)
};

/* Numbers of tiles: sums [first or second 16 pixels][panel], pixels, weights. */
#define SUMS_00 0
#define SUMS_01 1
#define SUMS_10 2
#define SUMS_11 3
#define PIXELS_0 4
#define PIXELS_1 5
#define WEIGHTS_0 6
#define WEIGHTS_1 7

/* sums[p][k] = products of pixel p's runs with the weights. A run is `steps` * 64 bytes; there are `runs`, a line
 * apart.
 */
typedef struct product_job {
    const void *x;
    size_t pixel_bytes, line_bytes;
    int32_t runs, steps;
    const int8_t *weights; /* [runs][steps] tiles; the next panel's at panel_bytes */
    size_t panel_bytes;
    int32_t *sums; /* [pixels][CNN_I8_SUMS] */
} product_job;

/* Shapes the tiles for the first and the second 16 pixels, of which there may be fewer. */
CNN_AMX static void configure(int32_t first, int32_t second)
{
    cnn_amx_config config = {.palette = 1};
    for (int i = 0; i < CNN_AMX_TILES; i++) {
        config.row_bytes[i] = CNN_AMX_ROW_BYTES;
        config.rows[i] = CNN_AMX_ROWS;
    }
    config.rows[SUMS_00] = config.rows[SUMS_01] = config.rows[PIXELS_0] = (uint8_t)first;
    if (second > 0)
        config.rows[SUMS_10] = config.rows[SUMS_11] = config.rows[PIXELS_1] = (uint8_t)second;
    cnn_amx_configure(&config);
}

/* 64 bytes of each pixel. two: there are more than 16; pair: there are two panels. */
CNN_AMX CNN_INLINE void step(const product_job *a, const uint8_t *x, const int8_t *weights, bool two, bool pair)
{
    CNN_TILE(loadd)(WEIGHTS_0, weights, CNN_AMX_ROW_BYTES);
    CNN_TILE(loadd)(PIXELS_0, x, a->pixel_bytes);
    CNN_TILE(dpbssd)(SUMS_00, PIXELS_0, WEIGHTS_0);
    if (pair) {
        CNN_TILE(loadd)(WEIGHTS_1, weights + a->panel_bytes, CNN_AMX_ROW_BYTES);
        CNN_TILE(dpbssd)(SUMS_01, PIXELS_0, WEIGHTS_1);
    }
    if (two) {
        CNN_TILE(loadd)(PIXELS_1, x + CNN_AMX_ROWS * a->pixel_bytes, a->pixel_bytes);
        CNN_TILE(dpbssd)(SUMS_10, PIXELS_1, WEIGHTS_0);
    }
    if (two && pair)
        CNN_TILE(dpbssd)(SUMS_11, PIXELS_1, WEIGHTS_1);
}

CNN_AMX CNN_INLINE void multiply(const product_job *a, bool two, bool pair)
{
    const int8_t *weights = a->weights;
    int32_t *second = a->sums + CNN_AMX_ROWS * CNN_I8_SUMS;
    CNN_TILE(zero)(SUMS_00);
    CNN_TILE(zero)(SUMS_01);
    CNN_TILE(zero)(SUMS_10);
    CNN_TILE(zero)(SUMS_11);
    for (int32_t r = 0; r < a->runs; r++) {
        const uint8_t *x = (const uint8_t *)a->x + (size_t)r * a->line_bytes;
        for (int32_t i = 0; i < a->steps; i++) {
            step(a, x, weights, two, pair);
            x += CNN_AMX_ROW_BYTES;
            weights += WEIGHTS_BYTES;
        }
    }
    CNN_TILE(stored)(SUMS_00, a->sums, SUMS_BYTES);
    if (pair)
        CNN_TILE(stored)(SUMS_01, a->sums + CNN_I8_PANEL, SUMS_BYTES);
    if (two)
        CNN_TILE(stored)(SUMS_10, second, SUMS_BYTES);
    if (two && pair)
        CNN_TILE(stored)(SUMS_11, second + CNN_I8_PANEL, SUMS_BYTES);
}

/* What configure() has been told. */
CNN_AMX static void multiply_any(const product_job *a, int32_t pixels, int32_t panels)
{
    const bool two = pixels > CNN_AMX_ROWS, pair = panels > 1;
    cnn_amx_fence(a);
    if (two && pair)
        multiply(a, true, true);
    else if (two)
        multiply(a, true, false);
    else if (pair)
        multiply(a, false, true);
    else
        multiply(a, false, false);
}

CNN_AMX static void configure_for(int32_t pixels)
{
    if (pixels > CNN_AMX_ROWS)
        configure(CNN_AMX_ROWS, pixels - CNN_AMX_ROWS);
    else
        configure(pixels, 0);
}

CNN_AMX static void product(const cnn_i8_product *a)
{
    int32_t configured = 0;
    for (int32_t p = 0; p < a->pixels; p += TILE) {
        const int32_t pixels = a->pixels - p < TILE ? a->pixels - p : TILE;
        const product_job job = {
            .x = (const uint8_t *)a->rows + (size_t)p * (size_t)a->depth,
            .pixel_bytes = (size_t)a->depth,
            .runs = 1,
            .steps = a->depth / CNN_AMX_ROW_BYTES,
            .weights = a->weights,
            .panel_bytes = a->panel_bytes,
            .sums = a->sums + (size_t)p * CNN_I8_SUMS,
        };
        if (pixels != configured)
            configure_for(pixels);
        configured = pixels;
        multiply_any(&job, pixels, a->panels);
    }
    CNN_TILE(release)();
}

CNN_AMX static void dense(const cnn_i8_tile *a)
{
    const product_job job = {
        .x = a->x,
        .pixel_bytes = a->pixel_bytes,
        .line_bytes = a->line_bytes,
        .runs = a->rows,
        .steps = a->groups / CNN_AMX_ROWS,
        .weights = a->weights,
        .panel_bytes = a->panel_bytes,
        .sums = a->sums,
    };
    configure_for(a->pixels);
    multiply_any(&job, a->pixels, a->panels);
    CNN_TILE(release)();
}

CNN_AVX512 static void pool(const int32_t *rows, int32_t row_pixels, int32_t size, int32_t stride, int32_t windows,
                            int32_t *pooled)
{
    cnn_i8_pool(rows, row_pixels, size, stride, windows, pooled);
}

const cnn_cpu_gemm_i8 cnn_cpu_gemm_i8_amx = {
    .name = "amx",
    .isa = CNN_CPU_AMX,
    .tile = TILE,
    .group = GROUP,
    .depth = CNN_AMX_ROW_BYTES,
    .value_bytes = 1,
    .offset = false,
    .convert = NULL,
    .product = product,
    .requantize = cnn_cpu_requantize_i8_avx512,
    .dequantize = cnn_cpu_dequantize_i8_avx512,
};

const cnn_cpu_direct_i8 cnn_cpu_direct_i8_amx = {
    .name = "amx", .tile = TILE, .run_groups = CNN_AMX_ROWS, .dense = dense, .pool = pool};

#else
typedef int cnn_cpu_gemm_i8_amx_not_here; /* ISO C wants a declaration */
#endif
