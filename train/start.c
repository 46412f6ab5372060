/* What a run of cnn-train starts from: a new network, or a trained one whose weights it takes. */
#include "cli/message.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/model.h"
#include "train/tool.h"

#include <stdlib.h>

cnn_status train_make_model(train_run *run)
{
    cnn_status status = CNN_OK;
    if (run->set->init) {
        CNN_TRY(cnn_model_load(run->set->init, &run->init));
        if (cnn_model_is_quantized(run->init))
            CNN_FAIL(CNN_ERR_UNSUPPORTED,
                     "--init %s: it is quantized to INT8 and cannot be trained; take the model it was made from",
                     run->set->init);
    }
    CNN_TRY(train_starts_as(run->set) ? cnn_model_clone(run->init, &run->model)
                                      : cnn_model_create(train_network(run->set), &run->model));
out:
    return status;
}

/* "conv1, bn1" of the layers with parameters of which taken[] is `which`; "none". */
static void list_layers(const cnn_model *model, const bool *taken, bool which, cnn_text *text)
{
    bool first = true;
    for (int i = 0; i < model->node_count; i++)
        if (taken[i] == which && cnn_node_has_params(&model->nodes[i])) {
            cnn_text_append(text, "%s%s", first ? "" : ", ", model->nodes[i].name);
            first = false;
        }
    if (first)
        cnn_text_append(text, "none");
}

cnn_status train_init_model(train_run *run)
{
    cnn_status status = CNN_OK;
    cnn_text old = {0}, fresh = {0};
    bool *taken = NULL;
    cnn_model_init(run->model, (uint64_t)run->cli->common.seed);
    if (!run->init)
        return CNN_OK;
    taken = cnn_calloc((size_t)run->model->node_count, sizeof *taken);
    if (!taken)
        return CNN_ERR_MEMORY;
    status = cnn_model_transfer(run->model, run->init, taken);
    if (status != CNN_OK) {
        status = cnn_error_prefix(status, "--init %s", run->set->init);
        goto out;
    }
    list_layers(run->model, taken, true, &old);
    list_layers(run->model, taken, false, &fresh);
    if (old.failed || fresh.failed)
        CNN_TRY(CNN_ERR_MEMORY);
    cnn_message_notice(run->cli, "layers taken from %s: %s; new: %s", run->set->init, old.data, fresh.data);
out:
    cnn_text_free(&old);
    cnn_text_free(&fresh);
    free(taken);
    return status;
}
