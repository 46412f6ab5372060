/* Images in a NumPy array, and scores in one. */
#include "infer/pictures.h"

#include "cli/sandbox.h"
#include "cli/json.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/npy.h"
#include "core/save.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Scores ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), most = strlen(end);
    return length >= most && strcmp(text + length - most, end) == 0;
}

cnn_status infer_write_logits(const infer_run *run, float *logits, int64_t images)
{
    const char *path = run->settings->logits;
    const size_t count = (size_t)images * (size_t)run->classes;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &logits[i], sizeof bits);
        uint8_t bytes[4] = {(uint8_t)bits, (uint8_t)(bits >> 8), (uint8_t)(bits >> 16), (uint8_t)(bits >> 24)};
        memcpy(&logits[i], bytes, sizeof bytes);
    }
    return ends_with(path, ".npy") ? cnn_npy_write(path, images, run->classes, logits)
                                   : cnn_save_file(path, logits, count * sizeof *logits);
}

/* ---- Images ---- */

/* "(10, 32, 32, 3)" */
static void print_shape(const cnn_npy *array, char *text, size_t bytes)
{
    size_t used = (size_t)snprintf(text, bytes, "(");
    for (int i = 0; i < array->rank; i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s%lld", i ? ", " : "", (long long)array->dims[i]);
    snprintf(text + used, bytes - used, ")");
}

/* Whether the array is images of the input's height, width and channels, one without and some with a dimension in
 * front; the dimension of a single channel may be missing. Sets their number. */
static bool is_images(const infer_run *run, const cnn_npy *array, int64_t *images)
{
    const int64_t want[3] = {run->input.h, run->input.w, run->input.c};
    for (int sides = run->input.c == 1 ? 2 : 3; sides <= 3; sides++) {
        const int first = array->rank - sides;
        if ((first == 0 || first == 1) && memcmp(array->dims + first, want, (size_t)sides * sizeof *want) == 0) {
            *images = first ? array->dims[0] : 1;
            return true;
        }
    }
    return false;
}

static cnn_status check_array(const infer_run *run, const cnn_npy *array, int64_t *images)
{
    const char *path = run->settings->input;
    char shape[128];
    if (array->dtype != CNN_U8)
        return cnn_error(CNN_ERR_FORMAT,
                         "%s: holds floats; give pixels as bytes (uint8, 0 to 255), the network normalizes them", path);
    print_shape(array, shape, sizeof shape);
    if (!is_images(run, array, images))
        return cnn_error(CNN_ERR_SHAPE,
                         "%s: has the shape %s, and %s reads images of %dx%dx%d (height, width, channels): give it "
                         "(images, %d, %d, %d)",
                         path, shape, run->path, run->input.h, run->input.w, run->input.c, run->input.h, run->input.w,
                         run->input.c);
    if (*images == 0 || *images > INT32_MAX)
        return cnn_error(CNN_ERR_SHAPE, "%s: %s, from 1 to %d images can be read", path, shape, INT32_MAX);
    return CNN_OK;
}

/* Names each image "x.npy[3]". The text of all lies behind the entries; free() them. */
static picture_entry *name_images(const char *path, int images)
{
    const size_t each = strlen(path) + sizeof "[2147483647]";
    picture_entry *entry = cnn_calloc((size_t)images, sizeof *entry + each);
    char *name = entry ? (char *)(entry + images) : NULL;
    for (int i = 0; entry && i < images; i++, name += each) {
        snprintf(name, each, "%s[%d]", path, i);
        entry[i] = (picture_entry){.file = name, .first = i, .count = 1};
    }
    return entry;
}

/* A label for each image, as of pictures. */
static cnn_status print_labels(const infer_run *run, picture_batch *batch, const bool *changed)
{
    batch->entry = name_images(run->settings->input, batch->images);
    if (!batch->entry)
        return CNN_ERR_MEMORY;
    batch->count = batch->images;
    for (int i = 0; i < batch->count; i++)
        batch->entry[i].changed = changed[i];
    return infer_print_results(run, batch);
}

static cnn_status save_scores(const infer_run *run, picture_batch *batch)
{
    cnn_status status = infer_write_logits(run, batch->logits, batch->images);
    if (status != CNN_OK)
        return status;
    if (run->cli->common.json) {
        cnn_json json;
        cnn_json_begin(&json, stdout);
        cnn_json_integer(&json, "images", batch->images);
        cnn_json_string(&json, "logits", run->settings->logits);
        cnn_json_end(&json);
    } else {
        printf("%s: the scores of %d image%s of %s are in %s\n", run->path, batch->images,
               batch->images == 1 ? "" : "s", run->settings->input, run->settings->logits);
    }
    return CNN_OK;
}

cnn_status infer_array(infer_run *run)
{
    cnn_status status = CNN_OK;
    cnn_npy array = {0};
    picture_batch batch = {0};
    int64_t images = 0;
    bool *changed = NULL;
    CNN_TRY(cnn_npy_read(&array, run->settings->input));
    CNN_TRY(check_array(run, &array, &images));
    batch.images = (int)images;
    batch.pixels = cnn_calloc((size_t)images, infer_image_bytes(run));
    batch.logits = cnn_calloc((size_t)images * (size_t)run->classes, sizeof *batch.logits);
    if (!batch.pixels || !batch.logits)
        CNN_TRY(CNN_ERR_MEMORY);
    memcpy(batch.pixels, array.data, (size_t)images * infer_image_bytes(run));
    if (run->settings->sandbox)
        CNN_TRY(cnn_sandbox_seal());
    CNN_TRY(cnn_session_infer(run->session, batch.pixels, images, batch.logits));
    changed = cnn_calloc((size_t)images, sizeof *changed);
    if (!changed)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(infer_sanitize(run, batch.pixels, images, batch.logits, changed));
    status = run->settings->logits ? save_scores(run, &batch) : print_labels(run, &batch, changed);
out:
    free(changed);
    free(batch.entry);
    free(batch.pixels);
    free(batch.logits);
    cnn_npy_close(&array);
    return status;
}
