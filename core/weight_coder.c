/* The context model of i8 weights.
 *
 * Values are coded kernel by kernel, in the order [n][c][h][w]: a bitmap of live columns when many are dead, then for
 * each value whether it is zero, its sign, the number of its bits, and its bits from the second on. A column is a place
 * [h,w,c] that all outputs have; a row is all values of one output. */
#include "core/weight_coder.h"

#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

enum {
    DENSITIES = 18,
    LEVELS = 10, /* of a column */
    PLACES = 64, /* in a kernel */
    PLACE_SIDE = 8,
    SIZES = 7, /* 1, 2-3, 4-7, ..., 64-127 */
    MEANS = 16,
    LEASTS = 65,
    NO_LEAST = 128, /* of a row without nonzeros so far */
    ZERO_INPUTS = 6,
    SIGN_INPUTS = 2,
    SIZE_INPUTS = 4,
    BIT_INPUTS = 2,
    LIVE_INPUTS = 3
};

/* A counter for each context of each decision. */
typedef struct counters {
    cnn_mix_counter some_dead, live_near[16], live_around[7][2], live_share[DENSITIES];
    cnn_mix_counter zero_near[5][2][2], zero_level[LEVELS], zero_both[LEVELS][3][DENSITIES / 2], zero_around[16];
    cnn_mix_counter zero_channel[3][DENSITIES], zero_place[PLACES];
    cnn_mix_counter sign_near[9], sign_across[9];
    cnn_mix_counter size[SIZES - 1], size_near[SIZES - 1][SIZES + 1], size_mean[SIZES - 1][MEANS];
    cnn_mix_counter size_least[SIZES - 1][LEASTS];
    cnn_mix_counter bit[SIZES][64], bit_least[LEASTS][SIZES][64];
} counters;

typedef struct walk {
    cnn_mix_coder *coder;
    counters *seen;
    cnn_mixer dead_mixer, live_mixer, zero_mixer, sign_mixer, size_mixer[SIZES - 1], bit_mixer[SIZES];
    int8_t *values;
    int32_t n, h, w, c;
    int64_t line, row; /* values from a place to the one below, and of an output: w c, h w c */
    uint8_t *live;     /* [row] */
    int64_t live_count;
    uint64_t total;                        /* nonzeros so far */
    uint32_t *column;                      /* [row]: of each column */
    uint8_t *level;                        /* [row]: how that compares with other columns */
    uint32_t *channel_ones, *channel_seen; /* [c]: nonzeros and values so far */
} walk;

/* A place, and what was coded before around it; 0 beyond the edges. */
typedef struct spot {
    int64_t column;
    uint32_t place; /* in the kernel: y * w + x */
    int left, left2, up, up_left, up_right, output, channel;
} spot;

/* What is known of the row being coded. */
typedef struct row_state {
    uint32_t ones, seen;
    uint32_t kernel_ones; /* in the kernel being coded */
    uint32_t mean;        /* of the magnitudes, in 1/16; 0: none yet */
    uint32_t least;
} row_state;

/* 2 log2(x) for x >= 1: twice the place of the highest bit, plus the bit after it. */
static inline uint32_t half_octaves(uint32_t x)
{
    uint32_t top = 0;
    while (x >> top > 1)
        top++;
    return 2 * top + (top ? x >> (top - 1) & 1 : 0);
}

/* How many of `seen` are `ones`, quantized. */
static inline uint32_t density(uint32_t ones, uint32_t seen)
{
    if (ones == 0)
        return seen < 4 ? 0 : seen < 16 ? 1 : seen < 64 ? 2 : 3;
    return 4 + half_octaves((uint32_t)(1 + (uint64_t)127 * ones / seen)) * 13 / 14;
}

static inline int sign_of(int value)
{
    return (value > 0) - (value < 0) + 1;
}

/* Bits of a magnitude. */
static inline uint32_t size_of(uint32_t magnitude)
{
    uint32_t size = 0;
    while (magnitude >> size)
        size++;
    return size;
}

/* ---- Live columns ---- */

static void find_live(walk *k, int64_t *dead)
{
    for (int32_t n = 0; n < k->n; n++)
        for (int64_t i = 0; i < k->row; i++)
            k->live[i] |= k->values[n * k->row + i] != 0;
    for (int64_t i = 0; i < k->row; i++)
        *dead += !k->live[i];
}

static void code_live_column(walk *k, int32_t y, int32_t x, int32_t c, uint32_t coded)
{
    counters *m = k->seen;
    uint8_t *v = k->live + y * k->line + (int64_t)x * k->c + c;
    const int left = x > 0 ? v[-k->c] : 0, left2 = x > 1 ? v[-2 * (int64_t)k->c] : 0;
    const int up = y > 0 ? v[-k->line] : 0, up2 = y > 1 ? v[-2 * k->line] : 0;
    const int up_left = y > 0 && x > 0 ? v[-k->line - k->c] : 0;
    const int up_right = y > 0 && x + 1 < k->w ? v[-k->line + k->c] : 0;
    const int channel = c > 0 ? v[-1] : 0;
    cnn_mix_counter *const context[LIVE_INPUTS] = {
        &m->live_near[8 * left + 4 * up + 2 * up_right + up_left],
        &m->live_around[left + up + up_left + up_right + left2 + up2][channel],
        &m->live_share[density((uint32_t)k->live_count, coded)],
    };
    *v = (uint8_t)cnn_mix_code(k->coder, *v, &k->live_mixer, context, LIVE_INPUTS);
    k->live_count += *v;
}

