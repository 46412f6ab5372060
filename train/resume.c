/* Between a run and its checkpoint file. */
#include "train/resume.h"

#include "core/error.h"
#include "core/file.h"
#include "core/memory.h"
#include "train/facts.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

cnn_status cnn_keeper_begin(cnn_keeper *keeper, cnn_session *session, cnn_model *model, const cnn_dataset *data,
                            const cnn_train_options *options)
{
    cnn_status status = CNN_OK;
    bool there;
    if (!options->checkpoint)
        return CNN_OK;
    CNN_TRY(cnn_checkpoint_find(options->checkpoint, &there));
    CNN_TRY(cnn_facts_of_run(model, data, options, session, &keeper->facts));
    keeper->path = options->checkpoint;
    keeper->session = session;
    keeper->model = model;
out:
    return status;
}

/* ---- Writing ---- */

/* Makes the checkpoint's memories point to copies on the host; *copies is to be freed. */
static cnn_status download(const cnn_keeper *keeper, cnn_checkpoint *checkpoint, uint8_t **copies)
{
    cnn_status status = CNN_OK;
    cnn_session_memory kept[CNN_SESSION_MAX_KEPT];
    size_t bytes = 0;
    checkpoint->memory_count = cnn_session_kept(keeper->session, kept);
    for (int i = 0; i < checkpoint->memory_count; i++)
        bytes += kept[i].bytes;
    uint8_t *copy = *copies = cnn_calloc(bytes, 1);
    if (!copy)
        return CNN_ERR_MEMORY;
    for (int i = 0; i < checkpoint->memory_count; i++) {
        CNN_TRY(cnn_session_download(keeper->session, copy, kept[i].data, kept[i].bytes));
        snprintf(checkpoint->memory[i].name, sizeof checkpoint->memory[i].name, "%s", kept[i].name);
        checkpoint->memory[i].data = copy;
        checkpoint->memory[i].bytes = kept[i].bytes;
        copy += kept[i].bytes;
    }
out:
    return status;
}

cnn_status cnn_keeper_write(const cnn_keeper *keeper, const cnn_train_point *point)
{
    cnn_status status = CNN_OK;
    cnn_checkpoint checkpoint = {.point = *point};
    uint8_t *model = NULL, *copies = NULL;
    if (!keeper->path)
        return CNN_OK;
    memcpy(&checkpoint.facts, &keeper->facts, sizeof checkpoint.facts);
    CNN_TRY(cnn_file_to_memory(keeper->model, &(cnn_file_options){0}, &model, &checkpoint.model_bytes));
    checkpoint.model = model;
    CNN_TRY(download(keeper, &checkpoint, &copies));
    CNN_TRY(cnn_checkpoint_save(&checkpoint, keeper->path));
out:
    free(copies);
    free(model);
    return status;
}

/* ---- Going on ---- */

static cnn_status contradiction(const char *path, const char *what)
{
    return cnn_error(CNN_ERR_FORMAT,
                     "%s: %s contradict each other; the file is damaged: leave out --resume to start "
                     "anew",
                     path, what);
}

/* Whether a run of this length can be at this point. */
static cnn_status check_point(const char *path, const cnn_run_length *run, const cnn_train_point *point,
                              const cnn_train_state *start)
{
    const cnn_train_state *state = &point->state;
    if (point->epochs > cnn_run_epochs(run) || point->step < cnn_run_steps(run, point->epochs) ||
        point->step > cnn_run_steps(run, (int64_t)point->epochs + 1))
        return contradiction(path, "its numbers of steps and of epochs");
    if ((int64_t)state->step + state->skipped != point->step || point->watch.skipped != state->skipped ||
        state->found_nonfinite)
        return contradiction(path, "its numbers of steps, updates and skipped steps");
    if (state->dynamic ? state->loss_scale < start->floor || state->loss_scale > start->ceiling
                       : state->loss_scale != start->loss_scale)
        return contradiction(path, "its loss scale and the options");
    return CNN_OK;
}

static cnn_status check_memories(const cnn_keeper *keeper, const cnn_checkpoint *checkpoint)
{
    cnn_session_memory kept[CNN_SESSION_MAX_KEPT];
    const int count = cnn_session_kept(keeper->session, kept);
    bool same = checkpoint->memory_count == count;
    for (int i = 0; same && i < count; i++)
        same = strcmp(checkpoint->memory[i].name, kept[i].name) == 0 && checkpoint->memory[i].bytes == kept[i].bytes;
    return same ? CNN_OK : contradiction(keeper->path, "its memories and the options");
}

/* Puts the parameters of `from`, a model of the same description, into the run's model. */
static cnn_status take_params(const cnn_keeper *keeper, const cnn_model *from, bool check_only)
{
    for (int i = 0; i < keeper->model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_STORED; role++) {
            cnn_param *to = &keeper->model->nodes[i].param[role];
            const cnn_param *param = &from->nodes[i].param[role];
            if (memcmp(&to->desc, &param->desc, sizeof to->desc) != 0)
                return contradiction(keeper->path, "its model and the options");
            if (!check_only && to->desc.dtype != CNN_NONE)
                memcpy(to->data, param->data, cnn_desc_bytes(&to->desc));
        }
    return CNN_OK;
}

/* The model in the checkpoint, which is one of the same description. */
static cnn_status read_model(const cnn_keeper *keeper, const cnn_checkpoint *checkpoint, cnn_model **model)
{
    cnn_status status = cnn_file_decode(checkpoint->model, checkpoint->model_bytes, "its model", model);
    if (status != CNN_OK)
        return cnn_error_prefix(status, "%s", keeper->path);
    status = cnn_facts_compare_models(*model, keeper->model, keeper->path);
    return status == CNN_OK ? take_params(keeper, *model, true) : status;
}

static cnn_status apply(const cnn_keeper *keeper, const cnn_checkpoint *checkpoint, const cnn_model *model,
                        const cnn_train_state *state)
{
    cnn_status status = CNN_OK;
    cnn_session_memory kept[CNN_SESSION_MAX_KEPT];
    const int count = cnn_session_kept(keeper->session, kept);
    for (int i = 0; i < count; i++)
        CNN_TRY(cnn_session_upload(keeper->session, kept[i].data, checkpoint->memory[i].data, kept[i].bytes));
    CNN_TRY(cnn_session_set_state(keeper->session, state));
    CNN_TRY(take_params(keeper, model, false));
out:
    return status;
}

cnn_status cnn_keeper_resume(const cnn_keeper *keeper, const cnn_run_length *run, cnn_train_point *point, bool *found)
{
    cnn_status status = CNN_OK;
    const size_t settings = offsetof(cnn_train_state, step);
    cnn_input_file file = {0};
    cnn_checkpoint checkpoint;
    cnn_model *model = NULL;
    *found = false;
    if (!keeper->path)
        return CNN_OK;
    CNN_TRY(cnn_checkpoint_find(keeper->path, found));
    if (!*found)
        goto out;
    CNN_TRY(cnn_checkpoint_load(keeper->path, &file, &checkpoint));
    CNN_TRY(read_model(keeper, &checkpoint, &model));
    CNN_TRY(cnn_facts_compare(&checkpoint.facts, &keeper->facts, keeper->path));
    memcpy(&checkpoint.point.state, &point->state, settings);
    CNN_TRY(check_point(keeper->path, run, &checkpoint.point, &point->state));
    CNN_TRY(check_memories(keeper, &checkpoint));
    CNN_TRY(apply(keeper, &checkpoint, model, &checkpoint.point.state));
    *point = checkpoint.point;
out:
    cnn_model_free(model);
    cnn_input_close(&file);
    return status;
}
