/* The test set: accuracy, speed, raw scores into a file. */
#include "infer/infer.h"

#include "cli/json.h"
#include "cli/message.h"
#include "cli/progress.h"
#include "cli/units.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Images between two looks at the progress bar. */
enum { CHUNK_IMAGES = 256 };

typedef struct test_result {
    int64_t correct, images;
    double seconds;
} test_result;

int infer_best(const float *scores, int classes)
{
    int best = 0;
    for (int k = 1; k < classes; k++)
        if (scores[k] > scores[best])
            best = k;
    return best;
}

/* Leaves the validation images of training data alone, in their order. */
static cnn_status keep_held_out(const cnn_model *model, cnn_dataset *data)
{
    cnn_split split;
    const size_t bytes = (size_t)data->height * (size_t)data->width * (size_t)data->channels;
    cnn_status status = cnn_dataset_split(data, model->split_seed, &split);
    if (status != CNN_OK)
        return status;
    for (int32_t i = 0; i < split.validation_count;
         i++) { /* the list ascends: nothing is moved onto what comes later */
        memmove(data->images + (size_t)i * bytes, data->images + (size_t)split.validation[i] * bytes, bytes);
        data->labels[i] = data->labels[split.validation[i]];
    }
    data->count = split.validation_count;
    cnn_split_free(&split);
    return CNN_OK;
}

cnn_status infer_load_test_set(infer_run *run, cnn_dataset **loaded)
{
    cnn_status status = CNN_OK;
    cnn_dataset *data = NULL;
    const cnn_dataset_id made_for = cnn_model_dataset(run->model);
    const bool held_out = run->settings->held_out;
    CNN_TRY(
        cnn_cli_load_data_of(run->cli, run->model, run->path, held_out ? CNN_SUBSET_TRAIN : CNN_SUBSET_TEST, &data));
    if (held_out)
        CNN_TRY(keep_held_out(run->model, data));
    if (data->count < 1)
        CNN_FAIL(CNN_ERR_FORMAT, "the %s of %s holds no image", held_out ? "held-out part" : "test set",
                 cnn_dataset_name(data->id));
    const bool known = made_for != CNN_DATASET_NONE && made_for != CNN_DATASET_PICTURES;
    if (known && data->id != made_for &&
        data->id != CNN_DATASET_PICTURES) /* of pictures the class names were compared */
        cnn_message_warning(run->cli, "%s was trained on %s, so its answers on %s mean little", run->path,
                            cnn_dataset_name(made_for), cnn_dataset_name(data->id));
    *loaded = data;
    data = NULL;
out:
    cnn_dataset_free(data);
    return status;
}

/* logits: [count,classes] */
static cnn_status run_test_set(infer_run *run, const cnn_dataset *data, float *logits, test_result *result)
{
    cnn_status status = CNN_OK;
    cnn_progress progress;
    int64_t chunk = run->batch * ((CHUNK_IMAGES + (int64_t)run->batch - 1) / run->batch); /* whole batches */
    *result = (test_result){.images = data->count};
    cnn_progress_begin(&progress, run->cli, "test", data->count, "images");
    double start = cnn_clock();
    for (int64_t first = 0; first < data->count; first += chunk) {
        int64_t count = data->count - first < chunk ? data->count - first : chunk;
        float *scores = logits + first * run->classes;
        CNN_TRY(cnn_session_infer(run->session, data->images + (size_t)first * infer_image_bytes(run), count, scores));
        for (int64_t i = 0; i < count; i++)
            result->correct += infer_best(scores + i * run->classes, run->classes) == data->labels[first + i];
        cnn_progress_update(&progress, (double)(first + count), NULL);
    }
    result->seconds = cnn_clock() - start;
out:
    cnn_progress_end(&progress);
    return status;
}

static void print_result(const infer_run *run, const cnn_dataset *data, const test_result *result)
{
    double accuracy = (double)result->correct / (double)result->images;
    double rate = (double)result->images / result->seconds;
    if (run->cli->common.json) {
        cnn_json json;
        cnn_json_begin(&json, stdout);
        cnn_json_number(&json, "accuracy", accuracy);
        cnn_json_integer(&json, "images", result->images);
        cnn_json_number(&json, "images_per_s", rate);
        cnn_json_integer(&json, "correct", result->correct);
        cnn_json_string(&json, "data", cnn_dataset_name(data->id));
        cnn_json_string(&json, "model", run->path);
        cnn_json_string(&json, "device", cnn_session_device(run->session));
        cnn_json_end(&json);
        return;
    }
    char correct[CNN_UNIT_BYTES], images[CNN_UNIT_BYTES], speed[CNN_UNIT_BYTES];
    printf("%s: %.2f %% of the %s %s images right (%s of %s), %s images/s\n", run->path, 100 * accuracy,
           cnn_dataset_name(data->id), run->settings->held_out ? "held-out" : "test",
           cnn_format_count(correct, result->correct), cnn_format_count(images, result->images),
           cnn_format_count(speed, (int64_t)(rate + 0.5)));
}

cnn_status infer_evaluate(infer_run *run)
{
    cnn_status status = CNN_OK;
    cnn_dataset *data = NULL;
    float *logits = NULL;
    test_result result;
    CNN_TRY(infer_load_test_set(run, &data));
    logits = cnn_calloc((size_t)data->count * (size_t)run->classes, sizeof *logits);
    if (!logits)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(run_test_set(run, data, logits, &result));
    if (run->settings->logits)
        CNN_TRY(infer_write_logits(run, logits, data->count));
    print_result(run, data, &result);
out:
    free(logits);
    cnn_dataset_free(data);
    return status;
}
