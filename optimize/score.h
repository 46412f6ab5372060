/* How much a channel, a weight or a block of weights matters: the criteria of pruning. */
#ifndef CNN_OPTIMIZE_SCORE_H
#define CNN_OPTIMIZE_SCORE_H

#include "cnn/optimize.h"
#include "core/model.h"
#include "core/weight_blocks.h"

/* What is scored of each layer that has weights. */
typedef enum cnn_score_unit {
    CNN_SCORE_CHANNELS, /* its output channels */
    CNN_SCORE_WEIGHTS,  /* the elements of its weights [K,R,S,C] */
    CNN_SCORE_BLOCKS    /* the blocks of CNN_BLOCK_16X4 of its weights */
} cnn_score_unit;

/* The grid over a node's weights whose blocks are such units. */
cnn_block_grid cnn_score_grid(const cnn_node *node, cnn_score_unit unit);

typedef struct cnn_scores {
    double **of; /* [node_count]: of a node with weights its units; NULL for the others. The smallest goes first. */
    int node_count;
    int fallbacks;             /* layers without a batch norm that criterion bn scored by l2 */
    const char *fallback_name; /* the first of them, a name of the model's; NULL: none */
} cnn_scores;

/* Scores all layers with weights. Of the options it reads criterion, and for random seed, for taylor data, seed and
 * device. Refuses weights that are not finite, by name. Free with cnn_scores_free, which allows zeroed scores. */
cnn_status cnn_scores_make(cnn_model *model, cnn_score_unit unit, const cnn_prune_options *options, cnn_scores *scores);
void cnn_scores_free(cnn_scores *scores);

/* The magnitude of the gradient of each single weight, pruned or not. Of the options it reads data, seed and device. */
cnn_status cnn_gradients_make(cnn_model *model, const cnn_prune_options *options, cnn_scores *gradients);

/* Divides the scores of single weights by the bits that each of them takes in a file (optimize/price.c). Refuses, by
 * name, layers whose weights are on no grid. */
cnn_status cnn_scores_per_bit(const cnn_model *model, cnn_scores *scores);

/* What all pruning refuses: shares outside of (0,1), quantized models. what: "channels". The second only the latter. */
cnn_status cnn_prune_check(const cnn_model *model, const cnn_prune_options *options, const char *what);
cnn_status cnn_prune_check_float(const cnn_model *model);

/* Gives weights without a mask one that calls all of them live. */
cnn_status cnn_prune_add_mask(cnn_param *weight);

/* The batch norm that reads nothing but what node `node` makes, or -1. */
int cnn_batchnorm_behind(const cnn_model *model, int node);

/* Adds to score[node], for every node with weights, the first-order Taylor importance of its units
 * (optimize/taylor.c). */
cnn_status cnn_score_taylor(cnn_model *model, cnn_score_unit unit, const cnn_prune_options *options, double **score);

/* Adds to score[node], for every node with weights, the magnitude of each weight's gradient, of pruned ones as well. */
cnn_status cnn_score_gradient(cnn_model *model, const cnn_prune_options *options, double **score);

/* The LAMP score of weights and blocks (optimize/lamp.c). */
cnn_status cnn_score_lamp(cnn_model *model, cnn_score_unit unit, const cnn_prune_options *options, double **score);

#endif
