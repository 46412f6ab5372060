/* Accuracy, size and speed of a model.
 *
 * Latency: one image at a time, in a session as cnn-infer opens it. The first runs, which prepare and warm the
 * caches, do not count; then single runs are timed until half a second is over, at least 15 and at most 1000 of
 * them. The median stands for all, since a busy machine only ever makes runs slower. */
#include "optimize/measure.h"

#include "cnn/session.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/memory.h"

#include <math.h>
#include <stdlib.h>

enum { CHUNK_IMAGES = 512 }; /* evaluated between two looks at the progress; whole batches */
enum { WARM_UP_RUNS = 3, LEAST_RUNS = 15, MOST_RUNS = 1000 };
static const double enough_s = 0.5;

static int compare_doubles(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

static cnn_status measure_latency(cnn_session *session, const cnn_dataset *data, int32_t classes, double *ms)
{
    cnn_status status = CNN_OK;
    double *seconds = cnn_calloc(MOST_RUNS, sizeof *seconds), total = 0;
    float *logits = cnn_calloc((size_t)classes, sizeof *logits);
    size_t image_bytes = (size_t)data->height * (size_t)data->width * (size_t)data->channels;
    int runs = 0;
    if (!seconds || !logits) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    for (int i = 0; i < WARM_UP_RUNS; i++)
        CNN_TRY(cnn_session_infer(session, data->images, 1, logits));
    while (runs < MOST_RUNS && (runs < LEAST_RUNS || total < enough_s)) {
        double start = cnn_clock();
        CNN_TRY(cnn_session_infer(session, data->images + (size_t)(runs % data->count) * image_bytes, 1, logits));
        seconds[runs] = cnn_clock() - start;
        total += seconds[runs++];
    }
    qsort(seconds, (size_t)runs, sizeof *seconds, compare_doubles);
    *ms = 1000 * seconds[runs / 2];
out:
    free(logits);
    free(seconds);
    return status;
}

cnn_status cnn_measure(cnn_model *model, cnn_pack pack, const cnn_dataset *data, const int32_t *index, int32_t count,
                       const char *device, cnn_measure_fn progress, void *context, cnn_measurement *measurement)
{
    cnn_status status = CNN_OK;
    cnn_session *session = NULL;
    cnn_measurement made = {.accuracy = NAN, .images_per_s = NAN};
    size_t bytes;
    /* The null device takes what a file would hold. */
    CNN_TRY(cnn_model_save_packed(model, "/dev/null", pack, &bytes));
    made.file_bytes = (int64_t)bytes;
    made.weights = cnn_model_weight_count(model);
    made.macs = cnn_model_macs(model);
    CNN_TRY(cnn_session_open(model, &(cnn_session_options){.device = device}, &session));
    CNN_TRY(measure_latency(session, data, cnn_model_output(model).c, &made.ms_per_image));
    if (count > 0) {
        int64_t correct = 0;
        double start = cnn_clock();
        for (int32_t done = 0; done < count;) {
            int32_t chunk = count - done < CHUNK_IMAGES ? count - done : CHUNK_IMAGES;
            int64_t right;
            CNN_TRY(cnn_session_evaluate(session, data, index + done, chunk, &right, NULL));
            correct += right;
            done += chunk;
            if (progress)
                progress(context, done);
        }
        made.images_per_s = count / (cnn_clock() - start);
        made.accuracy = (double)correct / count;
    }
    *measurement = made;
out:
    cnn_session_close(session);
    return status;
}
