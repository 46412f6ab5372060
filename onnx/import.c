/* Reading ONNX files: the message, the nodes that the output needs in their order, then the whole model. */
#include "onnx/import.h"

#include "cnn/onnx.h"
#include "core/error.h"
#include "core/file.h"
#include "core/input_file.h"
#include "core/memory.h"
#include "core/quantized.h"
#include "onnx/notes.h"
#include "onnx/operators.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- The message ---- */

/* What a message takes in memory grows with the file: small fields take more there, up to this, and no file may ask for
 * more. */
enum { MEMORY_PER_BYTE = 4, LEAST_MEMORY = 64 << 20 };

typedef struct budget {
    size_t left;
    bool spent, failed;
} budget;

static void *budget_alloc(void *context, size_t size)
{
    budget *b = context;
    if (size > b->left) {
        b->spent = true;
        return NULL;
    }
    b->left -= size;
    void *memory = cnn_calloc(1, size);
    b->failed |= !memory;
    return memory;
}

static void budget_free(void *context, void *memory)
{
    (void)context;
    free(memory);
}

static cnn_status unpack(const uint8_t *data, size_t size, const char *path, cnn_onnx_file **file)
{
    budget b = {.left = size * MEMORY_PER_BYTE + LEAST_MEMORY};
    ProtobufCAllocator allocator = {.alloc = budget_alloc, .free = budget_free, .allocator_data = &b};
    if (size >= CNN_FILE_MAGIC_BYTES && memcmp(data, CNN_FILE_MAGIC, CNN_FILE_MAGIC_BYTES) == 0)
        return cnn_error(CNN_ERR_FORMAT, "%s: is a cnnkit model, not an ONNX file; call it .cnn", path);
    *file = cnn_onnx__model__unpack(&allocator, size, data);
    if (*file)
        return CNN_OK;
    if (b.failed)
        return CNN_ERR_MEMORY;
    return cnn_error(CNN_ERR_FORMAT, "%s: %s; copy or export it again", path,
                     b.spent ? "would take far more memory than it has bytes: the file is damaged"
                             : "is no ONNX file, or it is damaged or truncated");
}

static void free_file(cnn_onnx_file *file)
{
    ProtobufCAllocator allocator = {.alloc = budget_alloc, .free = budget_free, .allocator_data = NULL};
    if (file)
        cnn_onnx__model__free_unpacked(file, &allocator);
}

static bool is_standard_domain(const char *domain)
{
    return !domain || !*domain || strcmp(domain, "ai.onnx") == 0;
}

static cnn_status check_file(const cnn_onnx_file *file, int64_t *opset)
{
    *opset = 0;
    for (size_t i = 0; i < file->n_operators; i++)
        if (is_standard_domain(file->operators[i]->domain))
            *opset = file->operators[i]->version;
    if (!file->graph || file->graph->n_node == 0)
        return cnn_error(CNN_ERR_FORMAT, "holds no graph: is no ONNX file, or it is damaged");
    if (*opset < CNN_ONNX_FIRST_OPSET || *opset > CNN_ONNX_LAST_OPSET)
        return cnn_error(CNN_ERR_UNSUPPORTED, "is of opset %lld; %d to %d are supported: export it again",
                         (long long)*opset, CNN_ONNX_FIRST_OPSET, CNN_ONNX_LAST_OPSET);
    if (file->graph->n_node > CNN_ONNX_MAX_NODES)
        return cnn_error(CNN_ERR_UNSUPPORTED, "has %zu nodes; at most %d are supported", file->graph->n_node,
                         CNN_ONNX_MAX_NODES);
    return CNN_OK;
}

/* ---- What the output needs ---- */

/* Counts the readers of a value, and puts its producer on the list of nodes to look at. */
static void need(cnn_onnx_import *import, const char *name, bool *needed, size_t *list, size_t *count)
{
    cnn_onnx_value *value = name && *name ? cnn_onnx_find(import, name) : NULL;
    if (!value)
        return;
    value->readers++;
    if (value->producer >= import->graph->n_node || needed[value->producer])
        return;
    needed[value->producer] = true;
    list[(*count)++] = value->producer;
}

static cnn_status find_needed(cnn_onnx_import *import, bool *needed)
{
    const cnn_onnx_graph *graph = import->graph;
    size_t count = 0, *list = cnn_calloc(graph->n_node, sizeof *list);
    if (!list)
        return CNN_ERR_MEMORY;
    need(import, graph->output[0]->name, needed, list, &count);
    while (count > 0) {
        const cnn_onnx_node *node = graph->node[list[--count]];
        for (size_t i = 0; i < node->n_input; i++)
            need(import, node->input[i], needed, list, &count);
    }
    free(list);
    return CNN_OK;
}

