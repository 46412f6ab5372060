/* The names of a graph and what they stand for. */
#include "core/error.h"
#include "core/memory.h"
#include "onnx/import.h"

#include <stdlib.h>
#include <string.h>

enum { NO_PRODUCER = -1 };

void *cnn_onnx_block(cnn_onnx_import *import, size_t count, size_t size)
{
    struct cnn_onnx_blocks *blocks = &import->blocks;
    void **list = cnn_realloc(blocks->list, blocks->count + 1, sizeof *list);
    if (!list)
        return NULL;
    blocks->list = list;
    void *block = cnn_calloc(count, size);
    if (block)
        list[blocks->count++] = block;
    return block;
}

const char *cnn_onnx_shown(const char *text, char shown[96])
{
    size_t i = 0;
    for (; text && text[i] && i < 80; i++)
        shown[i] = text[i] >= 0x20 && text[i] < 0x7F ? text[i] : '?';
    shown[i] = '\0';
    return shown;
}

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

static int compare_values(const void *a, const void *b)
{
    const cnn_onnx_value *left = a, *right = b;
    return strcmp(left->name, right->name);
}

static int compare_name(const void *name, const void *value)
{
    return strcmp(name, ((const cnn_onnx_value *)value)->name);
}

cnn_onnx_value *cnn_onnx_find(const cnn_onnx_import *import, const char *name)
{
    return import->value_count == 0
               ? NULL
               : bsearch(name, import->values, import->value_count, sizeof *import->values, compare_name);
}

/* Adds a name to the list while it is unsorted. One that is left out has the empty name. */
static void add_name(cnn_onnx_import *import, const char *name, size_t producer)
{
    if (*or_empty(name))
        import->values[import->value_count++] = (cnn_onnx_value){.name = name, .producer = producer};
}

/* Old files list initializers as inputs too: that is the same value. Everything else has one source. */
static cnn_status merge_names(cnn_onnx_import *import)
{
    size_t kept = 0;
    char shown[96];
    for (size_t i = 0; i < import->value_count; i++) {
        const cnn_onnx_value *value = &import->values[i];
        if (kept == 0 || strcmp(import->values[kept - 1].name, value->name) != 0) {
            import->values[kept++] = *value;
            continue;
        }
        if (value->producer != (size_t)NO_PRODUCER || import->values[kept - 1].producer != (size_t)NO_PRODUCER)
            return cnn_error(CNN_ERR_FORMAT, "two nodes, inputs or initializers give the value '%s'; names must differ",
                             cnn_onnx_shown(value->name, shown));
    }
    import->value_count = kept;
    return CNN_OK;
}

cnn_status cnn_onnx_list_values(cnn_onnx_import *import)
{
    const cnn_onnx_graph *graph = import->graph;
    size_t most = graph->n_input + graph->n_constant;
    for (size_t i = 0; i < graph->n_node; i++)
        most += graph->node[i]->n_output;
    if (most > CNN_ONNX_MAX_VALUES)
        return cnn_error(CNN_ERR_UNSUPPORTED, "has %zu values; at most %d are supported", most, CNN_ONNX_MAX_VALUES);
    import->values = cnn_calloc(most ? most : 1, sizeof *import->values);
    if (!import->values)
        return CNN_ERR_MEMORY;
    for (size_t i = 0; i < graph->n_input; i++)
        add_name(import, graph->input[i]->name, (size_t)NO_PRODUCER);
    for (size_t i = 0; i < graph->n_constant; i++)
        add_name(import, graph->constant[i]->name, (size_t)NO_PRODUCER);
    for (size_t i = 0; i < graph->n_node; i++)
        for (size_t k = 0; k < graph->node[i]->n_output; k++)
            add_name(import, graph->node[i]->output[k], i);
    qsort(import->values, import->value_count, sizeof *import->values, compare_values);
    return merge_names(import);
}

cnn_onnx_value *cnn_onnx_input_of(const cnn_onnx_import *import, const cnn_onnx_node *node, size_t i)
{
    return i < node->n_input && *or_empty(node->input[i]) ? cnn_onnx_find(import, node->input[i]) : NULL;
}

