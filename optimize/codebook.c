/* Fitting a codebook (Han et al., "Deep Compression", ICLR 2016, with integers and steps per channel).
 *
 * Weights w[k][i] become step[k] * c, c of the book. Steps begin in proportion to the root mean square of their
 * channel. By turns: with the steps fixed the book is best that splits u = w/step, each weighted by step^2, into ranges
 * with the least sum of squares around their means, which are the numbers, rounded (k-means in one dimension, solved
 * exactly by dynamic programming over 255 bins: Wang and Song, "Ckmeans.1d.dp", 2011). With the book fixed each step is
 * sum(w q) / sum(q^2) over its channel's nearest numbers q. The best turn is taken. */
#include "optimize/codebook.h"

#include "core/error.h"
#include "core/memory.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BINS = 255, MIDDLE = 127, TURNS = 5 };

/* Sums over the weights of all bins before one: of step^2, of step^2 u, of step^2 u^2. */
typedef struct moments {
    double weight[BINS + 1], first[BINS + 1], second[BINS + 1];
    bool zero; /* 0 has to be in the book */
} moments;

/* ---- The book ---- */

static void gather(const cnn_param *weight, const float *step, moments *m)
{
    const int64_t row = cnn_desc_elements(&weight->desc) / weight->desc.n;
    const float *w = weight->data;
    memset(m, 0, sizeof *m);
    for (int64_t i = 0; i < weight->desc.n * row; i++) {
        if (weight->mask && !weight->mask[i]) {
            m->zero = true;
            continue;
        }
        const double s = (double)step[i / row], share = s * s, u = fmax(-MIDDLE, fmin(MIDDLE, (double)w[i] / s));
        const int bin = (int)rint(u) + MIDDLE + 1;
        m->weight[bin] += share;
        m->first[bin] += share * u;
        m->second[bin] += share * u * u;
    }
    for (int b = 1; b <= BINS; b++) {
        m->weight[b] += m->weight[b - 1];
        m->first[b] += m->first[b - 1];
        m->second[b] += m->second[b - 1];
    }
}

/* Whether bins [from, to) stand for 0 whatever their mean is. */
static bool is_zero(const moments *m, int from, int to)
{
    return m->zero && from <= MIDDLE && to > MIDDLE;
}

/* The error of one number for bins [from, to). */
static double cost_of(const moments *m, int from, int to)
{
    const double weight = m->weight[to] - m->weight[from], first = m->first[to] - m->first[from];
    const double second = m->second[to] - m->second[from];
    return weight <= 0 || is_zero(m, from, to) ? second : fmax(second - first * first / weight, 0);
}

/* The best book of `count` ranges. */
static void split(const moments *m, int count, cnn_codebook *book)
{
    double cost[CNN_CODEBOOK_MOST + 1][BINS + 1];
    uint8_t begin[CNN_CODEBOOK_MOST + 1][BINS + 1]; /* of the last range */
    for (int to = 0; to <= BINS; to++) {
        cost[1][to] = cost_of(m, 0, to);
        begin[1][to] = 0;
    }
    for (int ranges = 2; ranges <= count; ranges++)
        for (int to = 0; to <= BINS; to++) {
            cost[ranges][to] = cost[ranges - 1][to];
            begin[ranges][to] = (uint8_t)to;
            for (int from = 0; from < to; from++) {
                const double sum = cost[ranges - 1][from] + cost_of(m, from, to);
                if (sum < cost[ranges][to]) {
                    cost[ranges][to] = sum;
                    begin[ranges][to] = (uint8_t)from;
                }
            }
        }
    int8_t found[CNN_CODEBOOK_MOST]; /* descending */
    int numbers = 0;
    for (int ranges = count, to = BINS; ranges > 0; ranges--) {
        const int from = begin[ranges][to];
        const double weight = m->weight[to] - m->weight[from];
        if (is_zero(m, from, to))
            found[numbers++] = 0;
        else if (weight > 0)
            found[numbers++] = (int8_t)rint((m->first[to] - m->first[from]) / weight);
        to = from;
    }
    book->count = 0;
    for (int i = numbers - 1; i >= 0; i--)
        if (book->count == 0 || found[i] > book->value[book->count - 1])
            book->value[book->count++] = found[i];
}

