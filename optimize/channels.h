/* Channel groups: which layers' output channels can only go together, and taking channels out of a model. */
#ifndef CNN_OPTIMIZE_CHANNELS_H
#define CNN_OPTIMIZE_CHANNELS_H

#include "core/model.h"

/* Channels that several nodes share: a convolution, the BN, ReLU, pooling and depthwise convolution behind it, and
 * through an `add` both of its sides. */
typedef struct cnn_channel_group {
    int32_t channels;
    int32_t original; /* how many there were before the first of several steps of pruning; else the same */
    int32_t layers;   /* convolutions and linear layers that make these channels, depthwise ones aside */
    bool derived;     /* a concat's: which of them stay is what its inputs keep */
    bool fixed;       /* stays whole: the model's input or output, or a layer that cannot lose channels */
    bool *keep;       /* [channels], all true at first */
    double *score;    /* [channels], sum over the layers, 0 at first */
} cnn_channel_group;

typedef struct cnn_channel_map {
    int *group; /* [node_count] group of the node's output channels */
    cnn_channel_group *groups;
    int group_count;
} cnn_channel_map;

/* Finds the groups, numbered by their first node. Free with cnn_channel_map_free, which allows a zeroed map. */
cnn_status cnn_channel_map_make(const cnn_model *model, cnn_channel_map *map);
void cnn_channel_map_free(cnn_channel_map *map);

/* Whether a node reads the group as a piece of a concat. */
bool cnn_channel_is_piece(const cnn_model *model, const cnn_channel_map *map, int group);

/* Channels of a group that are to stay. */
int32_t cnn_channel_group_kept(const cnn_channel_group *group);

/* Removes every channel that is not kept, with all that depends on it: rows of weights, biases, BN parameters,
 * and the inputs of the layers that read it. On failure the model is left half changed: work on a copy. */
cnn_status cnn_channels_remove(cnn_model *model, const cnn_channel_map *map);

/* Exchanges two models' contents: how a pass that worked on a copy takes effect. */
void cnn_model_swap(cnn_model *a, cnn_model *b);

#endif
