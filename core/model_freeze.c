/* Which layers training leaves as they are. */
#include "core/error.h"
#include "core/memory.h"
#include "core/model.h"

#include <stdlib.h>
#include <string.h>

/* Whether a part of a list, text[0..length), is `name`. */
static bool is_name(const char *text, size_t length, const char *name)
{
    return strlen(name) == length && memcmp(text, name, length) == 0;
}

/* Every layer with parameters but the last one with weights. */
static void mark_all(const cnn_model *model, bool *frozen)
{
    int last = model->node_count - 1;
    while (last > 0 && !cnn_node_has_weights(&model->nodes[last]))
        last--;
    for (int i = 0; i < model->node_count; i++)
        frozen[i] |= i != last && cnn_node_has_params(&model->nodes[i]);
}

/* The refusal of a name that no layer with parameters has, with those that there are. */
static cnn_status refuse_name(const cnn_model *model, const char *name, size_t length)
{
    cnn_status status = CNN_OK;
    cnn_text names = {0};
    cnn_model_list(model, NULL, true, &names);
    if (names.failed)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_FAIL(CNN_ERR_USAGE, "%s has no layer '%.*s' with weights; those with weights are %s", model->name, (int)length,
             name, names.data);
out:
    cnn_text_free(&names);
    return status;
}

static cnn_status mark_name(const cnn_model *model, const char *name, size_t length, bool *frozen)
{
    if (is_name(name, length, "all")) {
        mark_all(model, frozen);
        return CNN_OK;
    }
    for (int i = 0; i < model->node_count; i++)
        if (is_name(name, length, model->nodes[i].name) && cnn_node_has_params(&model->nodes[i])) {
            frozen[i] = true;
            return CNN_OK;
        }
    return refuse_name(model, name, length);
}

static bool something_trains(const cnn_model *model, const bool *frozen)
{
    for (int i = 0; i < model->node_count; i++)
        if (!frozen[i] && cnn_node_has_params(&model->nodes[i]))
            return true;
    return false;
}

cnn_status cnn_model_freeze(cnn_model *model, const char *names)
{
    cnn_status status = CNN_OK;
    bool *frozen = cnn_calloc((size_t)model->node_count, sizeof *frozen);
    if (!frozen)
        return CNN_ERR_MEMORY;
    for (const char *name = names; name;) {
        const size_t length = strcspn(name, ",");
        CNN_TRY(mark_name(model, name, length, frozen));
        name = name[length] ? name + length + 1 : NULL;
    }
    if (names && !something_trains(model, frozen))
        CNN_FAIL(CNN_ERR_USAGE, "%s leaves nothing of %s to train; leave a layer out", names, model->name);
    for (int i = 0; i < model->node_count; i++)
        model->nodes[i].frozen = frozen[i];
out:
    free(frozen);
    return status;
}

void cnn_model_thaw(cnn_model *model)
{
    for (int i = 0; i < model->node_count; i++)
        model->nodes[i].frozen = false;
}

cnn_status cnn_model_frozen(const cnn_model *model, char **names)
{
    cnn_text text = {0};
    bool *frozen = cnn_calloc((size_t)model->node_count, sizeof *frozen);
    if (!frozen)
        return CNN_ERR_MEMORY;
    for (int i = 0; i < model->node_count; i++)
        frozen[i] = model->nodes[i].frozen;
    cnn_model_list(model, frozen, true, &text);
    free(frozen);
    if (text.failed) {
        cnn_text_free(&text);
        return CNN_ERR_MEMORY;
    }
    *names = text.data;
    return CNN_OK;
}
