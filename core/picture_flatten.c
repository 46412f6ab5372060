/* Uneven light: a quadratic surface is fitted to the paper and subtracted.
 *
 *     light(x, y) = a + b x + c y + d x y + e x^2 + f y^2,   x and y from -1 to 1 across the picture
 *
 * Least squares over a grid of samples. What counts as paper is found in rounds: first everything below Otsu's
 * threshold, then everything whose distance from the last fit is below the threshold of these distances, a sample away
 * from the ink. */
#include "core/picture.h"

#include "core/memory.h"
#include "core/wide.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TERMS = 6, GRID = 96, ROUNDS = 4, LEAST_SAMPLES = 30 };

static const float even_light = 0.03f; /* paper that deviates less than this needs no fit */
static const float useful_fit = 0.8f;  /* a fit that leaves a larger share of the deviation explains nothing */

typedef struct light_fit {
    int32_t height, width;  /* of the plane */
    int32_t rows, columns;  /* of the grid */
    int32_t step;           /* between samples */
    float *value, *rest;    /* [rows,columns] the samples, and what the fit leaves of them */
    uint8_t *paper, *inked; /* [rows,columns] */
    uint8_t *found;         /* [columns] */
    double *across, *down;  /* [width], [height] x and y from -1 to 1 */
    double *sample_across;  /* [columns] x of the samples */
    double coefficient[TERMS];
} light_fit;

/* x or y from -1 to 1 across a side. */
static double place_on(int32_t side, int32_t at)
{
    return side > 1 ? 2.0 * at / (side - 1) - 1 : 0;
}

/* rest[i] = value[i] - light at (across[i], v), for i < count. c: the surface's coefficients */
CNN_WIDE_BODY void subtract_body(const double *c, double v, const double *across, int32_t count, const float *value,
                                 float *rest)
{
    for (int32_t i = 0; i < count; i++) {
        const double u = across[i];
        rest[i] = value[i] - (float)(c[0] + c[1] * u + c[2] * v + c[3] * (u * v) + c[4] * (u * u) + c[5] * (v * v));
    }
}

CNN_WIDE(static, subtract_light, subtract_body,
         (const double *c, double v, const double *across, int32_t count, const float *value, float *rest),
         (c, v, across, count, value, rest))

/* Gauss-Jordan elimination with pivots: m [TERMS, TERMS + 1] becomes unit matrix and solution. */
static void solve(double m[TERMS][TERMS + 1], double *solution)
{
    for (int column = 0; column < TERMS; column++) {
        int pivot = column;
        for (int row = column + 1; row < TERMS; row++)
            if (fabs(m[row][column]) > fabs(m[pivot][column]))
                pivot = row;
        for (int k = 0; k <= TERMS; k++) {
            double swapped = m[column][k];
            m[column][k] = m[pivot][k];
            m[pivot][k] = swapped;
        }
        for (int row = 0; row < TERMS; row++) {
            double factor = row == column ? 0 : m[row][column] / m[column][column];
            for (int k = column; k <= TERMS; k++)
                m[row][k] -= factor * m[column][k];
        }
    }
    for (int i = 0; i < TERMS; i++)
        solution[i] = m[i][TERMS] / m[i][i];
}

typedef double four_doubles __attribute__((vector_size(4 * sizeof(double))));

/* Sums over the samples that are paper, in their order: of each term (1, u, v, uv, uu, vv) times each of uv, uu, vv and
 * the value, and of 1, u and v alone. All other products of two terms are among them, with the same rounding. */
typedef struct moments {
    double with[TERMS][4], plain[4];
} moments;

CNN_WIDE_BODY void moments_body(const light_fit *fit, moments *sums)
{
    four_doubles of_u = {0}, of_v = {0}, of_uv = {0}, of_uu = {0}, of_vv = {0}, of_1 = {0}, plain = {0};
    for (int32_t y = 0; y < fit->rows; y++) {
        const double v = fit->down[y * fit->step], vv = v * v;
        for (int32_t x = 0; x < fit->columns; x++) {
            if (!fit->paper[y * fit->columns + x])
                continue;
            const double u = fit->sample_across[x], uv = u * v, uu = u * u;
            const four_doubles by = {uv, uu, vv, (double)fit->value[y * fit->columns + x]}, terms = {1, u, v, 0};
            plain += terms;
            of_1 += by;
            of_u += (four_doubles){u, u, u, u} * by;
            of_v += (four_doubles){v, v, v, v} * by;
            of_uv += (four_doubles){uv, uv, uv, uv} * by;
            of_uu += (four_doubles){uu, uu, uu, uu} * by;
            of_vv += (four_doubles){vv, vv, vv, vv} * by;
        }
    }
    const four_doubles all[TERMS] = {of_1, of_u, of_v, of_uv, of_uu, of_vv};
    memcpy(sums->with, all, sizeof sums->with);
    memcpy(sums->plain, &plain, sizeof sums->plain);
}