/* ---- Constants and the image ---- */

static cnn_status read_initializers(cnn_onnx_import *import)
{
    char shown[96];
    for (size_t i = 0; i < import->graph->n_constant; i++) {
        const cnn_onnx_tensor *tensor = import->graph->constant[i];
        cnn_onnx_value *value = tensor->name ? cnn_onnx_find(import, tensor->name) : NULL;
        if (!value || value->readers == 0)
            continue;
        cnn_status status = value->kind == CNN_ONNX_CONSTANT
                                ? cnn_error(CNN_ERR_FORMAT, "stands there twice; the file is damaged")
                                : cnn_onnx_read_tensor(import, tensor, &value->constant);
        if (status != CNN_OK)
            return cnn_error_prefix(status, "initializer '%s'", cnn_onnx_shown(tensor->name, shown));
        value->kind = CNN_ONNX_CONSTANT;
    }
    return CNN_OK;
}

/* [N,C,H,W] of the image; N may be open. */
static cnn_status read_image_shape(const cnn_onnx_value_info *info, int64_t dims[4])
{
    const CnnOnnx__TensorType *type = info->type ? info->type->tensor : NULL;
    const CnnOnnx__Shape *shape = type ? type->shape : NULL;
    const cnn_onnx_type element = type ? (cnn_onnx_type)type->element : 0;
    if (element != CNN_ONNX_FLOAT && element != CNN_ONNX_FLOAT16 && element != CNN_ONNX_DOUBLE)
        return cnn_error(CNN_ERR_UNSUPPORTED, "is %s; an image of FLOAT values [N,C,H,W] is expected",
                         cnn_onnx_type_name(element));
    if (!shape || shape->n_dim != 4)
        return cnn_error(CNN_ERR_UNSUPPORTED, "has %zu dimensions; an image has 4, [N,C,H,W]",
                         shape ? shape->n_dim : 0);
    for (int i = 0; i < 4; i++) {
        dims[i] = shape->dim[i]->has_size ? shape->dim[i]->size : 0;
        if (i > 0 && dims[i] < 1)
            return cnn_error(CNN_ERR_UNSUPPORTED, "has no fixed %s; export the model for images of one size",
                             i == 1   ? "number of channels"
                             : i == 2 ? "height"
                                      : "width");
    }
    if (dims[1] > 4)
        return cnn_error(CNN_ERR_UNSUPPORTED, "has %lld channels; images have 1 to 4, as [N,C,H,W]",
                         (long long)dims[1]);
    return CNN_OK;
}

static cnn_status put_image(cnn_onnx_import *import, const cnn_onnx_value_info *info)
{
    cnn_status status = CNN_OK;
    int64_t dims[4];
    CNN_TRY(read_image_shape(info, dims));
    cnn_node draft = cnn_onnx_draft(CNN_LAYER_INPUT);
    cnn_node_set_attr(&draft, "channels", (double)dims[1]);
    cnn_node_set_attr(&draft, "height", (double)dims[2]);
    cnn_node_set_attr(&draft, "width", (double)dims[3]);
    int made = cnn_model_add(import->model, draft.type, import->ours ? info->name : "image", NULL, 0, draft.attr);
    if (made < 0)
        CNN_TRY((cnn_status)-made);
    CNN_TRY(cnn_model_infer_node(import->model, made));
    cnn_onnx_value *value = cnn_onnx_find(import, info->name);
    value->kind = CNN_ONNX_LAYER;
    value->node = made;
    value->normalization = import->model->normalization;
    import->batch = dims[0] > 0 ? dims[0] : 0;
out:
    return status;
}

/* The one input that is no initializer. */
static cnn_status read_image(cnn_onnx_import *import)
{
    const cnn_onnx_graph *graph = import->graph;
    const cnn_onnx_value_info *image = NULL;
    char shown[96], other[96];
    for (size_t i = 0; i < graph->n_input; i++) {
        const char *name = graph->input[i]->name;
        const cnn_onnx_value *value = name ? cnn_onnx_find(import, name) : NULL;
        if (!value || value->kind == CNN_ONNX_CONSTANT || value->readers == 0)
            continue;
        if (image)
            return cnn_error(CNN_ERR_UNSUPPORTED, "has two inputs, '%s' and '%s'; a cnnkit model reads one image",
                             cnn_onnx_shown(image->name, shown), cnn_onnx_shown(name, other));
        image = graph->input[i];
    }
    if (!image)
        return cnn_error(CNN_ERR_FORMAT, "has no input that its output is computed from");
    cnn_status status = put_image(import, image);
    return status == CNN_OK ? CNN_OK : cnn_error_prefix(status, "its input '%s'", cnn_onnx_shown(image->name, shown));
}