cnn_onnx_value *cnn_onnx_output_of(const cnn_onnx_import *import, const cnn_onnx_node *node)
{
    return cnn_onnx_find(import, node->output[0]);
}

void cnn_onnx_pass(const cnn_onnx_import *import, const cnn_onnx_node *node, const cnn_onnx_value *value)
{
    cnn_onnx_value *output = cnn_onnx_output_of(import, node), made = *value;
    made.name = output->name;
    made.producer = output->producer;
    made.readers = output->readers;
    made.bare &= value->readers == 1;
    *output = made;
}

cnn_status cnn_onnx_constant_of(const cnn_onnx_import *import, const cnn_onnx_node *node, size_t i, const char *what,
                                const cnn_onnx_constant **constant)
{
    char shown[96];
    const cnn_onnx_value *value = cnn_onnx_input_of(import, node, i);
    if (!value)
        return cnn_error(CNN_ERR_FORMAT, "has no %s", what);
    if (value->kind != CNN_ONNX_CONSTANT)
        return cnn_error(CNN_ERR_UNSUPPORTED, "its %s, '%s', is computed from the image; it must be a constant", what,
                         cnn_onnx_shown(value->name, shown));
    *constant = &value->constant;
    return CNN_OK;
}

/* What is done to pixels before the first layer becomes the model's normalization: it must be one for all. */
static cnn_status settle_image(cnn_onnx_import *import, const cnn_onnx_value *value)
{
    if (import->image_read &&
        memcmp(&import->model->normalization, &value->normalization, sizeof value->normalization) != 0)
        return cnn_error(CNN_ERR_UNSUPPORTED,
                         "reads an image that is normalized otherwise than where it was read first; "
                         "cnnkit normalizes it once");
    import->image_read = true;
    import->model->normalization = value->normalization;
    return CNN_OK;
}

cnn_status cnn_onnx_layer_of(cnn_onnx_import *import, const cnn_onnx_node *node, size_t i, cnn_onnx_value **found)
{
    char shown[96];
    cnn_onnx_value *value = cnn_onnx_input_of(import, node, i);
    if (!value)
        return cnn_error(CNN_ERR_FORMAT, "its input %zu is left out", i + 1);
    cnn_onnx_shown(value->name, shown);
    if (value->kind != CNN_ONNX_LAYER)
        return cnn_error(CNN_ERR_UNSUPPORTED, "its input '%s' is %s, not computed from the image", shown,
                         value->kind == CNN_ONNX_CONSTANT ? "a constant" : "a list of sizes");
    if (value->codes)
        return cnn_error(CNN_ERR_UNSUPPORTED, "its input '%s' is quantized; a DequantizeLinear must stand between",
                         shown);
    if (value->finished)
        return cnn_error(CNN_ERR_UNSUPPORTED, "its input '%s' is a softmax, which may only stand at the end", shown);
    *found = value;
    return value->node == 0 ? settle_image(import, value) : CNN_OK;
}

static cnn_status form_of(cnn_onnx_import *import, const cnn_onnx_node *node, size_t i, bool flat,
                          cnn_onnx_value **value)
{
    char shown[96];
    cnn_status status = cnn_onnx_layer_of(import, node, i, value);
    if (status == CNN_OK && (*value)->flat != flat)
        return cnn_error(CNN_ERR_UNSUPPORTED, "its input '%s' is %s; it must be %s",
                         cnn_onnx_shown((*value)->name, shown), flat ? "[N,C,H,W]" : "flat, [N,values]",
                         flat ? "flat, [N,values]" : "[N,C,H,W]");
    return status;
}

cnn_status cnn_onnx_spatial_of(cnn_onnx_import *import, const cnn_onnx_node *node, size_t i, cnn_onnx_value **value)
{
    return form_of(import, node, i, false, value);
}

cnn_status cnn_onnx_flat_of(cnn_onnx_import *import, const cnn_onnx_node *node, size_t i, cnn_onnx_value **value)
{
    return form_of(import, node, i, true, value);
}