CNN_WIDE(static, sum_moments, moments_body, (const light_fit *fit, moments *sums), (fit, sums))

/* Fits the surface to the samples that are paper. A little weight on small coefficients keeps the equations solvable
 * where the picture is one pixel high or wide. */
static void fit_surface(light_fit *fit)
{
    enum { UV, UU, VV, VALUE };
    moments sums;
    sum_moments(fit, &sums);
    double m[TERMS][TERMS + 1];
    for (int a = 0; a < TERMS; a++) {
        for (int b = 3; b < TERMS; b++)
            m[a][b] = m[b][a] = sums.with[a][b - 3];
        m[a][TERMS] = sums.with[a][VALUE];
    }
    for (int b = 0; b < 3; b++)
        m[0][b] = m[b][0] = sums.plain[b];
    m[1][1] = sums.with[0][UU];
    m[1][2] = m[2][1] = sums.with[0][UV];
    m[2][2] = sums.with[0][VV];
    for (int a = 0; a < TERMS; a++)
        m[a][a] += 1e-6;
    solve(m, fit->coefficient);
}

/* paper = 1 for samples of `count` in a row that are not inked, nor beside, above or below one that is. */
static void find_paper_in_row(const uint8_t *above, const uint8_t *here, const uint8_t *below, int32_t count,
                              uint8_t *paper)
{
    for (int32_t x = 0; x < count; x++)
        paper[x] = !(here[x] | above[x] | below[x]);
    for (int32_t x = 1; x < count; x++)
        paper[x] &= !here[x - 1];
    for (int32_t x = 0; x + 1 < count; x++)
        paper[x] &= !here[x + 1];
}

/* *changed: other samples are paper now */
static int32_t find_paper(light_fit *fit, bool *changed)
{
    const int32_t count = fit->rows * fit->columns, last = fit->rows - 1;
    const size_t row_bytes = (size_t)fit->columns;
    int32_t papers = 0;
    *changed = false;
    for (int32_t y = 0; y < fit->rows; y++)
        subtract_light(fit->coefficient, fit->down[y * fit->step], fit->sample_across, fit->columns,
                       fit->value + y * fit->columns, fit->rest + y * fit->columns);
    cnn_ink_mask(fit->rest, (size_t)count, cnn_otsu(fit->rest, (size_t)count), fit->inked);
    for (int32_t y = 0; y < fit->rows; y++) {
        const uint8_t *here = fit->inked + y * fit->columns;
        uint8_t *paper = fit->paper + y * fit->columns;
        find_paper_in_row(y > 0 ? here - fit->columns : here, here, y < last ? here + fit->columns : here, fit->columns,
                          fit->found);
        *changed = *changed || memcmp(paper, fit->found, row_bytes) != 0;
        memcpy(paper, fit->found, row_bytes);
    }
    for (int32_t i = 0; i < count; i++)
        papers += fit->paper[i];
    return papers;
}

