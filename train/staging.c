/* Augments the images of a batch in parallel. */
#include "train/staging.h"

#include "core/memory.h"
#include "core/pool.h"

#include <stdlib.h>

enum { MAX_TASKS = 16 }; /* of a batch; each has scratch space of its own */

static cnn_augment_shape shape_of(const cnn_dataset *data)
{
    return (cnn_augment_shape){data->height, data->width, data->channels};
}

static size_t image_bytes(const cnn_dataset *data)
{
    return (size_t)data->height * (size_t)data->width * (size_t)data->channels;
}

cnn_status cnn_staging_open(cnn_staging *staging, const cnn_dataset *source, const cnn_augment_recipe *recipe,
                            int batch)
{
    const size_t count = (size_t)batch;
    *staging = (cnn_staging){.data = *source, .source = source, .recipe = *recipe};
    staging->data.count = batch;
    staging->data.images = cnn_calloc(count, image_bytes(source));
    staging->data.labels = cnn_calloc(count, 1);
    staging->index = cnn_calloc(count, sizeof *staging->index);
    staging->scratch = cnn_calloc(MAX_TASKS * cnn_augment_scratch(shape_of(source)), sizeof *staging->scratch);
    if (!staging->data.images || !staging->data.labels || !staging->index || !staging->scratch) {
        cnn_staging_close(staging);
        return CNN_ERR_MEMORY;
    }
    for (int i = 0; i < batch; i++)
        staging->index[i] = i;
    return CNN_OK;
}

void cnn_staging_close(cnn_staging *staging)
{
    if (!staging->source)
        return;
    free(staging->data.images);
    free(staging->data.labels);
    free(staging->index);
    free(staging->scratch);
    *staging = (cnn_staging){0};
}

typedef struct fill {
    cnn_staging *staging;
    uint64_t seed;
    int32_t epoch;
    const int32_t *images; /* [count] */
    int count, tasks;
} fill;

/* Every tasks-th image, so that each task has as many that are augmented. */
static void fill_task(void *context, int task, int worker)
{
    const fill *f = context;
    const cnn_dataset *source = f->staging->source;
    cnn_dataset *batch = &f->staging->data;
    const cnn_augment_shape shape = shape_of(source);
    const size_t bytes = image_bytes(source);
    float *scratch = f->staging->scratch + (size_t)task * cnn_augment_scratch(shape);
    (void)worker;
    for (int i = task; i < f->count; i += f->tasks) {
        const int32_t image = f->images[i];
        cnn_augment_params params;
        batch->labels[i] = source->labels[image];
        cnn_augment_draw(&f->staging->recipe, f->seed, f->epoch, image, batch->labels[i], &params);
        cnn_augment_apply(&f->staging->recipe, &params, shape, source->images + (size_t)image * bytes,
                          batch->images + (size_t)i * bytes, scratch);
    }
}

void cnn_staging_fill(cnn_staging *staging, uint64_t seed, int32_t epoch, const int32_t *images, int count)
{
    fill f = {.staging = staging, .seed = seed, .epoch = epoch, .images = images, .count = count};
    f.tasks = count < MAX_TASKS ? count : MAX_TASKS;
    cnn_parallel(f.tasks, fill_task, &f);
}