/* Without the bitmap every column counts as live. */
static void code_live(walk *k)
{
    int64_t dead = 0;
    uint32_t coded = 0;
    if (!k->coder->decoding)
        find_live(k, &dead);
    cnn_mix_counter *const context[1] = {&k->seen->some_dead};
    if (!cnn_mix_code(k->coder, 8 * dead >= k->row, &k->dead_mixer, context, 1)) {
        memset(k->live, 1, (size_t)k->row);
        k->live_count = k->row;
        return;
    }
    for (int32_t c = 0; c < k->c; c++)
        for (int32_t y = 0; y < k->h; y++)
            for (int32_t x = 0; x < k->w; x++)
                code_live_column(k, y, x, c, coded++);
}

/* ---- Values ---- */

static spot look_around(const walk *k, int32_t n, int32_t y, int32_t x, int32_t c)
{
    spot at = {.column = y * k->line + (int64_t)x * k->c + c, .place = (uint32_t)(y * k->w + x)};
    const int8_t *v = k->values + n * k->row + at.column;
    at.left = x > 0 ? v[-k->c] : 0;
    at.left2 = x > 1 ? v[-2 * (int64_t)k->c] : 0;
    at.up = y > 0 ? v[-k->line] : 0;
    at.up_left = y > 0 && x > 0 ? v[-k->line - k->c] : 0;
    at.up_right = y > 0 && x + 1 < k->w ? v[-k->line + k->c] : 0;
    at.output = n > 0 ? v[-k->row] : 0;
    at.channel = c > 0 ? v[-1] : 0;
    return at;
}

static int code_zero(walk *k, int nonzero, const spot *at, const row_state *row, int32_t c)
{
    counters *m = k->seen;
    const uint32_t near = (uint32_t)((at->left != 0) + (at->up != 0) + (at->up_left != 0) + (at->up_right != 0));
    const uint32_t fill = row->kernel_ones * 3 / (at->place + 1), level = k->level[at->column];
    const int32_t y = (int32_t)at->place / k->w, x = (int32_t)at->place % k->w;
    const uint32_t place = k->h * (int64_t)k->w <= PLACES
                               ? at->place
                               : (uint32_t)(y * PLACE_SIDE / k->h * PLACE_SIDE + x * PLACE_SIDE / k->w);
    cnn_mix_counter *const context[ZERO_INPUTS] = {
        &m->zero_near[near][at->left2 != 0][at->output != 0],
        &m->zero_level[level],
        &m->zero_both[level][near < 2 ? near : 2][density(row->ones, row->seen) / 2],
        &m->zero_around[8 * (at->left != 0) + 4 * (at->up != 0) + 2 * (at->channel != 0) + (at->output != 0)],
        &m->zero_channel[fill < 2 ? fill : 2][density(k->channel_ones[c], k->channel_seen[c])],
        &m->zero_place[place],
    };
    return cnn_mix_code(k->coder, nonzero, &k->zero_mixer, context, ZERO_INPUTS);
}

static uint32_t code_magnitude(walk *k, uint32_t magnitude, const spot *at, const row_state *row)
{
    counters *m = k->seen;
    const int near = abs(at->left) > abs(at->up) ? at->left : at->up;
    const uint32_t near_size = size_of((uint32_t)abs(near)), least = row->least / 2, want = size_of(magnitude);
    const uint32_t mean = row->mean ? half_octaves(row->mean) : 0, mean_class = mean < MEANS ? mean : MEANS - 1;
    uint32_t size = 1;
    for (; size < SIZES; size++) {
        const uint32_t i = size - 1;
        cnn_mix_counter *const context[SIZE_INPUTS] = {&m->size[i], &m->size_near[i][near_size],
                                                       &m->size_mean[i][mean_class], &m->size_least[i][least]};
        if (!cnn_mix_code(k->coder, size < want, &k->size_mixer[i], context, SIZE_INPUTS))
            break;
    }
    uint32_t value = 1;
    for (uint32_t below = size - 1; below-- > 0;) {
        cnn_mix_counter *const context[BIT_INPUTS] = {&m->bit[size - 1][value], &m->bit_least[least][size - 1][value]};
        const int bit = magnitude >> below & 1;
        value = value << 1 | (uint32_t)cnn_mix_code(k->coder, bit, &k->bit_mixer[size - 1], context, BIT_INPUTS);
    }
    return value;
}

