/* Errors of models on images that training never saw. Compiled and run by bench/validation.
 *
 *   validation MODEL.cnn...
 *
 * One line for each: errors on the training images and on the validation images, and on COPIES copies of each
 * validation image that are changed as little as another hand or another scan would, with the mean cross-entropy of
 * these. Still it takes the mean of several seeds to tell two recipes apart: of 18 files of 3.2 kB, those that were
 * best on one half of the validation images were no better on the other (correlation of errors -0.2, of losses 0.2).
 * The test set is not read. */
#define _POSIX_C_SOURCE 200809L
#include "cnn/session.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/model.h"
#include "core/session.h"
#include "kernels/augment/apply.h"
#include "optimize/answers.h"
#include "train/augment.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COPIES = 16, SEED = 77 };
static const char mild[] = "shift=0.7,rotate=4,scale=0.04,shear=0.03,elastic=0.25";

typedef struct study {
    cnn_model *model;
    cnn_dataset *data; /* not its own */
    cnn_split split;
    cnn_session *session;
    cnn_augment_recipe recipe;
    uint8_t *images; /* [validation_count,H,W,C] */
    float *logits, *scratch;
} study;

/* The data of the model before serve again, if they are the same. */
static cnn_status load_data(const cnn_model *model, cnn_dataset **data)
{
    if (*data && (*data)->id == model->dataset)
        return CNN_OK;
    cnn_dataset_free(*data);
    *data = NULL;
    return cnn_dataset_load(cnn_dataset_name(model->dataset), CNN_SUBSET_TRAIN, NULL, data);
}

static cnn_status open_study(study *s, const char *path, cnn_dataset **data)
{
    cnn_status status = CNN_OK;
    CNN_TRY(cnn_model_load(path, &s->model));
    CNN_TRY(load_data(s->model, data));
    s->data = *data;
    CNN_TRY(cnn_model_check_data(s->model, s->data));
    CNN_TRY(cnn_model_split(s->model, s->data, &s->split));
    CNN_TRY(cnn_session_open(s->model, &(cnn_session_options){.device = "auto"}, &s->session));
    CNN_TRY(cnn_augment_parse(mild, 1, s->data, &s->recipe));
    const cnn_augment_shape shape = {s->data->height, s->data->width, s->data->channels};
    s->images = cnn_calloc((size_t)s->split.validation_count, cnn_session_image_bytes(s->session));
    s->logits = cnn_calloc((size_t)s->split.validation_count * (size_t)s->data->classes, sizeof *s->logits);
    s->scratch = cnn_calloc(cnn_augment_scratch(shape), sizeof *s->scratch);
    if (!s->images || !s->logits || !s->scratch)
        status = CNN_ERR_MEMORY;
out:
    return status;
}

static void close_study(study *s)
{
    cnn_session_close(s->session);
    cnn_split_free(&s->split);
    cnn_model_free(s->model);
    free(s->images);
    free(s->logits);
    free(s->scratch);
}

/* In per cent. */
static cnn_status measure(study *s, const int32_t *index, int32_t count, double *error)
{
    int64_t right = 0;
    cnn_status status = cnn_session_evaluate(s->session, s->data, index, count, &right, NULL);
    *error = 100.0 * (double)(count - right) / count;
    return status;
}

/* loss: mean cross-entropy */
static cnn_status measure_copies(study *s, double *error, double *loss)
{
    cnn_status status = CNN_OK;
    const cnn_augment_shape shape = {s->data->height, s->data->width, s->data->channels};
    const size_t bytes = cnn_session_image_bytes(s->session);
    const int count = s->split.validation_count, classes = s->data->classes;
    int64_t wrong = 0;
    *loss = 0;
    for (int copy = 0; copy < COPIES; copy++) {
        for (int i = 0; i < count; i++) {
            const int32_t image = s->split.validation[i];
            cnn_augment_params params;
            cnn_augment_draw(&s->recipe, SEED, copy, image, s->data->labels[image], &params);
            cnn_augment_apply(&params, s->recipe.mirror, shape, s->data->images + (size_t)image * bytes,
                              s->images + (size_t)i * bytes, s->scratch);
        }
        CNN_TRY(cnn_session_infer(s->session, s->images, count, s->logits));
        for (int i = 0; i < count; i++) {
            const float *logits = s->logits + (size_t)i * (size_t)classes;
            const int label = s->data->labels[s->split.validation[i]];
            wrong += cnn_answers_best(logits, classes) != label;
            *loss -= log(fmax(cnn_answers_probability(logits, classes, label), DBL_MIN)) / COPIES / count;
        }
    }
    *error = 100.0 * (double)wrong / COPIES / count;
out:
    return status;
}

static cnn_status study_model(const char *path, cnn_dataset **data)
{
    cnn_status status = CNN_OK;
    study s = {0};
    double training, validation, copies, loss;
    CNN_TRY(open_study(&s, path, data));
    CNN_TRY(measure(&s, s.split.train, s.split.train_count, &training));
    CNN_TRY(measure(&s, s.split.validation, s.split.validation_count, &validation));
    CNN_TRY(measure_copies(&s, &copies, &loss));
    printf("%-40s %8.3f %% %10.3f %% %8.3f %% %12.4f\n", path, training, validation, copies, loss);
    fflush(stdout);
out:
    close_study(&s);
    return status;
}

int main(int argc, char **argv)
{
    cnn_status status = CNN_OK;
    cnn_dataset *data = NULL;
    printf("%-40s %10s %12s %10s %12s\n", "errors", "training", "validation", "copies", "their loss");
    for (int i = 1; i < argc; i++)
        CNN_TRY(study_model(argv[i], &data));
out:
    if (status != CNN_OK)
        fprintf(stderr, "bench/validation: %s\n", cnn_last_error());
    cnn_dataset_free(data);
    return status != CNN_OK;
}
