/* picture_bits: prepares pictures that are drawn here and prints a hash of each result. Linked twice, with the library
 * and with its loops as a CPU without AVX2 runs them (core/wide.h): both must print the same. */
#include "cnn/picture.h"
#include "cnn/status.h"
#include "core/hash.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* How a picture looks. */
typedef struct style {
    int32_t width, height;
    double stroke;       /* as a share of the shorter side */
    double light, noise; /* how uneven they are, 0..1 */
    int colour;          /* of the ink: bits for red, green and blue */
    bool bright, see_through;
} style;

static const style styles[] = {
    {28, 28, 0.1, 0, 0, 7, true, false},          {57, 90, 0.06, 0, 0.02, 7, false, false},
    {400, 400, 0.05, 0, 0, 7, false, false},      {400, 401, 0.05, 0.3, 0.04, 4, false, false},
    {397, 203, 0.08, 0.6, 0.1, 7, false, false},  {640, 480, 0.03, 0.5, 0.05, 1, false, false},
    {1031, 767, 0.01, 0.2, 0.03, 3, true, false}, {333, 250, 0.2, 0, 0.3, 7, false, false},
    {300, 300, 0.07, 0, 0.05, 7, false, true},    {211, 517, 0.15, 0.9, 0.02, 2, true, true},
};

/* Distance from the stroke, a ring and a bar: 0 in the middle of it. All lengths as shares of the shorter side. */
static double away_from_stroke(double x, double y)
{
    const double ring = fabs(sqrt(x * x + y * y) - 0.2);
    const double below = y < 0.1 ? 0.1 - y : y > 0.4 ? y - 0.4 : 0, bar = sqrt((x - 0.2) * (x - 0.2) + below * below);
    return ring < bar ? ring : bar;
}

static uint16_t value_at(const style *look, uint64_t number, int32_t x, int32_t y, int channel)
{
    const double side = look->width < look->height ? look->width : look->height;
    const double away = away_from_stroke((x - look->width / 2) / side, (y - look->height / 2) / side);
    const double edge = (look->stroke / 2 - away) * side + 0.5;
    const double ink = (edge < 0 ? 0 : edge > 1 ? 1 : edge) * (look->colour >> channel & 1 ? 0.8 : 0.3);
    if (channel == 3)
        return (uint16_t)(65535 * (look->see_through ? ink / 0.8 : 1));
    const uint64_t pixel = (uint64_t)y * (uint64_t)look->width + (uint64_t)x;
    const double random = (double)(cnn_hash(number, CNN_PURPOSE_SYNTH, pixel, (uint64_t)channel) >> 11) * 0x1p-53;
    double value = 0.9 - ink - look->light * 0.5 * x / look->width + look->noise * (random - 0.5);
    value = value < 0 ? 0 : value > 1 ? 1 : value;
    return (uint16_t)(65535 * (look->bright ? 1 - value : value));
}

static uint64_t add_bytes(uint64_t hash, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ bytes[i]) * 1099511628211u;
    return hash;
}

/* Prints what is made of one picture. */
static bool prepare(const style *look, uint64_t number)
{
    const size_t pixels = (size_t)look->width * (size_t)look->height;
    cnn_picture picture = {.width = look->width, .height = look->height, .rgba = malloc(pixels * 4 * sizeof(uint16_t))};
    uint8_t resized[3 * 40 * 30];
    cnn_digits digits;
    if (!picture.rgba)
        return false;
    for (size_t i = 0; i < pixels; i++)
        for (int c = 0; c < 4; c++)
            picture.rgba[4 * i + (size_t)c] =
                value_at(look, number, (int32_t)(i % (size_t)look->width), (int32_t)(i / (size_t)look->width), c);
    bool done = cnn_picture_prepare_digits(&picture, "picture", &digits) == CNN_OK &&
                cnn_picture_resize(&picture, 40, 30, 3, resized) == CNN_OK;
    if (done) {
        uint64_t hash = add_bytes(14695981039346656037u, resized, sizeof resized);
        for (int32_t i = 0; i < digits.count; i++)
            hash = add_bytes(hash, digits.digit[i].pixels, sizeof digits.digit[i].pixels);
        printf("%dx%d: %d, %016llx\n", look->width, look->height, digits.count, (unsigned long long)hash);
        cnn_digits_free(&digits);
    }
    free(picture.rgba);
    return done;
}

int main(void)
{
    for (uint64_t i = 0; i < sizeof styles / sizeof *styles; i++)
        if (!prepare(&styles[i], i)) {
            fprintf(stderr, "%s\n", cnn_last_error());
            return 1;
        }
    return 0;
}
