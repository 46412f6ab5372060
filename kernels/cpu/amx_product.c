/* Products of tiles with AMX. See amx_product.h. */
#include "kernels/cpu/amx_product.h"

#if defined(CNN_CPU_AMX_BUILT)

#include "kernels/cpu/amx.h"

#include <stdbool.h>

#define INLINE static inline __attribute__((always_inline))

enum { TILES = 8, ROW_BYTES = 64 };

/* Numbers of tiles: sums [tile of pixels][panel], pixels, weights. */
#define SUMS_00 0
#define SUMS_01 1
#define SUMS_10 2
#define SUMS_11 3
#define PIXELS_0 4
#define PIXELS_1 5
#define WEIGHTS_0 6
#define WEIGHTS_1 7

CNN_AMX void cnn_amx_begin(size_t step_bytes)
{
    cnn_amx_config config = {.palette = 1};
    for (int i = 0; i < TILES; i++) {
        config.row_bytes[i] = ROW_BYTES;
        config.rows[i] = CNN_AMX_PIXELS;
    }
    config.row_bytes[PIXELS_0] = config.row_bytes[PIXELS_1] = (uint16_t)step_bytes;
    config.rows[WEIGHTS_0] = config.rows[WEIGHTS_1] = (uint8_t)(step_bytes / CNN_AMX_GROUP_BYTES);
    cnn_amx_fence(&config);
    CNN_TILE(loadconfig)(&config);
    cnn_amx_fence(&config);
}

CNN_AMX void cnn_amx_end(void)
{
    CNN_TILE(release)();
}

#define DOT(sums, pixels, weights)                     \
    do {                                               \
        if (half)                                      \
            CNN_TILE(dpbf16ps)(sums, pixels, weights); \
        else                                           \
            CNN_TILE(dpbssd)(sums, pixels, weights);   \
    } while (0)

/* A step of each pixel. two: there are two tiles of pixels; pair: there are two panels; half: values are bf16. */
CNN_AMX INLINE void step(const cnn_amx_product *a, const uint8_t *first, const uint8_t *second, const uint8_t *weights,
                         bool two, bool pair, bool half)
{
    CNN_TILE(loadd)(WEIGHTS_0, weights, ROW_BYTES);
    CNN_TILE(loadd)(PIXELS_0, first, a->pixel_bytes);
    if (pair)
        CNN_TILE(loadd)(WEIGHTS_1, weights + a->panel_bytes, ROW_BYTES);
    if (two)
        CNN_TILE(loadd)(PIXELS_1, second, a->pixel_bytes);
    DOT(SUMS_00, PIXELS_0, WEIGHTS_0);
    if (pair)
        DOT(SUMS_01, PIXELS_0, WEIGHTS_1);
    if (two)
        DOT(SUMS_10, PIXELS_1, WEIGHTS_0);
    if (two && pair)
        DOT(SUMS_11, PIXELS_1, WEIGHTS_1);
}

/* Sums of the second panel stand beside those of the first. */
#define EACH_SUMS(DO)                                       \
    do {                                                    \
        DO(SUMS_00, a->sums[0]);                            \
        if (pair)                                           \
            DO(SUMS_01, (uint8_t *)a->sums[0] + ROW_BYTES); \
        if (two)                                            \
            DO(SUMS_10, a->sums[1]);                        \
        if (two && pair)                                    \
            DO(SUMS_11, (uint8_t *)a->sums[1] + ROW_BYTES); \
    } while (0)
#define LOAD(tile, at) CNN_TILE(loadd)(tile, at, a->sums_bytes)
#define STORE(tile, at) CNN_TILE(stored)(tile, at, a->sums_bytes)

CNN_AMX INLINE void multiply(const cnn_amx_product *a, bool two, bool pair, bool half)
{
    if (a->add) {
        EACH_SUMS(LOAD);
    } else {
        CNN_TILE(zero)(SUMS_00);
        CNN_TILE(zero)(SUMS_01);
        CNN_TILE(zero)(SUMS_10);
        CNN_TILE(zero)(SUMS_11);
    }
    for (int32_t r = 0; r < a->runs; r++) {
        const uint8_t *first = a->pixels[0] + (size_t)r * a->line_bytes;
        const uint8_t *second = two ? a->pixels[1] + (size_t)r * a->line_bytes : first;
        const uint8_t *weights = a->weights + (size_t)r * a->weights_line_bytes;
        for (int32_t i = 0; i < a->steps; i++) {
            step(a, first, second, weights, two, pair, half);
            first += a->pixel_step_bytes;
            second += a->pixel_step_bytes;
            weights += a->weights_step_bytes;
        }
    }
    EACH_SUMS(STORE);
}

CNN_AMX INLINE void multiply_any(const cnn_amx_product *a, bool half)
{
    const bool two = a->tiles > 1, pair = a->panels > 1;
    cnn_amx_fence(a);
    if (two && pair)
        multiply(a, true, true, half);
    else if (two)
        multiply(a, true, false, half);
    else if (pair)
        multiply(a, false, true, half);
    else
        multiply(a, false, false, half);
    cnn_amx_fence(a);
}

CNN_AMX void cnn_amx_multiply_i8(const cnn_amx_product *product)
{
    multiply_any(product, false);
}

CNN_AMX void cnn_amx_multiply_bf16(const cnn_amx_product *product)
{
    multiply_any(product, true);
}

#else
typedef int cnn_amx_product_not_here; /* ISO C wants a declaration */
#endif
