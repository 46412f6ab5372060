/* How much the answers of a model suffer when one layer alone is changed. */
#ifndef CNN_OPTIMIZE_SENSITIVITY_H
#define CNN_OPTIMIZE_SENSITIVITY_H

#include "cnn/optimize.h"
#include "core/model.h"
#include "optimize/answers.h"

/* What is tried on each layer with weights. */
typedef struct cnn_trial {
    int bits; /* rounds its weights to as many, 2 to 8, one step an output channel; 0: prunes it */
    cnn_status (*prune)(cnn_model *model, const cnn_prune_options *options, cnn_prune_result *result);
    cnn_prune_options pruning; /* for `prune`; `only` is set to the layer */
} cnn_trial;

/* What came of it, on the images that were asked for. */
typedef struct cnn_effect {
    bool applies;       /* false: the layer has no weights, or nothing of it can be pruned like that */
    int32_t right;      /* images answered right */
    int32_t changed;    /* images answered otherwise than by the model as it is */
    double logit_error; /* sqrt(sum (y-x)^2 / sum x^2) over all logits, x of the model as it is */
} cnn_effect;

/* A seeded choice of the split's validation images: `count` of them by hash(seed, index), or all when there are fewer;
 * ascending. free() them. */
cnn_status cnn_sensitivity_pick(const cnn_split *split, int32_t count, uint64_t seed, int32_t **index, int32_t *picked);

/* Tries everything on everything. The model is float and stays as it is. effects: [node_count][trial_count]; *right:
 * images that the model as it is answers right. `progress` may be NULL and hears how many images went through a
 * network, of images->count * (1 + trial_count * layers with weights) at most. */
cnn_status cnn_sensitivity(const cnn_model *model, const cnn_image_list *images, const cnn_trial *trials,
                           int trial_count, const char *device, cnn_measure_fn progress, void *context,
                           cnn_effect *effects, int32_t *right);

/* Rounds f32 weights [K,R,S,C] to integers of `bits` bits times a step of their output channel, as cnn_quantize does
 * where no bias asks for more. */
void cnn_weights_round(cnn_param *weight, int bits);

#endif
