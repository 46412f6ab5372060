/* The account of a run: its layers before and after, and the figures of the model after each pass. Accuracies are of
 * the validation images. */
#include "optimize/facts.h"

#include "cli/message.h"
#include "cli/progress.h"
#include "cli/units.h"
#include "core/file.h"
#include "core/layers.h"
#include "core/memory.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t node_weights(const cnn_node *node)
{
    return cnn_desc_elements(&node->param[CNN_PARAM_WEIGHT].desc) +
           (node->param[CNN_PARAM_BIAS].desc.dtype ? cnn_desc_elements(&node->param[CNN_PARAM_BIAS].desc) : 0);
}

static int64_t node_nonzeros(const cnn_node *node)
{
    const cnn_param *weight = &node->param[CNN_PARAM_WEIGHT];
    int64_t count = 0;
    for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++)
        count += !cnn_param_is_zero(weight, i);
    return count;
}

int64_t opt_live_weights(const cnn_model *model)
{
    int64_t count = 0;
    for (int i = 0; i < model->node_count; i++)
        count += cnn_node_has_weights(&model->nodes[i]) ? node_nonzeros(&model->nodes[i]) : 0;
    return count;
}

cnn_status opt_account_begin(opt_job *job)
{
    const cnn_model *model = job->model;
    opt_account *account = job->account;
    account->layers = cnn_calloc((size_t)model->node_count, sizeof *account->layers);
    if (!account->layers)
        return CNN_ERR_MEMORY;
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i];
        if (node->param[CNN_PARAM_WEIGHT].desc.dtype == CNN_NONE)
            continue;
        opt_layer *layer = &account->layers[account->layer_count++];
        snprintf(layer->name, sizeof layer->name, "%s", node->name);
        layer->type = node->type->name;
        layer->channels_before = node->out.c;
        layer->weights_before = node_weights(node);
        layer->macs_before = cnn_node_macs(model, i);
    }
    return CNN_OK;
}

/* Passes keep the names of layers with weights. */
void opt_account_end(opt_job *job, const cnn_quantize_row *rows, int row_count)
{
    const cnn_model *model = job->model;
    opt_account *account = job->account;
    for (int i = 0; i < account->layer_count; i++) {
        opt_layer *layer = &account->layers[i];
        int index = cnn_model_find(model, layer->name);
        if (index < 0)
            continue;
        layer->channels = model->nodes[index].out.c;
        layer->weights = node_weights(&model->nodes[index]);
        layer->elements = cnn_desc_elements(&model->nodes[index].param[CNN_PARAM_WEIGHT].desc);
        layer->nonzeros = node_nonzeros(&model->nodes[index]);
        layer->structure = model->nodes[index].param[CNN_PARAM_WEIGHT].desc.structure;
        layer->macs = cnn_node_macs(model, index);
        for (int r = 0; r < row_count; r++)
            if (strcmp(rows[r].layer, layer->name) == 0)
                layer->int8 = rows[r];
    }
}

static void show_measuring(void *context, int32_t done)
{
    cnn_progress_update(context, done, NULL);
}

cnn_status opt_measure(opt_job *job, const char *format, ...)
{
    opt_stage *stage = &job->account->stages[job->account->stage_count];
    va_list args;
    va_start(args, format);
    vsnprintf(stage->name, sizeof stage->name, format, args);
    va_end(args);
    /* The model as it was given stands for the file it came from, not for one packed anew. */
    cnn_pack pack = job->account->stage_count == 0 ? CNN_PACK_AUTO : (cnn_pack)job->settings->pack;
    cnn_progress progress;
    cnn_progress_begin(&progress, job->cli, "measure", job->split.validation_count, "images");
    cnn_status status = cnn_measure(job->model, pack, job->data, job->split.validation, job->split.validation_count,
                                    job->cli->common.device, show_measuring, &progress, &stage->figures);
    cnn_progress_end(&progress);
    if (status != CNN_OK)
        return status;
    job->account->stage_count++;
    char bytes[CNN_UNIT_BYTES];
    cnn_format_bytes(bytes, stage->figures.file_bytes);
    if (isnan(stage->figures.accuracy))
        cnn_message_notice(job->cli, "%s: %s, %.3g ms per image", stage->name, bytes, stage->figures.ms_per_image);
    else
        cnn_message_notice(job->cli, "%s: %.2f %% of the validation images right, %s, %.3g ms per image", stage->name,
                           100 * stage->figures.accuracy, bytes, stage->figures.ms_per_image);
    return CNN_OK;
}

void opt_account_free(opt_account *account)
{
    free(account->layers);
    account->layers = NULL;
    free(account->front);
    account->front = NULL;
    opt_facts_free(account->facts);
    account->facts = NULL;
}
