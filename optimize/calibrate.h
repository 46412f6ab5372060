/* Calibration: the INT8 scale of every value in the network, from images of the training part. */
#ifndef CNN_OPTIMIZE_CALIBRATE_H
#define CNN_OPTIMIZE_CALIBRATE_H

#include "cnn/optimize.h"

/* The training images that calibration reads: `images` of them (all, when there are fewer), those of the split's
 * training part with the smallest hash(seed, index). Ascending; free() them. */
cnn_status cnn_calibration_pick(const cnn_model *model, const cnn_dataset *data, int images, uint64_t seed,
                                int32_t **index, int32_t *count);

/* Results by node. */
typedef struct cnn_calibration {
    float *scale;    /* [node_count] of the node's int8 value; 0 for the output, which stays f32 */
    double *clipped; /* [node_count] share of the observed values beyond the range; 0 where nothing was observed */
} cnn_calibration;

/* Runs the model in f32 and sets the scales. The model is not changed. Free with cnn_calibration_free. */
cnn_status cnn_calibrate(cnn_model *model, const cnn_dataset *data, const cnn_quantize_options *options,
                         cnn_calibration *calibration);
void cnn_calibration_free(cnn_calibration *calibration);

#endif
