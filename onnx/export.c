/* Writing ONNX files: the graph layer by layer, notes, then bytes.
 *
 * Floats keep their bits; weights go from [out,h,w,in] to [out,in,h,w]. An INT8 model becomes QDQ: behind every value
 * that our program keeps in int8 stand QuantizeLinear and DequantizeLinear with its scale, before every layer a
 * DequantizeLinear of its int8 weights. */
#include "cnn/onnx.h"

#include "core/channels_first.h"
#include "core/error.h"
#include "core/file.h"
#include "core/memory.h"
#include "core/quantized.h"
#include "core/save.h"
#include "core/torch_names.h"
#include "onnx/layers.h"
#include "onnx/notes.h"
#include "onnx/operators.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Memory ---- */

void *cnn_onnx_alloc(cnn_onnx_memory *memory, size_t count, size_t size)
{
    if (memory->count == memory->capacity && !memory->failed) {
        const size_t capacity = memory->capacity ? 2 * memory->capacity : 64;
        void **blocks = cnn_realloc(memory->blocks, capacity, sizeof *blocks);
        if (blocks) {
            memory->blocks = blocks;
            memory->capacity = capacity;
        }
        memory->failed |= !blocks;
    }
    void *block = memory->failed ? NULL : cnn_calloc(count, size);
    memory->failed |= !block;
    if (block)
        memory->blocks[memory->count++] = block;
    return block;
}

char *cnn_onnx_text(cnn_onnx_memory *memory, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int length = vsnprintf(NULL, 0, format, args);
    char *text = cnn_onnx_alloc(memory, (size_t)length + 1, 1);
    if (text)
        vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    va_end(args);
    return text;
}

void cnn_onnx_memory_free(cnn_onnx_memory *memory)
{
    for (size_t i = 0; i < memory->count; i++)
        free(memory->blocks[i]);
    free(memory->blocks);
    *memory = (cnn_onnx_memory){0};
}

/* A list of pointers with room for one more: the same memory, or a larger copy. NULL without memory. */
static void *make_room(cnn_onnx_export *export, void *list, size_t count, size_t *capacity)
{
    if (count < *capacity)
        return list;
    const size_t larger = *capacity ? 2 * *capacity : 64;
    void **grown = cnn_onnx_alloc(&export->memory, larger, sizeof *grown);
    if (grown && count > 0)
        memcpy(grown, list, count * sizeof *grown);
    if (grown)
        *capacity = larger;
    return grown;
}

/* ---- Parts of a graph ---- */

cnn_onnx_node *cnn_onnx_put_node(cnn_onnx_export *export, const char *operator, const char * name, const char *output,
                                 int input_count, ...)
{
    cnn_onnx_graph *graph = &export->graph;
    cnn_onnx_node *node = cnn_onnx_alloc(&export->memory, 1, sizeof *node);
    char **inputs = cnn_onnx_alloc(&export->memory, (size_t)input_count, sizeof *inputs);
    char **outputs = cnn_onnx_alloc(&export->memory, 1, sizeof *outputs);
    cnn_onnx_node **nodes = make_room(export, graph->node, graph->n_node, &export->node_capacity);
    if (export->memory.failed)
        return NULL;
    va_list args;
    va_start(args, input_count);
    for (int i = 0; i < input_count; i++)
        inputs[i] = va_arg(args, char *);
    va_end(args);
    outputs[0] = (char *)(uintptr_t)output;
    cnn_onnx__node__init(node);
    node->name = (char *)(uintptr_t)name;
    node->operator_ = (char *)(uintptr_t) operator;
    node->input = inputs;
    node->n_input = (size_t)input_count;
    node->output = outputs;
    node->n_output = 1;
    graph->node = nodes;
    graph->node[graph->n_node++] = node;
    return node;
}

static cnn_onnx_attribute *put_attribute(cnn_onnx_export *export, cnn_onnx_node *node, const char *name,
                                         cnn_onnx_attribute_type type)
{
    cnn_onnx_attribute *attribute = cnn_onnx_alloc(&export->memory, 1, sizeof *attribute);
    cnn_onnx_attribute **list = cnn_onnx_alloc(&export->memory, (node ? node->n_attribute : 0) + 1, sizeof *list);
    if (export->memory.failed || !node)
        return NULL;
    cnn_onnx__attribute__init(attribute);
    attribute->name = (char *)(uintptr_t)name;
    attribute->has_type = 1;
    attribute->type = (int32_t)type;
    if (node->n_attribute > 0)
        memcpy(list, node->attribute, node->n_attribute * sizeof *list);
    list[node->n_attribute++] = attribute;
    node->attribute = list;
    return attribute;
}

