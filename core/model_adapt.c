/* Making a network for other images and classes than its description says. */
#include "core/error.h"
#include "core/layers.h"
#include "core/model.h"

#include <stdlib.h>
#include <string.h>

static bool has_attr(const cnn_layer_type *type, const char *name)
{
    for (int i = 0; i < CNN_MAX_ATTRS && type->attr[i].name; i++)
        if (strcmp(type->attr[i].name, name) == 0)
            return true;
    return false;
}

/* A node as it is to be. */
static cnn_node adapted(const cnn_model *model, int i, const cnn_image_form *form, int32_t classes)
{
    cnn_node node = model->nodes[i];
    if (i == 0) {
        cnn_node_set_attr(&node, "height", form->height);
        cnn_node_set_attr(&node, "width", form->width);
        cnn_node_set_attr(&node, "channels", form->channels);
    }
    if (i == model->node_count - 1)
        cnn_node_set_attr(&node, "out", classes);
    return node;
}

cnn_status cnn_model_adapt(cnn_model *model, const cnn_image_form *form, int32_t classes)
{
    cnn_status status = CNN_OK;
    const cnn_node *last = &model->nodes[model->node_count - 1];
    cnn_model *made = cnn_model_new();
    if (!made)
        return CNN_ERR_MEMORY;
    if (!has_attr(last->type, "out"))
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "%s: its last layer, '%s', has no number of outputs that could be changed",
                 model->name, last->name);
    for (int i = 0; i < model->node_count; i++) {
        cnn_node node = adapted(model, i, form, classes);
        int number = cnn_model_add(made, node.type, node.name, node.input, node.input_count, node.attr);
        if (number < 0)
            CNN_TRY((cnn_status)-number);
        made->nodes[number].line = node.line;
    }
    CNN_TRY(cnn_model_finish(made, model->name));
    free(model->class_names); /* they were of the old outputs, and so were those of the data */
    model->class_names = NULL;
    model->dataset = CNN_DATASET_NONE;
    cnn_model old = *model; /* made takes over the old nodes, to free them */
    model->nodes = made->nodes;
    model->node_count = made->node_count;
    model->node_capacity = made->node_capacity;
    made->nodes = old.nodes;
    made->node_count = old.node_count;
out:
    cnn_model_free(made);
    return status;
}