static int code_nonzero(walk *k, int value, const spot *at, row_state *row)
{
    counters *m = k->seen;
    cnn_mix_counter *const context[SIGN_INPUTS] = {&m->sign_near[3 * sign_of(at->left) + sign_of(at->up)],
                                                   &m->sign_across[3 * sign_of(at->channel) + sign_of(at->output)]};
    const int negative = cnn_mix_code(k->coder, value < 0, &k->sign_mixer, context, SIGN_INPUTS);
    const uint32_t magnitude = code_magnitude(k, (uint32_t)abs(value), at, row);
    if (row->mean == 0)
        row->mean = 16 * magnitude;
    else
        row->mean = (uint32_t)((int32_t)row->mean + (16 * (int32_t)magnitude - (int32_t)row->mean) / 8);
    row->least = magnitude < row->least ? magnitude : row->least;
    return negative ? -(int)magnitude : (int)magnitude;
}

static void code_value(walk *k, int32_t n, int32_t c, const spot *at, row_state *row)
{
    int8_t *v = k->values + n * k->row + at->column;
    const int nonzero = code_zero(k, *v != 0, at, row, c);
    row->seen++;
    k->channel_seen[c]++;
    const int value = nonzero ? code_nonzero(k, *v, at, row) : 0;
    if (k->coder->decoding)
        *v = (int8_t)value;
    if (!nonzero)
        return;
    row->ones++;
    row->kernel_ones++;
    k->channel_ones[c]++;
    k->column[at->column]++;
    k->total++;
}

/* level[i]: 0 in the first row; then 1 and one more for each power 2^(j/2), j = 1 to 8, that 1 + 3 column[i] / (mean +
 * 1/20) reaches, the mean being that of live columns. */
static void set_levels(walk *k, int32_t n)
{
    static const uint32_t powers[LEVELS - 2] = {362, 512, 724, 1024, 1448, 2048, 2896, 4096}; /* in 1/256 */
    uint64_t least[LEVELS - 2];
    const uint64_t live = (uint64_t)k->live_count;
    if (n == 0 || live == 0)
        return;
    for (int j = 0; j < LEVELS - 2; j++)
        least[j] = ((powers[j] - 256) * (20 * k->total + live) + 15360 * live - 1) / (15360 * live);
    for (int64_t i = 0; i < k->row; i++) {
        uint8_t level = 1;
        while (level < LEVELS - 1 && k->column[i] >= least[level - 1])
            level++;
        k->level[i] = level;
    }
}

static void code_row(walk *k, int32_t n)
{
    row_state row = {.least = NO_LEAST};
    set_levels(k, n);
    for (int32_t c = 0; c < k->c; c++) {
        row.kernel_ones = 0;
        for (int32_t y = 0; y < k->h; y++)
            for (int32_t x = 0; x < k->w; x++) {
                const spot at = look_around(k, n, y, x, c);
                if (k->live[at.column])
                    code_value(k, n, c, &at, &row);
                else if (k->coder->decoding)
                    k->values[n * k->row + at.column] = 0;
            }
    }
}

static void start(walk *k)
{
    cnn_mix_start_counters((cnn_mix_counter *)k->seen, sizeof *k->seen / sizeof(cnn_mix_counter));
    cnn_mix_start_mixer(&k->dead_mixer, 1);
    cnn_mix_start_mixer(&k->live_mixer, LIVE_INPUTS);
    cnn_mix_start_mixer(&k->zero_mixer, ZERO_INPUTS);
    cnn_mix_start_mixer(&k->sign_mixer, SIGN_INPUTS);
    for (int i = 0; i < SIZES; i++)
        cnn_mix_start_mixer(&k->bit_mixer[i], BIT_INPUTS);
    for (int i = 0; i < SIZES - 1; i++)
        cnn_mix_start_mixer(&k->size_mixer[i], SIZE_INPUTS);
}

cnn_status cnn_weights_code(cnn_mix_coder *coder, const cnn_tensor_desc *desc, int8_t *values)
{
    walk k = {.coder = coder, .values = values, .n = desc->n, .h = desc->h, .w = desc->w, .c = desc->c};
    k.line = (int64_t)desc->w * desc->c;
    k.row = desc->h * k.line;
    k.seen = cnn_calloc(1, sizeof *k.seen);
    k.live = cnn_calloc((size_t)k.row, sizeof *k.live);
    k.level = cnn_calloc((size_t)k.row, sizeof *k.level);
    k.column = cnn_calloc((size_t)k.row, sizeof *k.column);
    k.channel_ones = cnn_calloc((size_t)k.c, sizeof *k.channel_ones);
    k.channel_seen = cnn_calloc((size_t)k.c, sizeof *k.channel_seen);
    const bool have = k.seen && k.live && k.level && k.column && k.channel_ones && k.channel_seen;
    if (have) {
        start(&k);
        code_live(&k);
        for (int32_t n = 0; n < k.n; n++)
            code_row(&k, n);
    }
    free(k.seen);
    free(k.live);
    free(k.level);
    free(k.column);
    free(k.channel_ones);
    free(k.channel_seen);
    return have ? CNN_OK : CNN_ERR_MEMORY;
}
