/* What the steps of quantization share: calibrate, choose observers, quantize, correct biases, measure. */
#ifndef CNN_OPTIMIZE_QUANTIZE_H
#define CNN_OPTIMIZE_QUANTIZE_H

#include "cnn/quant.h"
#include "core/model.h"
#include "optimize/calibrate.h"

typedef struct cnn_quantize_job {
    cnn_model *model; /* float; not changed */
    const cnn_quantize_options *options;
    cnn_image_list images;     /* calibration */
    cnn_image_list search;     /* others, to choose observers by; none unless the observer is auto */
    cnn_image_list validation; /* the held-out images, for auto's last word; likewise */
    cnn_calibration calibration;
    cnn_model *int8;   /* the result */
    int64_t done, all; /* progress: images that went through the network */
} cnn_quantize_job;

/* The step of an output channel's weights w [count], biases aside: that of the largest weight for 127 levels, else the
 * one of least squared error; 1 when all are 0. */
float cnn_weight_step(const float *w, int64_t count, int32_t levels);

/* The whole number that stands for a weight: the nearest within -levels..levels. */
static inline int cnn_weight_number(float w, float step, int32_t levels)
{
    const int value = cnn_quant_value(w, step);
    return value > levels ? levels : value < -levels ? -levels : value;
}

/* Refuses weights and biases that are not finite, by name. */
cnn_status cnn_quantize_check_finite(const cnn_node *node);

/* Counts images for the progress callback; CNN_ERR_CANCELLED when it asks to stop. */
cnn_status cnn_quantize_advance(cnn_quantize_job *job, int64_t images);

/* An INT8 copy of the float model with the scales of the calibration, and weights as the options say, each the nearest
 * number. */
cnn_status cnn_quantize_make(const cnn_model *model, const cnn_calibration *calibration,
                             const cnn_quantize_options *options, cnn_model **made);

/* Makes job->int8 anew with the observers as they are now, biases corrected when the options say so. */
cnn_status cnn_quantize_build(cnn_quantize_job *job, cnn_rounding rounding);

/* adaptive.c: rounds the weights of job->int8 anew, and how many images it counts for that. */
cnn_status cnn_quantize_round(cnn_quantize_job *job);
int64_t cnn_quantize_round_work(const cnn_model *model);

/* search.c: sets the observer of every observed node by the error of the logits on the search images. */
cnn_status cnn_quantize_search(cnn_quantize_job *job);

/* challenge.c: sets one observer everywhere where that is clearly right on more validation images. Leaves job->int8 as
 * the last one tried made it. */
cnn_status cnn_quantize_challenge(cnn_quantize_job *job);

/* correct.c: shifts the biases of job->int8. */
cnn_status cnn_quantize_correct_bias(cnn_quantize_job *job);

/* Sums over the values of a node, exact x and INT8 y, on the calibration images. */
typedef struct cnn_distortion {
    double signal; /* x^2 */
    double other;  /* y^2 */
    double both;   /* x*y */
    double noise;  /* (x-y)^2 */
} cnn_distortion;

/* distortion.c: what INT8 makes of the int8 values of layers with weights, and of the logits; other nodes stay 0.
 * distortion: [node_count] */
cnn_status cnn_quantize_measure(cnn_quantize_job *job, cnn_distortion *distortion);

#endif