/* ---- Nodes ---- */

static cnn_status check_inputs(const cnn_onnx_import *import, const cnn_onnx_node *node)
{
    char shown[96];
    for (size_t i = 0; i < node->n_input; i++) {
        if (!*node->input[i])
            continue;
        const cnn_onnx_value *value = cnn_onnx_find(import, node->input[i]);
        cnn_onnx_shown(node->input[i], shown);
        if (!value)
            return cnn_error(CNN_ERR_FORMAT,
                             "reads '%s', which no node and no initializer gives; the file is incomplete", shown);
        if (value->kind == CNN_ONNX_NOT_GIVEN)
            return cnn_error(CNN_ERR_FORMAT,
                             "reads '%s' before it is computed; the nodes form a circle or are not in order", shown);
    }
    return CNN_OK;
}

static cnn_status read_operator(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    char shown[96];
    if (!is_standard_domain(node->domain))
        return cnn_error(CNN_ERR_UNSUPPORTED, "is of the domain '%s', not of ONNX itself; export the model without it",
                         cnn_onnx_shown(node->domain, shown));
    const cnn_onnx_operator *operator= cnn_onnx_operator_find(node->operator_ ? node->operator_ : "");
    if (!operator)
        return cnn_error(CNN_ERR_UNSUPPORTED, "is an operator that cnnkit does not support yet");
    if (node->n_output == 0 || !*node->output[0])
        return cnn_error(CNN_ERR_FORMAT, "has no output; the file is damaged");
    size_t inputs = node->n_input;
    while (inputs > operator->min_inputs && !* node->input[inputs - 1])
        inputs--;
    if (inputs < operator->min_inputs || inputs> operator->max_inputs)
        return cnn_error(CNN_ERR_FORMAT, "has %zu inputs, which its operator does not take; the file is damaged",
                         inputs);
    cnn_status status = check_inputs(import, node);
    return status == CNN_OK ? operator->read(import, node) : status;
}

/* "node 'conv1' (Conv)", by number where it has no name. */
static cnn_status at_node(cnn_status status, const cnn_onnx_node *node, size_t number)
{
    char name[96], operator[96];
    cnn_onnx_shown(node->operator_, operator);
    if (node->name && *node->name)
        return cnn_error_prefix(status, "node '%s' (%s)", cnn_onnx_shown(node->name, name), operator);
    return cnn_error_prefix(status, "node %zu (%s)", number, operator);
}

static cnn_status read_nodes(cnn_onnx_import *import, const bool *needed)
{
    for (size_t i = 0; i < import->graph->n_node; i++) {
        const cnn_onnx_node *node = import->graph->node[i];
        cnn_status status = needed[i] ? read_operator(import, node) : CNN_OK;
        if (status != CNN_OK)
            return at_node(status, node, i);
    }
    return CNN_OK;
}

static cnn_status read_graph(cnn_onnx_import *import)
{
    cnn_status status = CNN_OK;
    char shown[96];
    const cnn_onnx_graph *graph = import->graph;
    bool *needed = cnn_calloc(graph->n_node, sizeof *needed);
    if (!needed)
        return CNN_ERR_MEMORY;
    if (graph->n_output != 1 || !graph->output[0]->name)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "has %zu outputs; a cnnkit model has one, the scores of the classes",
                 graph->n_output);
    CNN_TRY(cnn_onnx_list_values(import));
    CNN_TRY(find_needed(import, needed));
    CNN_TRY(read_initializers(import));
    CNN_TRY(read_image(import));
    CNN_TRY(read_nodes(import, needed));
    const cnn_onnx_value *output = cnn_onnx_find(import, graph->output[0]->name);
    if (!output || output->kind != CNN_ONNX_LAYER || output->codes)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "its output '%s' is not computed from the image as scores in FLOAT",
                 cnn_onnx_shown(graph->output[0]->name, shown));
out:
    free(needed);
    return status;
}

/* ---- INT8 ---- */

/* A value that no QuantizeLinear follows is in the scale that its reader gives it, or its input has. */
static void settle_scales(cnn_model *model)
{
    const int last = model->node_count - 1;
    int reader;
    model->nodes[last].out_scale = 0; /* the scores are float */
    for (int i = last - 1; i > 0; i--)
        if (model->nodes[i].out_scale == 0.0f && cnn_model_readers(model, i, &reader) == 1 && reader != last &&
            (cnn_int8_scale_reader(model, i) == reader || (model->nodes[reader].type->flags & CNN_LAYER_KEEPS_SCALE)))
            model->nodes[i].out_scale = model->nodes[reader].out_scale;
    for (int i = 1; i < last; i++) {
        cnn_node *node = &model->nodes[i];
        const bool keeps = node->type->id == CNN_LAYER_RELU || (node->type->flags & CNN_LAYER_KEEPS_SCALE);
        if (node->out_scale == 0.0f && keeps)
            node->out_scale = model->nodes[node->input[0]].out_scale;
    }
}

