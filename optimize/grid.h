/* Weights on a grid: whole numbers within -levels..levels, times a step. */
#ifndef CNN_OPTIMIZE_GRID_H
#define CNN_OPTIMIZE_GRID_H

#include "core/model.h"

enum { CNN_GRID_MOST_LEVELS = 127 };

/* The step with which the nearest points on the grid have the least squared error, a normal number; 1 where all values
 * are 0. Values are finite. */
float cnn_grid_fit(const float *values, int64_t count, int32_t levels);

/* Of a node whose weights train on a grid: the whole numbers of their points, [K,R,S,C]. */
void cnn_grid_numbers(const cnn_node *node, int8_t *numbers);

#endif
