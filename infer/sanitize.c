/* --sanitize: what it is told to do, and doing it. */
#include "infer/infer.h"

#include "core/error.h"
#include "core/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

cnn_status infer_parse_sanitize(const char *text, cnn_sanitize_options *options)
{
    *options = (cnn_sanitize_options){0};
    for (const char *at = text; *at;) {
        const size_t length = strcspn(at, ",");
        int bits = 0, used = 0;
        char word[32];
        snprintf(word, sizeof word, "%.*s", (int)(length < sizeof word ? length : sizeof word - 1), at);
        if (strcmp(word, "median") == 0)
            options->median = true;
        else if (strcmp(word, "centre") == 0)
            options->centre = true;
        else if (sscanf(word, "bits=%1d%n", &bits, &used) == 1 && !word[used] && bits >= 1 && bits <= 8)
            options->bits = bits;
        else
            return cnn_error(CNN_ERR_USAGE, "--sanitize: '%s' is not one of median, bits=N (1 to 8) and centre", word);
        at += length + (at[length] == ',');
    }
    return CNN_OK;
}

cnn_status infer_sanitize(infer_run *run, uint8_t *images, int64_t count, float *logits, bool *changed)
{
    cnn_status status = CNN_OK;
    cnn_sanitize_options options;
    const size_t bytes = (size_t)count * infer_image_bytes(run), classes = (size_t)run->classes;
    uint8_t *sanitized = NULL;
    memset(changed, 0, (size_t)count * sizeof *changed);
    if (!run->settings->sanitize)
        return CNN_OK;
    int *before = cnn_calloc((size_t)count, sizeof *before);
    sanitized = cnn_calloc(bytes, 1);
    if (!before || !sanitized) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    for (int64_t i = 0; i < count; i++)
        before[i] = infer_best(logits + (size_t)i * classes, run->classes);
    CNN_TRY(infer_parse_sanitize(run->settings->sanitize, &options));
    CNN_TRY(cnn_sanitize(&options, &run->input, images, count, sanitized));
    memcpy(images, sanitized, bytes);
    CNN_TRY(cnn_session_infer(run->session, images, count, logits));
    for (int64_t i = 0; i < count; i++)
        changed[i] = infer_best(logits + (size_t)i * classes, run->classes) != before[i];
out:
    free(sanitized);
    free(before);
    return status;
}
