/* Mixed precision inside: which widths weights can have, and how a budget of bits is shared among layers. */
#ifndef CNN_OPTIMIZE_PRECISION_H
#define CNN_OPTIMIZE_PRECISION_H

#include "cnn/optimize.h"
#include "core/model.h"

/* Levels on either side of 0 that fit in so many bits: 1 in 2, 127 in 8. */
static inline int32_t cnn_levels_of_bits(int bits)
{
    return (1 << (bits - 1)) - 1;
}

/* The least number of bits that holds so many levels. */
static inline int cnn_bits_of_levels(int32_t levels)
{
    int bits = CNN_LEAST_BITS;
    while (cnn_levels_of_bits(bits) < levels)
        bits++;
    return bits;
}

/* The levels that a layer's weights have or are to have: those of its grid, its own, or those that others get. */
static inline int32_t cnn_node_levels(const cnn_node *node, int32_t standard)
{
    if (node->param[CNN_PARAM_WEIGHT].grid)
        return node->param[CNN_PARAM_WEIGHT].levels;
    return node->levels ? node->levels : standard;
}

/* Weights that no mask holds at 0. */
int64_t cnn_weights_unpruned(const cnn_param *weight);

/* Sets the widths of the rows so that the sum of their errors is least, while their weights have at most `average` bits
 * on average, but for a 4096th of that budget a row. */
cnn_status cnn_bits_allocate(cnn_bits_row *rows, int row_count, double average);

#endif