void cnn_onnx_put_int(cnn_onnx_export *export, cnn_onnx_node *node, const char *name, int64_t value)
{
    cnn_onnx_attribute *attribute = put_attribute(export, node, name, CNN_ONNX_ATTRIBUTE_INT);
    if (!attribute)
        return;
    attribute->has_whole = 1;
    attribute->whole = value;
}

void cnn_onnx_put_ints(cnn_onnx_export *export, cnn_onnx_node *node, const char *name, int count, int64_t value)
{
    cnn_onnx_attribute *attribute = put_attribute(export, node, name, CNN_ONNX_ATTRIBUTE_INTS);
    int64_t *values = cnn_onnx_alloc(&export->memory, (size_t)count, sizeof *values);
    if (!attribute || !values)
        return;
    for (int i = 0; i < count; i++)
        values[i] = value;
    attribute->wholes = values;
    attribute->n_wholes = (size_t)count;
}

void cnn_onnx_put_real(cnn_onnx_export *export, cnn_onnx_node *node, const char *name, float value)
{
    cnn_onnx_attribute *attribute = put_attribute(export, node, name, CNN_ONNX_ATTRIBUTE_FLOAT);
    if (!attribute)
        return;
    attribute->has_real = 1;
    attribute->real = value;
}

const char *cnn_onnx_put_constant(cnn_onnx_export *export, const char *name, cnn_onnx_type type, int rank,
                                  const int64_t *dims, const void *data, size_t bytes)
{
    cnn_onnx_graph *graph = &export->graph;
    cnn_onnx_tensor *tensor = cnn_onnx_alloc(&export->memory, 1, sizeof *tensor);
    int64_t *sizes = cnn_onnx_alloc(&export->memory, (size_t)rank, sizeof *sizes);
    cnn_onnx_tensor **list = make_room(export, graph->constant, graph->n_constant, &export->constant_capacity);
    if (export->memory.failed)
        return NULL;
    cnn_onnx__tensor__init(tensor);
    for (int i = 0; i < rank; i++)
        sizes[i] = dims[i];
    tensor->name = (char *)(uintptr_t)name;
    tensor->dims = sizes;
    tensor->n_dims = (size_t)rank;
    tensor->has_type = 1;
    tensor->type = (int32_t)type;
    tensor->has_raw = 1;
    tensor->raw = (ProtobufCBinaryData){.len = bytes, .data = (uint8_t *)(uintptr_t)data};
    graph->constant = list;
    graph->constant[graph->n_constant++] = tensor;
    return name;
}

/* ---- Parameters ---- */

/* Scales of a quantized parameter: those of the weights, of a bias times that of the layer's input. */
static float *scales_of(cnn_onnx_export *export, const cnn_node *node, cnn_param_role role)
{
    const float *weights = node->param[CNN_PARAM_WEIGHT].scale;
    const float s_in = export->model->nodes[node->input[0]].out_scale;
    const int32_t count = node->param[CNN_PARAM_WEIGHT].desc.n;
    float *scales = cnn_onnx_alloc(&export->memory, (size_t)count, sizeof *scales);
    for (int32_t k = 0; scales && k < count; k++)
        scales[k] = role == CNN_PARAM_BIAS ? s_in * weights[k] : weights[k];
    return scales;
}

/* DequantizeLinear of a constant, with a scale for each of its first dimension. Zero points are 0, which is what an
 * int32 without any has. */
static const char *put_dequantized(cnn_onnx_export *export, const cnn_node *node, cnn_param_role role,
                                   const char *codes)
{
    const int64_t count = node->param[CNN_PARAM_WEIGHT].desc.n;
    const char *output = cnn_onnx_text(&export->memory, "%s.float", codes);
    const char *scale = cnn_onnx_put_constant(export, cnn_onnx_text(&export->memory, "%s.scale", codes), CNN_ONNX_FLOAT,
                                              1, &count, scales_of(export, node, role), (size_t)count * sizeof(float));
    const char *name = cnn_onnx_text(&export->memory, "%s.dequantize", codes);
    cnn_onnx_node *made;
    if (role == CNN_PARAM_WEIGHT) {
        const void *zeros = cnn_onnx_alloc(&export->memory, (size_t)count, 1);
        const char *zero = cnn_onnx_put_constant(export, cnn_onnx_text(&export->memory, "%s.zero", codes),
                                                 CNN_ONNX_INT8, 1, &count, zeros, (size_t)count);
        made = cnn_onnx_put_node(export, "DequantizeLinear", name, output, 3, codes, scale, zero);
    } else {
        made = cnn_onnx_put_node(export, "DequantizeLinear", name, output, 2, codes, scale);
    }
    cnn_onnx_put_int(export, made, "axis", 0);
    return output;
}

