#include "core/rans.h"

#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

enum {
    UNIT_BITS = 12,
    UNIT = 1 << UNIT_BITS, /* the sum of all frequencies */
    STATES = 4,
    LEAST = 1 << 16, /* a state between symbols: LEAST to 2^32 - 1; LEAST at both ends */
    WORD_BITS = 16,
    SYMBOLS = 255, /* number s stands for the value s - 127 */
    STATE_BYTES = 4 * STATES
};

/* ---- Frequencies ---- */

/* Makes counts frequencies: at least 1 for each symbol that occurs, 4096 together. */
static void set_frequencies(const uint64_t count[SYMBOLS], uint64_t all, uint32_t frequency[SYMBOLS])
{
    uint32_t sum = 0;
    for (int s = 0; s < SYMBOLS; s++) {
        const uint64_t share = (count[s] * UNIT + all / 2) / all;
        frequency[s] = count[s] == 0 ? 0 : share == 0 ? 1 : (uint32_t)share;
        sum += frequency[s];
    }
    /* What rounding left over or took too much, one by one where that changes a frequency least. */
    while (sum != UNIT) {
        int best = -1;
        for (int s = 0; s < SYMBOLS; s++)
            if (frequency[s] > (sum > UNIT ? 1u : 0u) && (best < 0 || frequency[s] > frequency[best]))
                best = s;
        frequency[best] += sum > UNIT ? UINT32_MAX : 1;
        sum += sum > UNIT ? UINT32_MAX : 1;
    }
}

/* For each symbol that occurs: how many symbols after the one before (or after -128) it comes, and its frequency. */
static void put_frequencies(cnn_bytes *parameters, const uint32_t frequency[SYMBOLS])
{
    int last = -1;
    for (int s = 0; s < SYMBOLS; s++) {
        if (frequency[s] == 0)
            continue;
        cnn_bytes_put_varint(parameters, (uint64_t)(s - last));
        cnn_bytes_put_varint(parameters, frequency[s]);
        last = s;
    }
}

/* A varint of at most two bytes, all that frequencies need; UINT32_MAX when there is none. */
static uint32_t take_number(const uint8_t **at, const uint8_t *end)
{
    if (*at == end)
        return UINT32_MAX;
    uint32_t value = *(*at)++;
    if (value < 128)
        return value;
    if (*at == end || **at == 0 || **at > 127)
        return UINT32_MAX;
    return (value & 127) | (uint32_t) * (*at)++ << 7;
}

static const char *get_frequencies(const uint8_t *parameters, size_t bytes, uint32_t frequency[SYMBOLS])
{
    const uint8_t *at = parameters, *end = parameters + bytes;
    uint32_t symbol = UINT32_MAX, sum = 0;
    memset(frequency, 0, SYMBOLS * sizeof *frequency);
    while (at < end) {
        const uint32_t gap = take_number(&at, end), value = take_number(&at, end);
        if (gap == 0 || gap > SYMBOLS || symbol + gap >= SYMBOLS || value == 0 || value > UNIT)
            return "has frequencies that are not valid";
        symbol += gap;
        frequency[symbol] = value;
        sum += value;
    }
    return sum == UNIT ? NULL : "has frequencies that do not add up to 4096";
}

/* ---- Coding ---- */

/* The last value first: what is put out in this order is read from the end. */
static void put_symbol(uint32_t *state, uint32_t start, uint32_t frequency, uint16_t **word)
{
    if (*state >= (uint64_t)frequency << (32 - UNIT_BITS)) {
        *--*word = (uint16_t)*state;
        *state >>= WORD_BITS;
    }
    *state = (*state / frequency << UNIT_BITS) + *state % frequency + start;
}

