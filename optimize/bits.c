/* How weights become INT8: what options say, and how many bits they have, all alike, as a list says, or shared out by
 * sensitivity. */
#include "optimize/job.h"

#include "cli/message.h"
#include "cli/progress.h"
#include "core/error.h"
#include "optimize/precision.h"

#include <stdlib.h>
#include <string.h>

enum { IMAGES = 512 }; /* that errors are measured on */
static const char automatic[] = "auto:";

/* Reads auto:AVG. */
static cnn_status read_average(opt_settings *settings)
{
    cnn_status status = CNN_OK;
    char *end;
    if (!settings->bits || strncmp(settings->bits, automatic, strlen(automatic) - 1) != 0)
        return CNN_OK;
    const char *number = settings->bits + strlen(automatic);
    const bool given = strncmp(settings->bits, automatic, strlen(automatic)) == 0;
    settings->average_bits = given ? strtod(number, &end) : 0;
    if (!given || end == number || *end ||
        !(settings->average_bits >= CNN_LEAST_BITS && settings->average_bits <= CNN_MOST_BITS))
        CNN_FAIL(CNN_ERR_USAGE, "--bits: '%.60s' is no average: write auto:AVG, %d to %d bits, as in auto:3.5",
                 settings->bits, CNN_LEAST_BITS, CNN_MOST_BITS);
out:
    return status;
}

cnn_status opt_check_quantizer(opt_settings *settings)
{
    cnn_status status = CNN_OK;
    const char *how = settings->bits                ? "--bits"
                      : settings->codebook          ? "--codebook"
                      : settings->equalization >= 0 ? "--equalization"
                      : settings->rounding >= 0     ? "--round"
                                                    : NULL;
    if (!how)
        return CNN_OK;
    if (!settings->int8)
        CNN_FAIL(CNN_ERR_USAGE, "%s says how to make INT8: give --int8 with it", how);
    CNN_TRY(read_average(settings));
    if (opt_has_goal(settings) && !opt_squeezes(settings))
        CNN_FAIL(CNN_ERR_USAGE,
                 "%s is not for a search, which keeps float models: leave it out, or give --prune R "
                 "instead of a goal",
                 how);
    if (settings->codebook && (settings->bits || opt_squeezes(settings)))
        CNN_FAIL(CNN_ERR_USAGE, "--codebook takes the place of a grid of whole numbers: leave out %s",
                 settings->bits ? "--bits" : "--target-size");
    if (settings->average_bits > 0 && opt_squeezes(settings))
        CNN_FAIL(CNN_ERR_USAGE, "--bits auto is not for --target-size: say how many bits, as in --bits 3,conv1=8");
    if (settings->rounding == CNN_ROUNDING_ADAPTIVE &&
        (opt_squeezes(settings) || (settings->bits && opt_fine_tunes(settings))))
        CNN_FAIL(CNN_ERR_USAGE, "--round adaptive is for weights that do not train on a grid: leave out %s",
                 opt_squeezes(settings) ? "it" : "--finetune (0 with --prune), --bits or --round");
    if (settings->equalization == 1 && (opt_squeezes(settings) || (settings->bits && opt_fine_tunes(settings))))
        CNN_FAIL(CNN_ERR_USAGE, "--equalization would take weights off the grid that they train on: leave out %s",
                 opt_squeezes(settings) ? "--equalization" : "--equalization, --bits or --finetune");
out:
    return status;
}

cnn_status opt_set_bits(opt_job *job)
{
    const opt_settings *settings = job->settings;
    if (!settings->bits || settings->average_bits > 0)
        return CNN_OK;
    cnn_status status = cnn_set_bits(job->model, settings->bits);
    return status == CNN_OK ? CNN_OK : cnn_error_prefix(status, "--bits");
}

static void show(void *context, int64_t done, int64_t all)
{
    (void)all;
    cnn_progress_update(context, (double)done, NULL);
}

static bool chosen(const cnn_model *model)
{
    for (int i = 0; i < model->node_count; i++)
        if (model->nodes[i].levels > 0)
            return true;
    return false;
}

static cnn_status tell(const opt_job *job, const cnn_bits_row *rows, int count)
{
    cnn_status status = CNN_OK;
    cnn_text text = {0};
    for (int r = 0; r < count; r++)
        cnn_text_append(&text, "%s%s=%d", r ? "," : "", rows[r].layer, rows[r].bits);
    if (text.failed)
        status = CNN_ERR_MEMORY;
    else
        cnn_message_notice(job->cli, "bits of weights, by sensitivity: %s", text.data);
    cnn_text_free(&text);
    return status;
}

cnn_status opt_choose_bits(opt_job *job)
{
    cnn_status status = CNN_OK;
    cnn_progress progress;
    cnn_bits_row *rows = NULL;
    int count = 0, layers = 0;
    if (!(job->settings->average_bits > 0) || chosen(job->model))
        return CNN_OK;
    for (int i = 0; i < job->model->node_count; i++)
        layers += cnn_node_has_weights(&job->model->nodes[i]);
    const cnn_bits_options options = {.average = job->settings->average_bits,
                                      .images = IMAGES,
                                      .seed = (uint64_t)job->cli->common.seed,
                                      .device = job->cli->common.device,
                                      .progress = show,
                                      .progress_context = &progress};
    const int32_t images = job->split.train_count < IMAGES ? job->split.train_count : IMAGES;
    cnn_progress_begin(&progress, job->cli, "sensitivity", images * (1.0 + CNN_BITS_COUNT * (double)layers), "images");
    status = cnn_choose_bits(job->model, job->data, &options, &rows, &count);
    cnn_progress_end(&progress);
    if (status == CNN_OK)
        status = tell(job, rows, count);
    free(rows);
    return status;
}

/* Writes "INT8", "INT8, weights of 3 bits" or "INT8, weights of 3.48 bits on average". */
void opt_describe_bits(const opt_job *job, char *text, size_t bytes)
{
    int least = CNN_MOST_BITS, most = CNN_LEAST_BITS;
    double bits = 0, weights = 0;
    for (int i = 0; i < job->model->node_count; i++) {
        const cnn_node *node = &job->model->nodes[i];
        if (!cnn_node_has_weights(node))
            continue;
        const int own = cnn_bits_of_levels(cnn_node_levels(node, cnn_levels_of_bits(CNN_MOST_BITS)));
        const double live = (double)cnn_weights_unpruned(&node->param[CNN_PARAM_WEIGHT]);
        least = own < least ? own : least;
        most = own > most ? own : most;
        bits += own * live;
        weights += live;
    }
    if (job->settings->codebook)
        snprintf(text, bytes, "INT8, codebooks of %d numbers", 1 << job->settings->codebook);
    else if (!job->settings->bits)
        snprintf(text, bytes, "INT8");
    else if (least == most)
        snprintf(text, bytes, "INT8, weights of %d bits", most);
    else
        snprintf(text, bytes, "INT8, weights of %.2f bits on average", bits / weights);
}
