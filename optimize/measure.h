/* What the before/after table shows of a model. */
#ifndef CNN_OPTIMIZE_MEASURE_H
#define CNN_OPTIMIZE_MEASURE_H

#include "cnn/dataset.h"
#include "cnn/model.h"

typedef struct cnn_measurement {
    double accuracy; /* fraction of 1, on the images of `index`; NaN when there are none */
    int64_t file_bytes;
    int64_t weights, macs; /* cnn_model_weight_count, cnn_model_macs */
    double ms_per_image;   /* latency: the median of repeated runs on one image */
    double images_per_s;   /* throughput: the images of `index` in batches of 64; NaN when there are none */
} cnn_measurement;

/* Called now and then with how many images are done. */
typedef void (*cnn_measure_fn)(void *context, int32_t done);

/* Measures the model on images index[0..count) of `data`; the file's size is that of a file packed like this. progress
 * may be NULL. */
cnn_status cnn_measure(cnn_model *model, cnn_pack pack, const cnn_dataset *data, const int32_t *index, int32_t count,
                       const char *device, cnn_measure_fn progress, void *context, cnn_measurement *measurement);

#endif
