/* The context model of i8 weights.
 *
 * Values are coded kernel by kernel, in the order [n][c][h][w]: a bitmap of live columns when many are dead, then for
 * each value whether it is zero, its sign, the number of its bits, and its bits from the second on. A column is a place
 * [h,w,c] that all outputs have; a row is all values of one output.
 *
 * Two guesses at a value are contexts of its decisions: one from the neighbours in its kernel, one from the rows before
 * (row_predictor.h). They count beside the mean magnitude of the row's nonzeros, in classes. */
#include "core/weight_coder.h"

#include "core/memory.h"
#include "core/row_predictor.h"

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
    CLASSES = 32,   /* of guesses, and of what is around */
    MOST_MEAN = 32, /* the last so many nonzeros make a row's mean */
    ZERO_INPUTS = 6,
    SIGN_INPUTS = 5,
    SIZE_INPUTS = 5,
    BIT_INPUTS = 3,
    LIVE_INPUTS = 3
};

/* A counter for each context of each decision. */
typedef struct counters {
    cnn_mix_counter some_dead, live_near[16], live_around[7][2], live_share[DENSITIES];
    cnn_mix_counter zero_both[LEVELS][3][DENSITIES / 2], zero_around[16], zero_channel[3][DENSITIES];
    cnn_mix_counter zero_place[PLACES], zero_local[CLASSES][DENSITIES / 2], zero_rows[CLASSES][DENSITIES / 2];
    cnn_mix_counter sign_near[9], sign_across[9], sign_local[2][CLASSES], sign_rows[CLASSES][LEASTS];
    cnn_mix_counter sign_both[CLASSES][2][CLASSES];
    cnn_mix_counter size_near[SIZES - 1][SIZES + 1], size_least[SIZES - 1][LEASTS];
    cnn_mix_counter size_busy[SIZES - 1][CLASSES][MEANS], size_local[SIZES - 1][2][CLASSES];
    cnn_mix_counter size_rows[SIZES - 1][2][CLASSES];
    cnn_mix_counter bit_least[LEASTS][SIZES][64], bit_local[2][CLASSES / 4][SIZES][64];
    cnn_mix_counter bit_rows[2][CLASSES / 2][SIZES][64];
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
    uint8_t density_of[129];               /* of so many nonzeros in 127, plus 1 */
    cnn_row_predictor predictor;
    uint16_t *chances; /* [n][row]: of each value, of not being 0; NULL: nobody asks */
} walk;

/* A guess at a value. */
typedef struct guess {
    bool negative;
    uint32_t class;
} guess;

/* A place, and what was coded before around it; 0 beyond the edges. */
typedef struct spot {
    int64_t column;
    uint32_t place; /* in the kernel: y * w + x */
    int left, left2, up, up_left, up_right, output, channel;
    uint32_t busy; /* how large values around are */
    guess local, rows;
} spot;