const char *cnn_onnx_put_param(cnn_onnx_export *export, int number, cnn_param_role role)
{
    const cnn_node *node = &export->model->nodes[number];
    const cnn_param *param = &node->param[role];
    const cnn_dtype dtype = param->desc.dtype;
    if (dtype == CNN_NONE)
        return NULL;
    int64_t dims[4];
    const int rank = cnn_torch_dims(node, role, dims);
    const cnn_onnx_type type = dtype == CNN_I8 ? CNN_ONNX_INT8 : dtype == CNN_I32 ? CNN_ONNX_INT32 : CNN_ONNX_FLOAT;
    const size_t bytes = cnn_desc_bytes(&param->desc);
    void *values = cnn_onnx_alloc(&export->memory, bytes, 1);
    if (values)
        cnn_channels_to_first(&param->desc, param->data, values);
    const char *name =
        cnn_onnx_put_constant(export, cnn_onnx_text(&export->memory, "%s.%s", node->name, cnn_torch_role_name(role)),
                              type, rank, dims, values, bytes);
    return type == CNN_ONNX_FLOAT ? name : put_dequantized(export, node, role, name);
}

/* ---- Values ---- */

/* The value of a layer in another form, made anew for each reader that wants it. */
static const char *reshape(cnn_onnx_export *export, int node, int i, bool flat)
{
    const cnn_node *reader = &export->model->nodes[node];
    const char *from = export->made[reader->input[i]].name;
    const char *name = cnn_onnx_text(&export->memory, "%s.input%d", reader->name, i + 1);
    const char *output = cnn_onnx_text(&export->memory, "%s.%s%d", reader->name, flat ? "flat" : "pixels", i + 1);
    if (flat) {
        cnn_onnx_put_int(export, cnn_onnx_put_node(export, "Flatten", name, output, 1, from), "axis", 1);
        return output;
    }
    const int64_t count = 2;
    int64_t *axes = cnn_onnx_alloc(&export->memory, 2, sizeof *axes);
    if (axes) {
        axes[0] = 2;
        axes[1] = 3;
    }
    const char *constant = cnn_onnx_put_constant(export, cnn_onnx_text(&export->memory, "%s.axes", output),
                                                 CNN_ONNX_INT64, 1, &count, axes, 2 * sizeof *axes);
    cnn_onnx_put_node(export, "Unsqueeze", name, output, 2, from, constant);
    return output;
}

const char *cnn_onnx_flat(cnn_onnx_export *export, int node, int i)
{
    const cnn_onnx_made *made = &export->made[export->model->nodes[node].input[i]];
    return made->flat ? made->name : reshape(export, node, i, true);
}

/* What is flat has one pixel: it comes from a linear layer. */
const char *cnn_onnx_spatial(cnn_onnx_export *export, int node, int i)
{
    const cnn_onnx_made *made = &export->made[export->model->nodes[node].input[i]];
    return made->flat ? reshape(export, node, i, false) : made->name;
}

const char *cnn_onnx_result(cnn_onnx_export *export, int node)
{
    static const char output[] = "logits";
    const bool last = node == export->model->node_count - 1;
    return last && cnn_model_find(export->model, output) < 0 ? output : export->model->nodes[node].name;
}

/* QuantizeLinear and DequantizeLinear behind a value that is kept in int8. */
static const char *put_quantized(cnn_onnx_export *export, const cnn_node *node, const char *value)
{
    float *scale = cnn_onnx_alloc(&export->memory, 1, sizeof *scale);
    int8_t *zero = cnn_onnx_alloc(&export->memory, 1, sizeof *zero);
    if (scale)
        *scale = node->out_scale;
    cnn_onnx_memory *memory = &export->memory;
    const char *step = cnn_onnx_put_constant(export, cnn_onnx_text(memory, "%s.scale", node->name), CNN_ONNX_FLOAT, 0,
                                             NULL, scale, sizeof *scale);
    const char *origin = cnn_onnx_put_constant(export, cnn_onnx_text(memory, "%s.zero", node->name), CNN_ONNX_INT8, 0,
                                               NULL, zero, sizeof *zero);
    const char *codes = cnn_onnx_text(memory, "%s.int8", node->name);
    const char *back = cnn_onnx_text(memory, "%s.float", node->name);
    cnn_onnx_put_node(export, "QuantizeLinear", cnn_onnx_text(memory, "%s.quantize", node->name), codes, 3, value, step,
                      origin);
    cnn_onnx_put_node(export, "DequantizeLinear", cnn_onnx_text(memory, "%s.dequantize", node->name), back, 3, codes,
                      step, origin);
    return back;
}