/* INT8 is for the whole model: every value but the scores has a scale, and pooling does not change it. */
static cnn_status check_scales(const cnn_model *model)
{
    for (int i = 0; i < model->node_count - 1; i++) {
        const cnn_node *node = &model->nodes[i];
        if (node->out_scale == 0.0f && cnn_int8_relu(model, i) < 0)
            return cnn_error(CNN_ERR_UNSUPPORTED,
                             "layer '%s' has no QuantizeLinear behind it, but other layers are INT8; "
                             "quantize all of the model or nothing",
                             node->name);
        if ((node->type->flags & CNN_LAYER_KEEPS_SCALE) && node->out_scale != model->nodes[node->input[0]].out_scale)
            return cnn_error(CNN_ERR_UNSUPPORTED,
                             "layer '%s' is quantized with another scale than its input; pooling "
                             "keeps it",
                             node->name);
    }
    return CNN_OK;
}

/* ---- The model ---- */

/* The name that cnnkit gave the graph, else the file's without its ending. */
static void name_model(const cnn_onnx_import *import, char name[CNN_NAME_BYTES])
{
    char shown[96];
    const char *slash = strrchr(import->path, '/'), *graph = import->graph->name;
    const char *text = import->ours && graph && *graph ? graph : slash ? slash + 1 : import->path;
    cnn_onnx_shown(text, shown);
    char *ending = strstr(shown, ".onnx");
    if (ending && !ending[5] && text != graph)
        *ending = '\0';
    snprintf(name, CNN_NAME_BYTES, "%.*s", CNN_NAME_BYTES - 1, shown);
}

static cnn_status finish(cnn_onnx_import *import, const cnn_onnx_file *file)
{
    cnn_status status = CNN_OK;
    cnn_model *model = import->model;
    CNN_TRY(cnn_model_infer_shapes(model, import->path));
    if (cnn_model_is_quantized(model)) {
        settle_scales(model);
        status = check_scales(model);
    }
    if (status == CNN_OK)
        status = cnn_onnx_read_notes(file, model);
    if (status == CNN_OK)
        status = cnn_model_check(model);
    if (status != CNN_OK)
        status = cnn_error_prefix(status, "%s", import->path);
out:
    return status;
}

static void begin_normalization(const cnn_normalization *input, cnn_normalization *normalization)
{
    for (int c = 0; c < 4; c++) {
        normalization->mean[c] = input ? input->mean[c] : 0.0f;
        normalization->std[c] = input ? input->std[c] : 1.0f;
    }
}

cnn_status cnn_onnx_decode(const uint8_t *data, size_t size, const char *path, const cnn_normalization *input,
                           cnn_model **model)
{
    cnn_status status = CNN_OK;
    cnn_onnx_file *file = NULL;
    cnn_onnx_import import = {.path = path};
    CNN_TRY(unpack(data, size, path, &file));
    status = check_file(file, &import.opset);
    if (status != CNN_OK)
        CNN_TRY(cnn_error_prefix(status, "%s", path));
    import.graph = file->graph;
    import.ours = file->producer && strcmp(file->producer, CNN_ONNX_PRODUCER) == 0;
    import.model = cnn_model_new();
    if (!import.model)
        CNN_TRY(CNN_ERR_MEMORY);
    name_model(&import, import.model->name);
    begin_normalization(input, &import.model->normalization);
    status = read_graph(&import);
    if (status != CNN_OK)
        CNN_TRY(status == CNN_ERR_MEMORY ? status : cnn_error_prefix(status, "%s", path));
    CNN_TRY(finish(&import, file));
    *model = import.model;
    import.model = NULL;
out:
    cnn_model_free(import.model);
    cnn_onnx_external_close(&import);
    free(import.values);
    for (size_t i = 0; i < import.blocks.count; i++)
        free(import.blocks.list[i]);
    free(import.blocks.list);
    free_file(file);
    return status;
}

cnn_status cnn_onnx_load(const char *path, const cnn_normalization *input, cnn_model **model)
{
    cnn_input_file file = {0};
    cnn_status status = cnn_input_open(&file, path, "an ONNX file", CNN_ONNX_MAX_BYTES);
    if (status == CNN_OK)
        status = cnn_onnx_decode(file.data, file.size, path, input, model);
    cnn_input_close(&file);
    return status;
}