/* What is known of the row being coded. */
typedef struct row_state {
    uint32_t ones, seen;
    uint32_t kernel_ones; /* in the kernel being coded */
    uint32_t mean;        /* of the magnitudes, in 1/16; 0: none yet */
    uint32_t mean_class;
    uint32_t usual_size; /* of the mean, 1 to 6 */
    uint32_t least;
    uint32_t density;
    int64_t place; /* in the order of coding */
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
static inline uint32_t density(const walk *k, uint32_t ones, uint32_t seen)
{
    if (ones == 0)
        return seen < 4 ? 0 : seen < 16 ? 1 : seen < 64 ? 2 : 3;
    return k->density_of[1 + (ones < UINT32_MAX / 127 ? 127 * ones / seen : (uint32_t)((uint64_t)127 * ones / seen))];
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
        &m->live_share[density(k, (uint32_t)k->live_count, coded)],
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

/* Of a magnitude, in units of the row's mean. */
static inline uint32_t class_of(uint32_t magnitude, uint32_t mean)
{
    const uint32_t class = magnitude / (mean ? mean : 16);
    return class < CLASSES ? class : CLASSES - 1;
}

static void make_guesses(spot *at, const row_state *row, int32_t prediction)
{
    const int local = 16 * at->left + 3 * at->left2 + 9 * at->up + 2 * at->up_left + 8 * at->up_right;
    const int busy =
        2 * abs(at->left) + abs(at->left2) + 2 * abs(at->up) + abs(at->up_left) + abs(at->up_right) + abs(at->channel);
    at->busy = class_of(64 * (uint32_t)busy, row->mean);
    at->local = (guess){local < 0, class_of(4 * (uint32_t)abs(local), row->mean)};
    at->rows = (guess){prediction < 0, class_of(3 * (uint32_t)abs(prediction) / 128, row->mean)};
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
        &m->zero_both[level][near < 2 ? near : 2][row->density / 2],
        &m->zero_around[8 * (at->left != 0) + 4 * (at->up != 0) + 2 * (at->channel != 0) + (at->output != 0)],
        &m->zero_channel[fill < 2 ? fill : 2][density(k, k->channel_ones[c], k->channel_seen[c])],
        &m->zero_place[place],
        &m->zero_local[at->local.class][row->density / 2],
        &m->zero_rows[at->rows.class][row->density / 2],
    };
    return cnn_mix_code(k->coder, nonzero, &k->zero_mixer, context, ZERO_INPUTS);
}

/* Whether a value is negative. All is seen from the side of the guess that the rows before make. */
static int code_sign(walk *k, int negative, const spot *at, const row_state *row)
{
    counters *m = k->seen;
    const int turn = at->rows.negative, near = 3 * sign_of(at->left) + sign_of(at->up);
    const int across = 3 * sign_of(at->channel) + sign_of(at->output);
    const int apart = at->local.negative != at->rows.negative;
    cnn_mix_counter *const context[SIGN_INPUTS] = {
        &m->sign_near[turn ? 8 - near : near], &m->sign_across[turn ? 8 - across : across],
        &m->sign_local[apart][at->local.class], &m->sign_rows[at->rows.class][row->least / 2],
        &m->sign_both[at->rows.class][apart][at->local.class]};
    return turn ^ cnn_mix_code(k->coder, turn ^ negative, &k->sign_mixer, context, SIGN_INPUTS);
}

/* What the decisions about a magnitude know. */
typedef struct scene {
    uint32_t least, near_size, busy, mean_class;
    uint32_t as_local, local_class; /* whether it has the sign that was guessed, and how large the guess is */
    uint32_t as_rows, rows_class;
} scene;

/* Whether a magnitude has more than `size` bits. */
static int code_more(walk *k, int more, uint32_t size, const scene *in)
{
    counters *m = k->seen;
    const uint32_t i = size - 1;
    cnn_mix_counter *const context[SIZE_INPUTS] = {
        &m->size_near[i][in->near_size], &m->size_least[i][in->least], &m->size_busy[i][in->busy][in->mean_class],
        &m->size_local[i][in->as_local][in->local_class], &m->size_rows[i][in->as_rows][in->rows_class]};
    return cnn_mix_code(k->coder, more, &k->size_mixer[i], context, SIZE_INPUTS);
}

/* From the usual size upwards, or downwards. */
static uint32_t code_size(walk *k, uint32_t want, uint32_t usual, const scene *in)
{
    uint32_t size = usual;
    while (size < SIZES && code_more(k, want > size, size, in))
        size++;
    if (size > usual)
        return size;
    while (size > 1 && !code_more(k, want > size - 1, size - 1, in))
        size--;
    return size;
}

static uint32_t code_magnitude(walk *k, uint32_t magnitude, int negative, const spot *at, const row_state *row)
{
    counters *m = k->seen;
    const int near = abs(at->left) > abs(at->up) ? at->left : at->up;
    const scene in = {.least = row->least / 2,
                      .near_size = size_of((uint32_t)abs(near)),
                      .busy = at->busy,
                      .mean_class = row->mean_class,
                      .as_local = negative == at->local.negative,
                      .local_class = at->local.class,
                      .as_rows = negative == at->rows.negative,
                      .rows_class = at->rows.class};
    const uint32_t size = code_size(k, size_of(magnitude), row->usual_size, &in);
    uint32_t value = 1;
    for (uint32_t below = size - 1; below-- > 0;) {
        cnn_mix_counter *const context[BIT_INPUTS] = {&m->bit_least[in.least][size - 1][value],
                                                      &m->bit_local[in.as_local][in.local_class / 4][size - 1][value],
                                                      &m->bit_rows[in.as_rows][in.rows_class / 2][size - 1][value]};
        const int bit = magnitude >> below & 1;
        value = value << 1 | (uint32_t)cnn_mix_code(k->coder, bit, &k->bit_mixer[size - 1], context, BIT_INPUTS);
    }
    return value;
}

static int code_nonzero(walk *k, int value, const spot *at, row_state *row)
{
    const int negative = code_sign(k, value < 0, at, row);
    const uint32_t magnitude = code_magnitude(k, (uint32_t)abs(value), negative, at, row);
    const int32_t many = row->ones + 1 < MOST_MEAN ? (int32_t)row->ones + 1 : MOST_MEAN;
    row->mean = (uint32_t)((int32_t)row->mean + (16 * (int32_t)magnitude - (int32_t)row->mean) / many);
    const uint32_t mean = half_octaves(row->mean);
    row->mean_class = mean < MEANS ? mean : MEANS - 1;
    const uint32_t size = size_of(row->mean / 16);
    row->usual_size = size < SIZES ? size : SIZES - 1;
    row->least = magnitude < row->least ? magnitude : row->least;
    return negative ? -(int)magnitude : (int)magnitude;
}

static void code_value(walk *k, int32_t n, int32_t c, spot *at, row_state *row)
{
    int8_t *v = k->values + n * k->row + at->column;
    const int32_t prediction = cnn_row_predict(&k->predictor, row->place);
    make_guesses(at, row, prediction);
    const int nonzero = code_zero(k, *v != 0, at, row, c);
    if (k->chances)
        k->chances[n * k->row + at->column] = (uint16_t)k->coder->chance;
    const int value = nonzero ? code_nonzero(k, *v, at, row) : 0;
    if (k->coder->decoding)
        *v = (int8_t)value;
    cnn_row_learn(&k->predictor, row->place, prediction, value);
    row->seen++;
    k->channel_seen[c]++;
    if (nonzero) {
        row->ones++;
        row->kernel_ones++;
        k->channel_ones[c]++;
        k->column[at->column]++;
        k->total++;
    }
    row->density = density(k, row->ones, row->seen);
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
    row_state row = {.least = NO_LEAST, .usual_size = 1};
    set_levels(k, n);
    cnn_row_start(&k->predictor);
    for (int32_t c = 0; c < k->c; c++) {
        row.kernel_ones = 0;
        for (int32_t y = 0; y < k->h; y++)
            for (int32_t x = 0; x < k->w; x++, row.place++) {
                const int64_t column = y * k->line + (int64_t)x * k->c + c;
                if (k->live[column]) {
                    spot at = look_around(k, n, y, x, c);
                    code_value(k, n, c, &at, &row);
                } else if (k->coder->decoding) {
                    k->values[n * k->row + column] = 0;
                }
            }
    }
    cnn_row_end(&k->predictor);
}

static void start(walk *k)
{
    for (uint32_t i = 1; i < sizeof k->density_of; i++)
        k->density_of[i] = (uint8_t)(4 + half_octaves(i) * 13 / 14);
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

static cnn_status code(cnn_mix_coder *coder, const cnn_tensor_desc *desc, int8_t *values, uint16_t *chances)
{
    walk k = {
        .coder = coder, .values = values, .n = desc->n, .h = desc->h, .w = desc->w, .c = desc->c, .chances = chances};
    k.line = (int64_t)desc->w * desc->c;
    k.row = desc->h * k.line;
    k.seen = cnn_calloc(1, sizeof *k.seen);
    k.live = cnn_calloc((size_t)k.row, sizeof *k.live);
    k.level = cnn_calloc((size_t)k.row, sizeof *k.level);
    k.column = cnn_calloc((size_t)k.row, sizeof *k.column);
    k.channel_ones = cnn_calloc((size_t)k.c, sizeof *k.channel_ones);
    k.channel_seen = cnn_calloc((size_t)k.c, sizeof *k.channel_seen);
    const cnn_status opened = cnn_row_predictor_open(&k.predictor, desc->n, k.row);
    const bool have = opened == CNN_OK && k.seen && k.live && k.level && k.column && k.channel_ones && k.channel_seen;
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
    cnn_row_predictor_close(&k.predictor);
    return have ? CNN_OK : CNN_ERR_MEMORY;
}

cnn_status cnn_weights_code(cnn_mix_coder *coder, const cnn_tensor_desc *desc, int8_t *values)
{
    return code(coder, desc, values, NULL);
}

cnn_status cnn_weights_chances(const cnn_tensor_desc *desc, const int8_t *values, uint16_t *nonzero, size_t *bytes)
{
    cnn_mix_coder *coder = cnn_mix_encoder();
    if (!coder)
        return CNN_ERR_MEMORY;
    memset(nonzero, 0, (size_t)cnn_desc_elements(desc) * sizeof *nonzero);
    cnn_status status = code(coder, desc, (int8_t *)(uintptr_t)values, nonzero); /* only decoding writes */
    cnn_mix_finish(coder);
    *bytes = coder->out.length;
    if (coder->out.failed)
        status = CNN_ERR_MEMORY;
    cnn_mix_free(coder);
    return status;
}