/* Whether a node and the ReLU behind it are quantized as one. */
static bool joins_relu(const cnn_model *model, int node)
{
    const int relu = cnn_int8_scale_reader(model, node);
    return relu >= 0 &&
           (cnn_node_has_weights(&model->nodes[node]) || model->nodes[node].out_scale == model->nodes[relu].out_scale);
}

static cnn_status put_layer(cnn_onnx_export *export, int node)
{
    const cnn_model *model = export->model;
    const cnn_onnx_operator *operator= cnn_onnx_operator_of(model->nodes[node].type);
    if (!operator&& node> 0)
        return cnn_error(CNN_ERR_UNSUPPORTED, "layer '%s': ONNX files cannot hold a layer of type %s yet",
                         model->nodes[node].name, model->nodes[node].type->name);
    export->made[node] = (cnn_onnx_made){.name = cnn_onnx_result(export, node)};
    cnn_status status = node > 0 ? operator->write(export, node) : cnn_onnx_write_input(export);
    const bool last = node == model->node_count - 1;
    if (status == CNN_OK && export->quantized && !last && !joins_relu(model, node))
        export->made[node].name = put_quantized(export, &model->nodes[node], export->made[node].name);
    return export->memory.failed ? CNN_ERR_MEMORY : status;
}

/* ---- The file ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* No two values may have one name. Layers may be called anything, "conv1.weight" too. */
static cnn_status check_names(cnn_onnx_export *export)
{
    const cnn_onnx_graph *graph = &export->graph;
    const size_t most = graph->n_node + graph->n_constant + 1;
    size_t count = 0;
    char **names = cnn_onnx_alloc(&export->memory, most, sizeof *names);
    if (!names)
        return CNN_ERR_MEMORY;
    names[count++] = (char *)(uintptr_t) export->model->nodes[0].name;
    for (size_t i = 0; i < graph->n_node; i++)
        names[count++] = graph->node[i]->output[0];
    for (size_t i = 0; i < graph->n_constant; i++)
        names[count++] = graph->constant[i]->name;
    qsort(names, count, sizeof *names, compare_names);
    for (size_t i = 1; i < count; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            return cnn_error(CNN_ERR_SHAPE,
                             "two values of the graph would be called '%s'; rename the layer of that name", names[i]);
    return CNN_OK;
}

/* A value as float [N, sizes]; the name of N is open. */
static cnn_onnx_value_info **make_info(cnn_onnx_export *export, const char *name, int rank, const int64_t *sizes,
                                       const char *description)
{
    cnn_onnx_memory *memory = &export->memory;
    cnn_onnx_value_info **list = cnn_onnx_alloc(memory, 1, sizeof *list);
    cnn_onnx_value_info *info = cnn_onnx_alloc(memory, 1, sizeof *info);
    CnnOnnx__Type *type = cnn_onnx_alloc(memory, 1, sizeof *type);
    CnnOnnx__TensorType *tensor = cnn_onnx_alloc(memory, 1, sizeof *tensor);
    CnnOnnx__Shape *shape = cnn_onnx_alloc(memory, 1, sizeof *shape);
    CnnOnnx__Dimension **dims = cnn_onnx_alloc(memory, (size_t)rank, sizeof *dims);
    for (int i = 0; !memory->failed && i < rank; i++) {
        dims[i] = cnn_onnx_alloc(memory, 1, sizeof **dims);
        if (!dims[i])
            break;
        cnn_onnx__dimension__init(dims[i]);
        dims[i]->symbol = i == 0 ? cnn_onnx_text(memory, "N") : NULL;
        dims[i]->has_size = i > 0;
        dims[i]->size = i > 0 ? sizes[i - 1] : 0;
    }
    if (memory->failed)
        return NULL;
    cnn_onnx__value_info__init(info);
    cnn_onnx__type__init(type);
    cnn_onnx__tensor_type__init(tensor);
    cnn_onnx__shape__init(shape);
    shape->dim = dims;
    shape->n_dim = (size_t)rank;
    tensor->has_element = 1;
    tensor->element = CNN_ONNX_FLOAT;
    tensor->shape = shape;
    type->tensor = tensor;
    info->type = type;
    info->name = (char *)(uintptr_t)name;
    info->description = (char *)(uintptr_t)description;
    list[0] = info;
    return list;
}

/* Scores are [N,classes] also where the last layer is a convolution or so. The name of the output goes to them. */
static cnn_status flatten_output(cnn_onnx_export *export, int last)
{
    cnn_onnx_made *made = &export->made[last];
    const char *layer = export->model->nodes[last].name, *output = made->name;
    if (made->flat)
        return CNN_OK;
    if (strcmp(output, layer) == 0)
        output = cnn_onnx_text(&export->memory, "%s.flat", layer);
    export->graph.node[export->graph.n_node - 1]->output[0] = (char *)(uintptr_t)layer;
    cnn_onnx_node *node =
        cnn_onnx_put_node(export, "Flatten", cnn_onnx_text(&export->memory, "%s.flatten", layer), output, 1, layer);
    cnn_onnx_put_int(export, node, "axis", 1);
    *made = (cnn_onnx_made){.name = output, .flat = true};
    return export->memory.failed ? CNN_ERR_MEMORY : CNN_OK;
}

static cnn_status make_graph(cnn_onnx_export *export)
{
    cnn_status status = CNN_OK;
    const cnn_model *model = export->model;
    const cnn_tensor_desc in = cnn_model_input(model), out = cnn_model_output(model);
    const int last = model->node_count - 1;
    cnn_onnx_graph *graph = &export->graph;
    cnn_onnx__graph__init(graph);
    export->made = cnn_onnx_alloc(&export->memory, (size_t)model->node_count, sizeof *export->made);
    if (!export->made)
        CNN_TRY(CNN_ERR_MEMORY);
    for (int i = 0; i < model->node_count; i++)
        CNN_TRY(put_layer(export, i));
    CNN_TRY(flatten_output(export, last));
    CNN_TRY(cnn_onnx_write_softmax(export, last));
    graph->name = (char *)(uintptr_t)(model->name[0] ? model->name : "network");
    graph->input = make_info(export, model->nodes[0].name, 4, (const int64_t[]){in.c, in.h, in.w},
                             "pixels in [0,1], bytes divided by 255");
    graph->output =
        make_info(export, export->made[last].name, 2, (const int64_t[]){out.c},
                  model->softmax ? "probabilities of the classes" : "scores of the classes, before softmax");
    graph->n_input = graph->n_output = 1;
    if (export->memory.failed)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(check_names(export));
out:
    return status;
}

static cnn_status pack(cnn_onnx_export *export, uint8_t **data, size_t *size)
{
    cnn_status status = CNN_OK;
    cnn_onnx_file file = CNN_ONNX__MODEL__INIT;
    CnnOnnx__OperatorSet operators = CNN_ONNX__OPERATOR_SET__INIT, *operator_list[1] = {&operators};
    operators.domain = (char[]){""};
    operators.has_version = 1;
    operators.version = CNN_ONNX_OPSET;
    file.has_format = 1;
    file.format = CNN_ONNX_IR_VERSION;
    file.producer = (char[]){CNN_ONNX_PRODUCER};
    file.producer_version = (char *)(uintptr_t)cnn_version();
    file.graph = &export->graph;
    file.operators = operator_list;
    file.n_operators = 1;
    CNN_TRY(cnn_onnx_write_notes(export, &file));
    *size = cnn_onnx__model__get_packed_size(&file);
    if (*size > CNN_ONNX_MAX_BYTES)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "an ONNX file has at most 2^31-1 bytes, and this one would have %zu", *size);
    *data = cnn_calloc(*size, 1);
    if (!*data)
        CNN_TRY(CNN_ERR_MEMORY);
    cnn_onnx__model__pack(&file, *data);
out:
    return status;
}

cnn_status cnn_onnx_encode(const cnn_model *model, uint8_t **data, size_t *size)
{
    cnn_onnx_export export = {.model = model, .quantized = cnn_model_is_quantized(model)};
    cnn_status status = cnn_model_check(model);
    if (status == CNN_OK)
        status = make_graph(&export);
    if (status == CNN_OK)
        status = pack(&export, data, size);
    cnn_onnx_memory_free(&export.memory);
    return status;
}

cnn_status cnn_onnx_save(const cnn_model *model, const char *path, size_t *bytes)
{
    uint8_t *data;
    size_t size;
    cnn_status status = cnn_onnx_encode(model, &data, &size);
    if (status != CNN_OK)
        return status == CNN_ERR_MEMORY ? status : cnn_error_prefix(status, "%s: not written", path);
    status = cnn_save_file(path, data, size);
    free(data);
    if (status == CNN_OK && bytes)
        *bytes = size;
    return status;
}
