/* The pruning pass of cnn-opt. */
#include "optimize/job.h"

#include "cli/message.h"
#include "cli/units.h"

#include <stdio.h>

static void make_options(const opt_job *job, cnn_prune_options *options)
{
    const opt_settings *settings = job->settings;
    *options = (cnn_prune_options){.ratio = settings->prune, .global = settings->global};
    if (settings->criterion >= 0)
        options->criterion = (cnn_criterion)settings->criterion;
    options->seed = (uint64_t)job->cli->common.seed;
    options->data = job->data;
    options->device = job->cli->common.device;
}

/* What the user would not expect otherwise. */
static void explain(const opt_job *job, const cnn_prune_result *result)
{
    char removed[CNN_UNIT_BYTES], candidates[CNN_UNIT_BYTES];
    if (result->fallbacks > 0)
        cnn_message_notice(job->cli, "criterion bn: %s%s no batch norm behind %s, so l2 took its place",
                           result->fallback, result->fallbacks == 1 ? " has" : " and other layers have",
                           result->fallbacks == 1 ? "it" : "them");
    if (job->settings->structure == OPT_STRUCTURE_WEIGHT)
        cnn_message_notice(job->cli,
                           "%s of %s weights are 0 now: that gives the smallest file and no speed, for zeros are "
                           "computed like other numbers",
                           cnn_format_count(removed, result->removed),
                           cnn_format_count(candidates, result->candidates));
}

cnn_status opt_prune(opt_job *job)
{
    cnn_prune_options options;
    cnn_prune_result result;
    make_options(job, &options);
    bool weights = job->settings->structure == OPT_STRUCTURE_WEIGHT;
    cnn_status status =
        weights ? cnn_prune_weights(job->model, &options, &result) : cnn_prune_channels(job->model, &options, &result);
    if (status != CNN_OK)
        return status;
    explain(job, &result);
    return opt_measure(job, "prune %g %%%s", 100 * job->settings->prune, weights ? " of weights" : "");
}
