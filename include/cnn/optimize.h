/* Making a trained model smaller and faster: pruning, folding, calibration, INT8.
 *
 * Each pass changes the model in place, or fails and leaves it as it was. */
#ifndef CNN_OPTIMIZE_H
#define CNN_OPTIMIZE_H

#include "cnn/dataset.h"
#include "cnn/model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What says that a channel or a weight matters least (formulas: optimize/score.c, optimize/taylor.c). */
typedef enum cnn_criterion {
    CNN_CRITERION_L1,     /* sum of its absolute weights */
    CNN_CRITERION_L2,     /* root of the sum of their squares */
    CNN_CRITERION_BN,     /* |gamma| of the batch norm behind the layer, l2 where there is none; channels only */
    CNN_CRITERION_TAYLOR, /* first-order change of the loss on training images */
    CNN_CRITERION_RANDOM  /* by seed */
} cnn_criterion;

typedef struct cnn_prune_options {
    double ratio; /* share of output channels to remove, 0 < ratio < 1 */
    bool global;  /* ratio of all channels together, by scores normalized per layer */
    cnn_criterion criterion;
    uint64_t seed;           /* of random, and of taylor's images */
    const cnn_dataset *data; /* taylor: images to train on (those held out are not used) */
    const char *device;      /* taylor: where its gradients are computed; NULL: automatic */
} cnn_prune_options;

/* What was done. */
typedef struct cnn_prune_result {
    int64_t candidates; /* channels of the prunable layers, a group of tied layers counted once */
    int64_t removed;    /* of them */
    int fallbacks;      /* layers that criterion bn scored by l2 ... */
    char fallback[64];  /* ... and the first of them */
} cnn_prune_result;

/* Removes output channels of conv and linear layers (but those of the last one) and what depends on them: BN
 * parameters and the next layers' input channels. Each layer keeps >= 1/8 of its channels and >= 4. `result` may be
 * NULL. */
CNN_API cnn_status cnn_prune_channels(cnn_model *model, const cnn_prune_options *options, cnn_prune_result *result);

/* Folds each BN into the convolution or linear layer before it, which gains a bias, and removes the BN node. */
CNN_API cnn_status cnn_fold_batchnorm(cnn_model *model);

typedef enum cnn_observer { CNN_OBSERVER_MAX, CNN_OBSERVER_PERCENTILE } cnn_observer;

typedef struct cnn_quantize_options {
    cnn_observer observer;
    double percentile; /* of |x|, 99.99 */
    int images;        /* calibration images, 512, drawn by seed from the training part */
    uint64_t seed;
    const char *device;
} cnn_quantize_options;

/* Percentile 99.99, 512 images, seed 1, automatic device. */
CNN_API void cnn_quantize_options_init(cnn_quantize_options *options);

/* One row of the per-layer account. */
typedef struct cnn_quantize_row {
    char layer[64];
    float scale;    /* of the layer's output; 0 for logits */
    double clipped; /* share of calibration values beyond the range */
} cnn_quantize_row;

/* Calibrates on `data` and makes the model INT8. The model must have no BN left. Rows may be NULL; free() them. */
CNN_API cnn_status cnn_quantize(cnn_model *model, const cnn_dataset *data, const cnn_quantize_options *options,
                                cnn_quantize_row **rows, int *row_count);

#ifdef __cplusplus
}
#endif
#endif
