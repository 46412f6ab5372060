/* A batch that is prepared on the host: augmented images and their labels, in the place of the data set. */
#ifndef CNN_TRAIN_STAGING_H
#define CNN_TRAIN_STAGING_H

#include "train/augment.h"

typedef struct cnn_staging {
    cnn_dataset data; /* the batch: data.count images, which cnn_staging_fill writes */
    int32_t *index;   /* 0 .. data.count-1 */
    const cnn_dataset *source;
    cnn_augment_recipe recipe;
    float *scratch;
} cnn_staging;

/* Makes room for `batch` images of `source`, which is kept by reference. On failure nothing needs to be freed. */
cnn_status cnn_staging_open(cnn_staging *staging, const cnn_dataset *source, const cnn_augment_recipe *recipe,
                            int batch);
void cnn_staging_close(cnn_staging *staging); /* zero-initialized ones too */

/* Fills the batch's first images with images[0..count) of the source as they are in that epoch. */
void cnn_staging_fill(cnn_staging *staging, uint64_t seed, int32_t epoch, const int32_t *images, int count);

#endif
