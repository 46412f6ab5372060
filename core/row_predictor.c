#include "core/row_predictor.h"

#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

enum {
    SEEN_UNIT = 32, /* what a row's mean magnitude becomes */
    MOST_SEEN = 127,
    MOST_TAP = (1 << 14) - 1, /* 2: with MOST_SEEN and CNN_ROWS_KEPT, predictions stay below 2^29 */
    MOST_MOVE = 255,          /* with MOST_SEEN, a move stays in 16 bits */
    RATE = 214748365,         /* 0.05 * 2^32 */
    LEAST_ENERGY = 8192       /* as of 16 rows with half of their weights 0 */
};

cnn_status cnn_row_predictor_open(cnn_row_predictor *predictor, int32_t rows, int64_t places)
{
    const int32_t room = rows - 1 < CNN_ROWS_KEPT ? rows - 1 : CNN_ROWS_KEPT;
    *predictor = (cnn_row_predictor){.places = places, .room = room};
    predictor->row = cnn_calloc((size_t)places, sizeof *predictor->row);
    predictor->seen = cnn_calloc((size_t)places, (size_t)room);
    return predictor->row && predictor->seen ? CNN_OK : CNN_ERR_MEMORY;
}

void cnn_row_predictor_close(cnn_row_predictor *predictor)
{
    free(predictor->row);
    free(predictor->seen);
}

void cnn_row_start(cnn_row_predictor *predictor)
{
    int64_t energy = LEAST_ENERGY;
    for (int32_t i = 0; i < predictor->rows; i++)
        energy += predictor->energy[i];
    predictor->step = RATE / energy;
    memset(predictor->tap, 0, sizeof predictor->tap);
    memset(predictor->fraction, 0, sizeof predictor->fraction);
}

int32_t cnn_row_predict(const cnn_row_predictor *predictor, int64_t place)
{
    const int8_t *seen = predictor->seen + place * predictor->room;
    int32_t sum = 0;
    for (int32_t i = 0; i < predictor->rows; i++)
        sum += (int16_t)seen[i] * predictor->tap[i];
    return sum;
}

static inline int16_t within(int16_t value, int16_t most)
{
    return value > most ? most : value < -most ? (int16_t)-most : value;
}

void cnn_row_learn(cnn_row_predictor *predictor, int64_t place, int32_t prediction, int value)
{
    const int8_t *seen = predictor->seen + place * predictor->room;
    int16_t *tap = predictor->tap, *fraction = predictor->fraction;
    const int64_t error = (int64_t)value * CNN_ROW_UNIT - prediction, move = error * predictor->step / (1 << 24);
    const int16_t by = (int16_t)(move > MOST_MOVE ? MOST_MOVE : move < -MOST_MOVE ? -MOST_MOVE : move);
    predictor->row[place] = (int8_t)value;
    if (by == 0)
        return;
    for (int32_t i = 0; i < predictor->rows; i++) {
        const int16_t sum = (int16_t)(fraction[i] + by * seen[i]), carry = (int16_t)(sum >> 8);
        fraction[i] = sum & 255;
        tap[i] = within((int16_t)(tap[i] + carry), MOST_TAP);
    }
}

void cnn_row_end(cnn_row_predictor *predictor)
{
    int64_t sum = 0, ones = 0, squares = 0;
    if (predictor->room == 0)
        return;
    for (int64_t i = 0; i < predictor->places; i++) {
        sum += abs(predictor->row[i]);
        ones += predictor->row[i] != 0;
    }
    const int64_t mean = ones > 0 ? (16 * sum + ones / 2) / ones : 16; /* in 1/16 */
    for (int64_t i = 0; i < predictor->places; i++) {
        const int64_t scaled = predictor->row[i] * (16 * SEEN_UNIT) / mean;
        const int64_t kept = scaled > MOST_SEEN ? MOST_SEEN : scaled < -MOST_SEEN ? -MOST_SEEN : scaled;
        predictor->seen[i * predictor->room + predictor->next] = (int8_t)kept;
        squares += kept * kept;
    }
    predictor->energy[predictor->next] = (int32_t)(squares / predictor->places);
    predictor->rows += predictor->rows < predictor->room;
    predictor->next = (predictor->next + 1) % predictor->room;
}
