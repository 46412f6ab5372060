/* Weights in blocks: a grid of `high` outputs x `wide` inputs, each block at one filter position, over weights
 * [K,R,S,C]; the last blocks in either direction may be cut short. Of a convolution the inputs are the channels; a
 * linear layer takes all R*S*C values of its input in that order, at one position. A grid of 1 x 1 has the single
 * weights, in their order in memory. */
#ifndef CNN_CORE_WEIGHT_BLOCKS_H
#define CNN_CORE_WEIGHT_BLOCKS_H

#include "core/model.h"

/* A group of CNN_SPARSE_2_4: one output's inputs [4j, 4j+4) at a filter position, less where a tensor ends, and how
 * many of them may be other than 0. */
enum { CNN_GROUP_INPUTS = 4, CNN_GROUP_NONZEROS = 2 };

typedef struct cnn_block_grid {
    int32_t outputs, taps, inputs; /* of the weights: K, R*S, C; or K, 1, R*S*C */
    int32_t high, wide;            /* of a block */
} cnn_block_grid;

/* The elements first + row*stride + column of the weights. */
typedef struct cnn_weight_block {
    int64_t first, stride;
    int32_t rows, columns;
} cnn_weight_block;

/* The grid over a node's weights. */
cnn_block_grid cnn_block_grid_of(const cnn_node *node, int32_t high, int32_t wide);

/* Blocks are numbered by output, then filter position, then input. */
int64_t cnn_block_count(const cnn_block_grid *grid);
cnn_weight_block cnn_block_get(const cnn_block_grid *grid, int64_t number);

/* How many blocks of a node's weights are zero. */
int64_t cnn_block_zeros(const cnn_node *node, const cnn_block_grid *grid);

#endif
