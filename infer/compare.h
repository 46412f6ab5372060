/* Two devices in lockstep, layer by layer.
 *
 * Both run the program that they always run, fused as the device likes. The value of a node is compared when both store
 * it; the logits always are. They agree in a node when
 *
 *   INT8    not a byte differs (the logits of a quantized model included), as docs/decisions.md promises;
 *   float   rms(a - b) <= depth * 1e-5 * rms(b), where depth is the most layers with weights on a way from the image
 *           to the node: each may err by what kcheck allows a convolution by transformation. NaN and infinities must
 *           be the same. */
#ifndef CNN_INFER_COMPARE_H
#define CNN_INFER_COMPARE_H

#include "cnn/session.h"
#include "core/model.h"

typedef struct infer_difference {
    const char *layer, *ends_in; /* "conv1" ... "pool1"; names of the model's */
    cnn_dtype dtype;             /* CNN_NONE: not compared, it is not stored on both */
    int depth;
    int64_t values, unequal;
    double largest;                 /* |a - b| */
    double largest_value;           /* |b| */
    double difference_sq, value_sq; /* sums of (a - b)^2 and b^2 */
    double relative_rms, allowed;   /* after the last batch */
    bool agrees;
} infer_difference;

typedef struct infer_comparison {
    infer_difference *nodes; /* [node_count] */
    int node_count, compared;
    int first; /* node that diverges first; -1: all agree */
} infer_comparison;

/* Runs `count` images, `batch` at a time, on both. images: [count,H,W,C]. Free with infer_comparison_free. */
cnn_status infer_compare_sessions(cnn_session *a, cnn_session *b, const cnn_model *model, const uint8_t *images,
                                  int count, int batch, infer_comparison *comparison);
void infer_comparison_free(infer_comparison *comparison);

#endif