static cnn_status fit_begin(light_fit *fit, const float *ink, int32_t height, int32_t width)
{
    int32_t longest = height > width ? height : width;
    *fit = (light_fit){.height = height, .width = width, .step = longest > GRID ? longest / GRID : 1};
    fit->rows = (height + fit->step - 1) / fit->step;
    fit->columns = (width + fit->step - 1) / fit->step;
    size_t count = (size_t)fit->rows * (size_t)fit->columns;
    fit->value = cnn_calloc(count, sizeof *fit->value);
    fit->rest = cnn_calloc(count, sizeof *fit->rest);
    fit->paper = cnn_calloc(count, 1);
    fit->inked = cnn_calloc(count, 1);
    fit->found = cnn_calloc((size_t)fit->columns, 1);
    fit->across = cnn_calloc((size_t)width, sizeof *fit->across);
    fit->down = cnn_calloc((size_t)height, sizeof *fit->down);
    fit->sample_across = cnn_calloc((size_t)fit->columns, sizeof *fit->sample_across);
    if (!fit->value || !fit->rest || !fit->paper || !fit->inked || !fit->found || !fit->across || !fit->down ||
        !fit->sample_across)
        return CNN_ERR_MEMORY;
    for (int32_t x = 0; x < width; x++)
        fit->across[x] = place_on(width, x);
    for (int32_t x = 0; x < fit->columns; x++)
        fit->sample_across[x] = fit->across[x * fit->step];
    for (int32_t y = 0; y < height; y++)
        fit->down[y] = place_on(height, y);
    for (int32_t y = 0; y < fit->rows; y++)
        for (int32_t x = 0; x < fit->columns; x++)
            fit->value[y * fit->columns + x] = ink[(size_t)(y * fit->step) * (size_t)width + (size_t)(x * fit->step)];
    return CNN_OK;
}

static void fit_end(light_fit *fit)
{
    free(fit->value);
    free(fit->rest);
    free(fit->paper);
    free(fit->inked);
    free(fit->found);
    free(fit->across);
    free(fit->down);
    free(fit->sample_across);
}

/* How much the paper deviates, as a share of the step from paper to ink on both sides of Otsu's threshold. */
static double unevenness(const float *values, size_t count)
{
    double sums[2] = {0}, squares = 0, counts[2] = {0};
    float cut = cnn_otsu(values, count);
    for (size_t i = 0; i < count; i++) {
        sums[values[i] > cut] += (double)values[i];
        counts[values[i] > cut]++;
        squares += values[i] > cut ? 0 : (double)values[i] * (double)values[i];
    }
    if (!(counts[0] > 0) || !(counts[1] > 0))
        return INFINITY;
    double paper = sums[0] / counts[0], variance = squares / counts[0] - paper * paper;
    return variance > 0 ? sqrt(variance) / (sums[1] / counts[1] - paper) : 0;
}

/* Fits in rounds from the samples that are marked as paper; *left says how uneven the paper still is. False when no
 * surface explains the light. */
static bool fit_rounds(light_fit *fit, double *left)
{
    size_t count = (size_t)fit->rows * (size_t)fit->columns;
    bool changed = true; /* else another round gives the same once more */
    for (int round = 0; round < ROUNDS && changed; round++) {
        fit_surface(fit);
        if (find_paper(fit, &changed) < LEAST_SAMPLES)
            return false;
    }
    *left = unevenness(fit->rest, count);
    return cnn_deviation(fit->rest, count, fit->paper, 1) <=
           useful_fit * cnn_deviation(fit->value, count, fit->paper, 1);
}

/* Finds the light's surface; false when the light is even or no surface explains it. The rounds begin with what is
 * below Otsu's threshold, which is right where the ink is much, and with everything, which is right where it is little.
 */
static bool find_light(light_fit *fit)
{
    size_t count = (size_t)fit->rows * (size_t)fit->columns;
    float cut = cnn_otsu(fit->value, count);
    for (size_t i = 0; i < count; i++)
        fit->paper[i] = fit->value[i] <= cut;
    if (cnn_deviation(fit->value, count, fit->paper, 1) < even_light)
        return false;
    double first[TERMS], first_left = INFINITY, second_left = INFINITY;
    bool found = fit_rounds(fit, &first_left);
    memcpy(first, fit->coefficient, sizeof first);
    memset(fit->paper, 1, count);
    double bound = found ? first_left : useful_fit * unevenness(fit->value, count);
    if (fit_rounds(fit, &second_left) && second_left < bound)
        return true;
    memcpy(fit->coefficient, first, sizeof first);
    return found;
}

cnn_status cnn_ink_flatten(float *ink, int32_t height, int32_t width)
{
    light_fit fit;
    cnn_status status = fit_begin(&fit, ink, height, width);
    if (status == CNN_OK && find_light(&fit))
        for (int32_t y = 0; y < height; y++) {
            float *row = ink + (size_t)y * (size_t)width;
            subtract_light(fit.coefficient, fit.down[y], fit.across, width, row, row);
        }
    fit_end(&fit);
    return status;
}