void cnn_rans_encode(const int8_t *values, int64_t count, cnn_bytes *parameters, cnn_bytes *data)
{
    uint64_t occurs[SYMBOLS] = {0};
    uint32_t frequency[SYMBOLS], start[SYMBOLS], state[STATES] = {LEAST, LEAST, LEAST, LEAST};
    for (int64_t i = 0; i < count; i++)
        occurs[values[i] + 127]++;
    set_frequencies(occurs, (uint64_t)count, frequency);
    put_frequencies(parameters, frequency);
    for (uint32_t s = 0, sum = 0; s < SYMBOLS; sum += frequency[s++])
        start[s] = sum;
    uint16_t *words = cnn_calloc((size_t)count, sizeof *words);
    if (!words) {
        data->failed = true;
        return;
    }
    uint16_t *end = words + count, *word = end;
    for (int64_t i = count - 1; i >= 0; i--)
        put_symbol(&state[i % STATES], start[values[i] + 127], frequency[values[i] + 127], &word);
    for (int k = 0; k < STATES; k++)
        cnn_bytes_put_u32(data, state[k]);
    cnn_bytes_put(data, word, (size_t)(end - word) * sizeof *word);
    free(words);
}

/* A symbol at each of the 4096 places: frequency - 1 in the upper 12 bits, place within the symbol, symbol. */
static void fill_slots(const uint32_t frequency[SYMBOLS], uint32_t slots[UNIT])
{
    for (uint32_t s = 0, at = 0; s < SYMBOLS; s++)
        for (uint32_t i = 0; i < frequency[s]; i++)
            slots[at++] = (frequency[s] - 1) << 20 | i << 8 | s;
}

/* The value at the state, which moves on. */
static inline int8_t get_symbol(const uint32_t *slots, uint32_t *state)
{
    const uint32_t slot = slots[*state % UNIT];
    *state = ((slot >> 20) + 1) * (*state >> UNIT_BITS) + (slot >> 8 & (UNIT - 1));
    return (int8_t)((int)(slot & 255) - 127);
}

typedef struct words {
    const uint8_t *at, *end;
} words;

static inline bool refill(uint32_t *state, words *w)
{
    if (*state >= LEAST)
        return true;
    if (w->at == w->end)
        return false;
    *state = *state << WORD_BITS | (uint32_t)(w->at[0] | w->at[1] << 8);
    w->at += 2;
    return true;
}

static const char *decode(const uint32_t *slots, uint32_t state[STATES], words *w, int64_t count, int8_t *values)
{
    bool enough = true;
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    int64_t i = 0;
    for (; i + STATES <= count && w->end - w->at >= 2 * STATES; i += STATES) {
        values[i] = get_symbol(slots, &a);
        values[i + 1] = get_symbol(slots, &b);
        values[i + 2] = get_symbol(slots, &c);
        values[i + 3] = get_symbol(slots, &d);
        refill(&a, w);
        refill(&b, w);
        refill(&c, w);
        refill(&d, w);
    }
    state[0] = a, state[1] = b, state[2] = c, state[3] = d;
    for (; i < count && enough; i++) {
        values[i] = get_symbol(slots, &state[i % STATES]);
        enough = refill(&state[i % STATES], w);
    }
    if (!enough)
        return "asks for more bytes than follow";
    for (int k = 0; k < STATES; k++)
        if (state[k] != LEAST)
            return "does not end with its values";
    return w->at == w->end ? NULL : "has more bytes than its values need";
}

cnn_status cnn_rans_decode(const uint8_t *parameters, size_t parameter_bytes, const uint8_t *data, size_t bytes,
                           int64_t count, int8_t *values, const char **wrong)
{
    uint32_t frequency[SYMBOLS], state[STATES];
    *wrong = get_frequencies(parameters, parameter_bytes, frequency);
    if (!*wrong && (bytes < STATE_BYTES || bytes % 2))
        *wrong = "has a length that cannot be";
    for (size_t k = 0; k < STATES && !*wrong; k++) {
        const uint8_t *from = data + 4 * k;
        state[k] = (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
        if (state[k] < LEAST)
            *wrong = "begins with a state that cannot be";
    }
    if (*wrong)
        return CNN_OK;
    uint32_t *slots = cnn_calloc(UNIT, sizeof *slots);
    if (!slots)
        return CNN_ERR_MEMORY;
    fill_slots(frequency, slots);
    words w = {data + STATE_BYTES, data + bytes};
    *wrong = decode(slots, state, &w, count, values);
    free(slots);
    return CNN_OK;
}