int cnn_codebook_nearest(const cnn_codebook *book, float w, float step)
{
    const float u = w / step;
    int i = 0;
    while (i + 1 < book->count && u > 0.5f * (float)(book->value[i] + book->value[i + 1]))
        i++;
    return book->value[i];
}

/* ---- The steps ---- */

static void first_steps(const cnn_param *weight, float *step)
{
    const int64_t row = cnn_desc_elements(&weight->desc) / weight->desc.n;
    double crest = 0;
    for (int32_t k = 0; k < weight->desc.n; k++) {
        const float *w = (const float *)weight->data + k * row;
        double squares = 0, largest = 0;
        for (int64_t i = 0; i < row; i++) {
            squares += (double)w[i] * (double)w[i];
            largest = fmax(largest, fabs((double)w[i]));
        }
        const double rms = sqrt(squares / (double)row);
        crest = rms > 0 ? fmax(crest, largest / rms) : crest;
        step[k] = (float)rms;
    }
    for (int32_t k = 0; k < weight->desc.n; k++) {
        const float scaled = (float)((double)step[k] * crest / MIDDLE);
        step[k] = step[k] > 0 ? fmaxf(scaled, FLT_MIN) : 1;
    }
}

static int number_of(const cnn_param *weight, const cnn_codebook *book, int64_t i, float step)
{
    const bool pruned = weight->mask && !weight->mask[i];
    return pruned ? 0 : cnn_codebook_nearest(book, ((const float *)weight->data)[i], step);
}

static void improve_steps(const cnn_param *weight, const cnn_codebook *book, float *step)
{
    const int64_t row = cnn_desc_elements(&weight->desc) / weight->desc.n;
    for (int32_t k = 0; k < weight->desc.n; k++) {
        double wq = 0, qq = 0;
        for (int64_t i = k * row; i < (k + 1) * row; i++) {
            const double q = number_of(weight, book, i, step[k]);
            wq += (double)((const float *)weight->data)[i] * q;
            qq += q * q;
        }
        if (wq > 0)
            step[k] = fmaxf((float)(wq / qq), FLT_MIN);
    }
}

static double error_of(const cnn_param *weight, const cnn_codebook *book, const float *step)
{
    const int64_t count = cnn_desc_elements(&weight->desc), row = count / weight->desc.n;
    double error = 0;
    for (int64_t i = 0; i < count; i++) {
        const float s = step[i / row];
        const double off = (double)((const float *)weight->data)[i] - number_of(weight, book, i, s) * (double)s;
        error += off * off;
    }
    return error;
}

cnn_status cnn_codebook_fit(const cnn_param *weight, int bits, cnn_codebook *book, float *step)
{
    cnn_status status = CNN_OK;
    const size_t channels = (size_t)weight->desc.n;
    double least = INFINITY;
    float *now = cnn_calloc(channels, sizeof *now);
    moments *m = cnn_calloc(1, sizeof *m);
    if (!now || !m)
        CNN_TRY(CNN_ERR_MEMORY);
    first_steps(weight, now);
    *book = (cnn_codebook){.count = 1};
    memcpy(step, now, channels * sizeof *now);
    for (int turn = 0; turn < TURNS; turn++) {
        cnn_codebook made;
        gather(weight, now, m);
        if (!(m->weight[BINS] > 0))
            break; /* all are 0 */
        split(m, 1 << bits, &made);
        improve_steps(weight, &made, now);
        const double error = error_of(weight, &made, now);
        if (error < least) {
            least = error;
            *book = made;
            memcpy(step, now, channels * sizeof *now);
        }
    }
out:
    free(now);
    free(m);
    return status;
}
