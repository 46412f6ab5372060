/* Predicts the weights of an output from those that earlier outputs have at the same places: outputs of a trained layer
 * look for patterns that have much in common (docs/format.md, "Prediction").
 *
 *   prediction = sum over kept rows of tap * seen; after each value the taps move by step * error * seen
 *
 * (least mean squares, normalized). Taps begin at 0 with each row. All in integers: the same bits on every machine. */
#ifndef CNN_CORE_ROW_PREDICTOR_H
#define CNN_CORE_ROW_PREDICTOR_H

#include "cnn/status.h"

#include <stdint.h>

enum {
    CNN_ROWS_KEPT = 256,
    CNN_ROW_UNIT = 1 << 13 /* of predictions and taps */
};

typedef struct cnn_row_predictor {
    int64_t places;                  /* values of a row */
    int32_t room;                    /* rows that can be kept */
    int32_t rows, next;              /* rows that are kept, and where the next one goes */
    int8_t *row;                     /* [places]: the values of the row that is being coded */
    int8_t *seen;                    /* [places][room]: those of kept rows, 32 being the mean magnitude of their row */
    int32_t energy[CNN_ROWS_KEPT];   /* mean square of a kept row's `seen` */
    int16_t tap[CNN_ROWS_KEPT];      /* in 1/2^13 */
    int16_t fraction[CNN_ROWS_KEPT]; /* of the taps, in 1/2^21: 0 to 255 */
    int64_t step;                    /* of learning, in 1/2^24 */
} cnn_row_predictor;

/* For a tensor of rows [rows][places]. CNN_ERR_MEMORY is the only failure. */
cnn_status cnn_row_predictor_open(cnn_row_predictor *predictor, int32_t rows, int64_t places);
void cnn_row_predictor_close(cnn_row_predictor *predictor);

void cnn_row_start(cnn_row_predictor *predictor);

/* The prediction for a place, in 1/CNN_ROW_UNIT. Its magnitude is below 2^29. */
int32_t cnn_row_predict(const cnn_row_predictor *predictor, int64_t place);

/* Learns the value of the place that `prediction` was made for. Places that no row learns count as zeros. */
void cnn_row_learn(cnn_row_predictor *predictor, int64_t place, int32_t prediction, int value);

/* Keeps the row that was learned, in the place of the oldest when all room is taken. */
void cnn_row_end(cnn_row_predictor *predictor);

#endif
