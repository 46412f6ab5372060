/* Calibration: the INT8 scale of every value in the network, from images of the training part. */
#ifndef CNN_OPTIMIZE_CALIBRATE_H
#define CNN_OPTIMIZE_CALIBRATE_H

#include "cnn/optimize.h"
#include "optimize/observe.h"

/* A seeded order of the split's training images, by hash(seed, index): numbers first to first+count of it (those that
 * there are), sorted ascending. free() them. */
cnn_status cnn_calibration_pick(const cnn_model *model, const cnn_dataset *data, int32_t first, int32_t count,
                                uint64_t seed, int32_t **index, int32_t *picked);

/* Some images of a data set. */
typedef struct cnn_image_list {
    const cnn_dataset *data;
    const int32_t *index; /* [count] */
    int32_t count;
} cnn_image_list;

/* What is known of a float model's values, by node. */
typedef struct cnn_calibration {
    int node_count;
    cnn_range **range;                 /* what was seen; NULL where the scale does not come from that */
    float (*limit)[CNN_OBSERVER_AUTO]; /* the range that each observer picks */
    cnn_observer *observer;            /* the one that sets the scale */
    double **mean;                     /* [channels] of a convolution's or linear layer's values; else NULL */
    float *scale;                      /* of the node's int8 value; 0 for the output, which stays f32 */
    bool round;                        /* scales are rounded up to powers of 2^(1/16) */
} cnn_calibration;

/* Runs the model in f32 on the images and fills everything but observer and scale; of the limits those of this
 * observer, with CNN_OBSERVER_AUTO of all. Free with cnn_calibration_free. */
cnn_status cnn_calibrate(cnn_model *model, const cnn_image_list *images, cnn_observer observer, double percentile,
                         const char *device, cnn_calibration *calibration);
void cnn_calibration_free(cnn_calibration *calibration);

/* Sets the scales as the nodes' observers say. A value that was always 0 gets that of its input: any can stand for 0.
 */
cnn_status cnn_calibration_set_scales(const cnn_model *model, cnn_calibration *calibration);

/* The node whose int8 value layer `node`, which has weights, is requantized to: itself or its ReLU. */
int cnn_calibration_target(const cnn_model *model, int node);

#endif
