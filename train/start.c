/* What a run of cnn-train starts from: a new network, or a trained one whose weights it takes. */
#include "cli/message.h"
#include "cli/model_files.h"
#include "cli/units.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/model.h"
#include "train/tool.h"

#include <stdlib.h>

/* Refuses a --freeze that does not suit the network. */
static cnn_status check_freeze(train_run *run)
{
    cnn_status status = cnn_model_freeze(run->model, run->set->freeze);
    return status == CNN_OK ? CNN_OK : cnn_error_prefix(status, "--freeze");
}

/* A trained model, or weights alone for the network of --model. */
static cnn_status load_init(train_run *run)
{
    if (!cnn_cli_is_weights(run->set->init))
        return cnn_cli_load_model(run->cli, run->set->init, &run->init);
    if (!run->set->model)
        return cnn_error(CNN_ERR_USAGE, "--init %s: it holds weights without a network: give --model with it",
                         run->set->init);
    return cnn_cli_load_weights(run->cli, run->set->model, run->set->init, &run->init);
}

cnn_status train_make_model(train_run *run)
{
    cnn_status status = CNN_OK;
    if (run->cli->common.normalize && !run->set->init)
        CNN_FAIL(CNN_ERR_USAGE,
                 "--normalize says what was done to the pixels of a model from another tool: give --init FILE "
                 "with it");
    if (run->set->init) {
        CNN_TRY(load_init(run));
        if (cnn_model_is_quantized(run->init))
            CNN_FAIL(CNN_ERR_UNSUPPORTED,
                     "--init %s: it is quantized to INT8 and cannot be trained; take the model it was made from",
                     run->set->init);
    }
    CNN_TRY(train_starts_as(run->set) ? cnn_model_clone(run->init, &run->model)
                                      : cnn_model_create(train_network(run->set), &run->model));
    CNN_TRY(check_freeze(run));
out:
    return status;
}

/* Freezes the layers. One that was not taken from --init would stay random. */
static cnn_status freeze_layers(train_run *run, const bool *taken)
{
    cnn_status status = check_freeze(run);
    for (int i = 0; i < run->model->node_count && status == CNN_OK; i++)
        if (run->model->nodes[i].frozen && !taken[i])
            status =
                cnn_error(CNN_ERR_USAGE, "--freeze: layer %s takes nothing from %s and would stay random; leave it out",
                          run->model->nodes[i].name, run->set->init);
    return status;
}

/* Which layers stay as they are, and how much of the model trains. */
static cnn_status tell_frozen(const train_run *run)
{
    const int64_t count = cnn_model_weight_count(run->model);
    int64_t held = 0;
    char *names, trained[CNN_UNIT_BYTES], all[CNN_UNIT_BYTES];
    cnn_status status = cnn_model_frozen(run->model, &names);
    if (status != CNN_OK)
        return status;
    for (int i = 0; i < run->model->node_count; i++)
        if (run->model->nodes[i].frozen)
            held += cnn_node_weight_count(&run->model->nodes[i]);
    cnn_message_notice(run->cli, "frozen: %s; %s of %s weights are trained", names,
                       cnn_format_count(trained, count - held), cnn_format_count(all, count));
    free(names);
    return CNN_OK;
}

cnn_status train_init_model(train_run *run, const cnn_dataset *data)
{
    cnn_status status = CNN_OK;
    cnn_text old = {0}, fresh = {0};
    bool *taken = NULL;
    cnn_model_init(run->model, (uint64_t)run->cli->common.seed);
    cnn_model_normalize_for(run->model, data->id);
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
    CNN_TRY(freeze_layers(run, taken));
    cnn_model_list(run->model, taken, true, &old);
    cnn_model_list(run->model, taken, false, &fresh);
    if (old.failed || fresh.failed)
        CNN_TRY(CNN_ERR_MEMORY);
    cnn_message_notice(run->cli, "layers taken from %s: %s; new: %s", run->set->init, old.data, fresh.data);
    if (run->set->freeze)
        CNN_TRY(tell_frozen(run));
out:
    cnn_text_free(&old);
    cnn_text_free(&fresh);
    free(taken);
    return status;
}
