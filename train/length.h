/* How long a run is: epochs of whole passes over the training images, the last of which may be shorter, each in
 * batches, the last of which may be smaller. */
#ifndef CNN_TRAIN_LENGTH_H
#define CNN_TRAIN_LENGTH_H

#include <stdint.h>

typedef struct cnn_run_length {
    int32_t batch;
    int32_t epoch_images; /* of a whole epoch */
    int64_t images;       /* of the run */
} cnn_run_length;

static inline int64_t cnn_run_batches(const cnn_run_length *run, int64_t images)
{
    return (images + run->batch - 1) / run->batch;
}

static inline int64_t cnn_run_epochs(const cnn_run_length *run)
{
    return (run->images + run->epoch_images - 1) / run->epoch_images;
}

/* Images that `epochs` epochs have; the run's for more than it has. */
static inline int64_t cnn_run_images(const cnn_run_length *run, int64_t epochs)
{
    return epochs < cnn_run_epochs(run) ? epochs * run->epoch_images : run->images;
}

/* Steps that `epochs` epochs have; the run's for more than it has. */
static inline int64_t cnn_run_steps(const cnn_run_length *run, int64_t epochs)
{
    const int64_t images = cnn_run_images(run, epochs);
    return images / run->epoch_images * cnn_run_batches(run, run->epoch_images) +
           cnn_run_batches(run, images % run->epoch_images);
}

/* Images trained on after `step` steps, when `epochs` epochs are whole. */
static inline int64_t cnn_run_images_at(const cnn_run_length *run, int64_t epochs, int64_t step)
{
    const int64_t before = cnn_run_images(run, epochs), end = cnn_run_images(run, epochs + 1);
    const int64_t images = before + (step - cnn_run_steps(run, epochs)) * run->batch;
    return images < end ? images : end;
}

#endif
