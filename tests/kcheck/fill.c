/* Values of tensors: whole numbers, real numbers, special values, offsets. */
#include "tests/kcheck/kcheck.h"

#include "kernels/ref/ref.h"
#include "train/augment.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The value nearest to `value` that dtype holds. */
static double representable(cnn_dtype dtype, double value)
{
    cnn_tensor_desc one = cnn_desc_vector(dtype, 1);
    uint64_t memory = 0;
    cnn_ref_put(&one, &memory, 0, 0, value);
    return cnn_ref_get(&one, &memory, 0, 0);
}

static double special(kc_random *random, const kc_fill *fill)
{
    static const double values[] = {0, -0.0, NAN, INFINITY, -INFINITY, 0x1p-20, -0x1p-24, 0x1.8p-140};
    enum { COUNT = sizeof values / sizeof values[0] };
    uint64_t choice = kc_next(random) % (3 * COUNT);
    return choice < COUNT ? values[choice] : kc_uniform(random, fill->lo, fill->hi);
}

static double draw(const kc_fill *fill, kc_random *random)
{
    switch (fill->kind) {
    case KC_INTS:
        return fill->scale * (double)kc_int(random, (int32_t)fill->lo, (int32_t)fill->hi);
    case KC_REAL:
    case KC_ONE_BAD:
        return kc_uniform(random, fill->lo, fill->hi);
    case KC_ENDS: {
        uint64_t choice = kc_next(random) % 16;
        if (choice == 0)
            return (double)kc_int(random, (int32_t)fill->lo, (int32_t)fill->hi);
        return choice % 2 ? fill->lo : fill->hi;
    }
    case KC_SPECIAL:
        return special(random, fill);
    default:
        return 0;
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* 0 = values[0] <= ... <= values[count - 1] = last */
static void fill_offsets(double *values, int64_t count, int32_t last, kc_random *random)
{
    for (int64_t i = 0; i < count; i++)
        values[i] = kc_int(random, 0, last);
    values[0] = 0;
    values[count - 1] = last;
    qsort(values, (size_t)count, sizeof *values, ascending);
}

/* Bytes of parameters as training draws them. */
static void fill_augment(double *values, int64_t count, bool mirror, bool serifs, kc_random *random)
{
    cnn_augment_recipe recipe = {.share = 0.8f, .mirror = mirror, .one = 1, .seven = 7};
    static const float strengths[CNN_AUGMENT_KINDS] = {
        [CNN_AUGMENT_FLIP] = 0.5f,    [CNN_AUGMENT_SCALE] = 0.2f,    [CNN_AUGMENT_SHEAR] = 0.2f,
        [CNN_AUGMENT_ROTATE] = 20.0f, [CNN_AUGMENT_SHIFT] = 2.0f,    [CNN_AUGMENT_CROP] = 1.0f,
        [CNN_AUGMENT_ELASTIC] = 1.0f, [CNN_AUGMENT_STROKE] = 1.0f,   [CNN_AUGMENT_SERIF] = 0.7f,
        [CNN_AUGMENT_BLUR] = 0.5f,    [CNN_AUGMENT_CONTRAST] = 0.3f, [CNN_AUGMENT_CUTOUT] = 3.0f};
    memcpy(recipe.strength, strengths, sizeof strengths);
    if (!serifs)
        recipe.strength[CNN_AUGMENT_SERIF] = 0.0f;
    for (int64_t first = 0; first < count; first += (int64_t)sizeof(cnn_augment_params)) {
        cnn_augment_params params;
        uint8_t bytes[sizeof params];
        cnn_augment_draw(&recipe, kc_next(random), 1, 1, kc_int(random, 0, 9), &params);
        memcpy(bytes, &params, sizeof bytes);
        for (size_t i = 0; i < sizeof bytes; i++)
            values[first + (int64_t)i] = bytes[i];
    }
}

/* Three quarters of the blocks of 16 outputs x 4 inputs, chosen at random, become 0; in one case of eight all. */
static void clear_blocks(double *values, const cnn_tensor_desc *desc, kc_random *random)
{
    const bool all = kc_next(random) % 8 == 0;
    const int64_t taps = (int64_t)desc->h * desc->w;
    for (int32_t k0 = 0; k0 < desc->n; k0 += 16)
        for (int64_t tap = 0; tap < taps; tap++)
            for (int32_t c0 = 0; c0 < desc->c; c0 += 4) {
                if (!all && kc_next(random) % 4 == 0)
                    continue;
                for (int32_t k = k0; k < desc->n && k < k0 + 16; k++)
                    for (int32_t c = c0; c < desc->c && c < c0 + 4; c++)
                        values[(k * taps + tap) * desc->c + c] = 0;
            }
}

double *kc_fill_values(const kc_fill *fill, const cnn_tensor_desc *desc, kc_random *random)
{
    int64_t count = cnn_desc_elements(desc);
    double *values = malloc((size_t)count * sizeof *values);
    if (!values)
        return NULL;
    if (fill->kind == KC_OFFSETS) {
        fill_offsets(values, count, (int32_t)fill->hi, random);
        return values;
    }
    if (fill->kind == KC_AUGMENT) {
        fill_augment(values, count, fill->lo > 0, fill->hi > 0, random);
        return values;
    }
    for (int64_t i = 0; i < count; i++)
        values[i] = representable(desc->dtype, draw(fill, random));
    if (desc->structure == CNN_BLOCK_16X4)
        clear_blocks(values, desc, random);
    if (fill->kind == KC_ONE_BAD) {
        static const double bad[] = {NAN, INFINITY, -INFINITY};
        values[kc_next(random) % (uint64_t)count] = bad[kc_next(random) % 3];
    }
    return values;
}
