/* Changes ONNX files message by message: any field of any message, as its description says (protobuf-c's reflection),
 * and what is of ONNX: operators, names of values, dimensions with data that fit, new nodes in the middle of edges.
 *
 * All messages lie in memory that is forgotten as a whole, so that parts may be moved and shared at will. */
#include "mutate.h"

#include "onnx/format.h"
#include "onnx/operators.h"

#include <stdio.h>
#include <string.h>

enum { MOST_MESSAGES = 2048, MOST_STRINGS = 1024 };

typedef struct found {
    ProtobufCMessage *message[MOST_MESSAGES];
    size_t message_count;
    char *string[MOST_STRINGS];
    size_t string_count;
} found;

static void *allocate(void *unused, size_t bytes)
{
    (void)unused;
    return fuzz_block(bytes);
}

static void leave(void *unused, void *block)
{
    (void)unused;
    (void)block;
}

/* ---- What is there ---- */

static void *field_of(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    return (char *)message + field->offset;
}

static size_t *count_of(ProtobufCMessage *message, const ProtobufCFieldDescriptor *field)
{
    return (size_t *)((char *)message + field->quantifier_offset);
}

static void visit(found *all, ProtobufCMessage *message)
{
    if (all->message_count == MOST_MESSAGES)
        return;
    all->message[all->message_count++] = message;
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        const bool many = field->label == PROTOBUF_C_LABEL_REPEATED;
        void **list = many ? *(void ***)field_of(message, field) : (void **)field_of(message, field);
        if (field->type != PROTOBUF_C_TYPE_MESSAGE && field->type != PROTOBUF_C_TYPE_STRING)
            continue;
        for (size_t j = 0; j < (many ? *count_of(message, field) : 1); j++) {
            if (!list[j])
                continue;
            if (field->type == PROTOBUF_C_TYPE_MESSAGE)
                visit(all, list[j]);
            else if (all->string_count < MOST_STRINGS)
                all->string[all->string_count++] = list[j];
        }
    }
}

/* ---- Any field ---- */

static const char *const words[] = {"alpha",
                                    "auto_pad",
                                    "axes",
                                    "axis",
                                    "beta",
                                    "broadcast",
                                    "ceil_mode",
                                    "count_include_pad",
                                    "dilations",
                                    "epsilon",
                                    "group",
                                    "kernel_shape",
                                    "keepdims",
                                    "max",
                                    "min",
                                    "momentum",
                                    "output_shape",
                                    "pads",
                                    "perm",
                                    "ratio",
                                    "strides",
                                    "storage_order",
                                    "to",
                                    "transA",
                                    "transB",
                                    "value",
                                    "value_float",
                                    "value_floats",
                                    "value_int",
                                    "value_ints",
                                    "SAME_UPPER",
                                    "SAME_LOWER",
                                    "VALID",
                                    "NOTSET",
                                    "ai.onnx",
                                    "location",
                                    "offset",
                                    "length",
                                    "cnnkit.input",
                                    "cnnkit.dataset",
                                    "cnnkit.classes",
                                    "cnnkit.preparation",
                                    "cnnkit.augmentation",
                                    "cnnkit.split_seed",
                                    "mnist",
                                    "digit",
                                    "resize",
                                    "0",
                                    "",
                                    "x"};

static char *draw_string(const found *all, fuzz_random *random)
{
    size_t operators = 0;
    while (cnn_onnx_operators[operators].name)
        operators++;
    const uint64_t kind = fuzz_below(random, 4);
    const char *text = kind == 0           ? words[fuzz_below(random, sizeof words / sizeof *words)]
                       : kind == 1         ? cnn_onnx_operators[fuzz_below(random, operators)].name
                       : all->string_count ? all->string[fuzz_below(random, all->string_count)]
                                           : "";
    return (char *)fuzz_copy((const uint8_t *)text, strlen(text) + 1).data;
}

static size_t bytes_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_FLOAT:
        return 4;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default:
        return sizeof(void *);
    }
}

static void change_value(const found *all, const ProtobufCFieldDescriptor *field, void *value, fuzz_random *random)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
        *(int32_t *)value = (int32_t)(uint32_t)fuzz_number(random, (uint64_t) * (int32_t *)value);
        break;
    case PROTOBUF_C_TYPE_INT64:
        *(int64_t *)value = (int64_t)fuzz_number(random, (uint64_t) * (int64_t *)value);
        break;
    case PROTOBUF_C_TYPE_FLOAT:
        *(float *)value = fuzz_float(random, *(float *)value);
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        *(double *)value = (double)fuzz_float(random, 1.0f);
        break;
    case PROTOBUF_C_TYPE_STRING:
        *(char **)value = draw_string(all, random);
        break;
    case PROTOBUF_C_TYPE_BYTES: {
        ProtobufCBinaryData *data = value;
        fuzz_part part = {.data = data->data, .bytes = data->len};
        fuzz_change(&part);
        *data = (ProtobufCBinaryData){.data = part.data, .len = part.bytes};
        break;
    }
    default: { /* a message: another one of its kind */
        ProtobufCMessage *other = all->message[fuzz_below(random, all->message_count)];
        if (other->descriptor == field->descriptor)
            *(ProtobufCMessage **)value = other;
    }
    }
}

/* One element of a list changed, moved, twice or gone. */
static void change_list(const found *all, ProtobufCMessage *message, const ProtobufCFieldDescriptor *field,
                        fuzz_random *random)
{
    size_t *count = count_of(message, field);
    const size_t bytes = bytes_of(field->type);
    const bool plain = field->type != PROTOBUF_C_TYPE_MESSAGE;
    char *list = fuzz_block((*count + 1) * bytes);
    if (*count)
        memcpy(list, *(char **)field_of(message, field), *count * bytes);
    else if (!plain)
        return;
    *(char **)field_of(message, field) = list;
    char *a = list + fuzz_below(random, *count) * bytes, *b = list + fuzz_below(random, *count) * bytes;
    char kept[sizeof(ProtobufCBinaryData)];
    memcpy(kept, a, bytes);
    switch (fuzz_below(random, 4)) {
    case 0: /* moved */
        memcpy(a, b, bytes);
        memcpy(b, kept, bytes);
        break;
    case 1: /* twice */
        memcpy(list + *count * bytes, kept, bytes);
        if (*count == 0 && field->type == PROTOBUF_C_TYPE_STRING)
            *(char **)(void *)list = draw_string(all, random);
        ++*count;
        break;
    case 2: /* gone; the others keep their order */
        if (*count)
            memmove(a, a + bytes, (size_t)(list + *count * bytes - a) - bytes);
        *count -= *count > 0;
        break;
    default:
        if (*count)
            change_value(all, field, a, random);
    }
}

static void change_any(const found *all, fuzz_random *random)
{
    ProtobufCMessage *message = all->message[fuzz_below(random, all->message_count)];
    if (message->descriptor->n_fields == 0)
        return;
    const ProtobufCFieldDescriptor *field =
        &message->descriptor->fields[fuzz_below(random, message->descriptor->n_fields)];
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        change_list(all, message, field, random);
        return;
    }
    const bool pointer = field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_MESSAGE;
    if (fuzz_below(random, 8) == 0) { /* not there; messages and strings are there when they are not NULL */
        if (pointer)
            *(void **)field_of(message, field) = NULL;
        else
            *(protobuf_c_boolean *)count_of(message, field) = false;
        return;
    }
    if (!pointer)
        *(protobuf_c_boolean *)count_of(message, field) = true;
    change_value(all, field, field_of(message, field), random);
}

/* ---- What is of ONNX ---- */

static cnn_onnx_node *any_node(const cnn_onnx_graph *graph, fuzz_random *random)
{
    return graph->n_node ? graph->node[fuzz_below(random, graph->n_node)] : NULL;
}

static void change_operator(cnn_onnx_graph *graph, const found *all, fuzz_random *random)
{
    cnn_onnx_node *node = any_node(graph, random);
    size_t operators = 0;
    (void)all;
    while (cnn_onnx_operators[operators].name)
        operators++;
    if (node)
        node->operator_ = (char *)(uintptr_t)cnn_onnx_operators[fuzz_below(random, operators)].name;
}

static void change_edge(cnn_onnx_graph *graph, const found *all, fuzz_random *random)
{
    cnn_onnx_node *node = any_node(graph, random), *other = any_node(graph, random);
    (void)all;
    if (!node || node->n_input == 0 || other->n_output == 0)
        return;
    char **input = &node->input[fuzz_below(random, node->n_input)], *constant = NULL;
    if (fuzz_below(random, 2) && graph->n_constant)
        constant = graph->constant[fuzz_below(random, graph->n_constant)]->name;
    *input = constant ? constant : other->output[0];
}

/* A node of one input, between a node and one of those that read it. */
static void insert_node(cnn_onnx_graph *graph, const found *all, fuzz_random *random)
{
    static const char *const operators[] = {"Relu",    "Identity",          "LeakyRelu", "Dropout",
                                            "Flatten", "GlobalAveragePool", "MaxPool",   "Clip",
                                            "Softmax", "AveragePool",       "Reshape",   "Add"};
    cnn_onnx_node *from = any_node(graph, random);
    if (!from || from->n_output == 0)
        return;
    cnn_onnx_node *made = fuzz_block(sizeof *made), **list = fuzz_block((graph->n_node + 1) * sizeof *list);
    char *name = fuzz_block(32), *was = from->output[0];
    snprintf(name, 32, "new%u", (unsigned)fuzz_below(random, 1000));
    cnn_onnx__node__init(made);
    made->operator_ = (char *)(uintptr_t)operators[fuzz_below(random, sizeof operators / sizeof *operators)];
    made->input = fuzz_block(2 * sizeof *made->input);
    made->input[0] = made->input[1] = was;
    made->n_input = strcmp(made->operator_, "Add") == 0 ? 2 : 1;
    made->output = fuzz_block(sizeof *made->output);
    made->output[0] = name;
    made->n_output = 1;
    if (fuzz_below(random, 2)) { /* attributes of another node: a window, an axis */
        const cnn_onnx_node *other = any_node(graph, random);
        made->attribute = other->attribute;
        made->n_attribute = other->n_attribute;
    }
    size_t count = 0;
    bool behind = false;
    for (size_t i = 0; i < graph->n_node; i++) {
        list[count++] = graph->node[i];
        for (size_t j = 0; behind && j < graph->node[i]->n_input; j++)
            if (graph->node[i]->input[j] && was && strcmp(graph->node[i]->input[j], was) == 0)
                graph->node[i]->input[j] = name;
        if (graph->node[i] == from && !behind) {
            list[count++] = made;
            behind = true;
        }
    }
    graph->node = list;
    graph->n_node = count;
    (void)all;
}

/* What passes through a node goes around it. */
static void delete_node(cnn_onnx_graph *graph, const found *all, fuzz_random *random)
{
    if (graph->n_node == 0)
        return;
    const size_t at = (size_t)fuzz_below(random, graph->n_node);
    const cnn_onnx_node *gone = graph->node[at];
    (void)all;
    if (gone->n_input == 0 || gone->n_output == 0 || !gone->output[0])
        return;
    cnn_onnx_node **list = fuzz_block(graph->n_node * sizeof *list);
    memcpy(list, graph->node, at * sizeof *list);
    memcpy(list + at, graph->node + at + 1, (graph->n_node - at - 1) * sizeof *list);
    graph->node = list;
    graph->n_node--;
    for (size_t i = at; i < graph->n_node; i++)
        for (size_t j = 0; j < list[i]->n_input; j++)
            if (list[i]->input[j] && strcmp(list[i]->input[j], gone->output[0]) == 0)
                list[i]->input[j] = gone->input[0];
}

static size_t element_bytes(int32_t type)
{
    switch (type) {
    case CNN_ONNX_FLOAT:
    case CNN_ONNX_INT32:
        return 4;
    case CNN_ONNX_INT64:
    case CNN_ONNX_DOUBLE:
        return 8;
    case CNN_ONNX_FLOAT16:
    case CNN_ONNX_BFLOAT16:
        return 2;
    default:
        return 1;
    }
}

/* Other dimensions or another type, mostly with as much data as they ask for. */
static void change_constant(cnn_onnx_graph *graph, const found *all, fuzz_random *random)
{
    (void)all;
    if (graph->n_constant == 0)
        return;
    cnn_onnx_tensor *tensor = graph->constant[fuzz_below(random, graph->n_constant)];
    static const int32_t types[] = {1, 1, 1, 2, 3, 6, 7, 9, 10, 11, 16};
    if (fuzz_below(random, 3) == 0) {
        tensor->type = types[fuzz_below(random, sizeof types / sizeof *types)];
        tensor->has_type = true;
    } else if (tensor->n_dims) {
        int64_t *dim = &tensor->dims[fuzz_below(random, tensor->n_dims)];
        *dim =
            fuzz_below(random, 4) ? (int64_t)(1 + fuzz_below(random, 8)) : (int64_t)fuzz_number(random, (uint64_t)*dim);
    }
    uint64_t bytes = element_bytes(tensor->type);
    for (size_t i = 0; i < tensor->n_dims; i++)
        bytes = tensor->dims[i] >= 0 && tensor->dims[i] < 65536 && bytes < 65536 ? bytes * (uint64_t)tensor->dims[i]
                                                                                 : UINT64_MAX;
    if (fuzz_below(random, 8) == 0 || bytes > 65536)
        return;
    fuzz_part raw = tensor->has_raw ? fuzz_copy(tensor->raw.data, tensor->raw.len) : (fuzz_part){0};
    fuzz_resize(&raw, (size_t)bytes);
    tensor->raw = (ProtobufCBinaryData){.data = raw.data, .len = raw.bytes};
    tensor->has_raw = true;
    tensor->n_reals = tensor->n_wholes32 = tensor->n_wholes64 = tensor->n_reals64 = 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    static void (*const changes[])(cnn_onnx_graph *, const found *, fuzz_random *) = {
        change_operator, change_edge, insert_node, delete_node, change_constant};
    static found all;
    fuzz_random random = {.state = (uint64_t)seed << 20};
    ProtobufCAllocator allocator = {.alloc = allocate, .free = leave};
    fuzz_forget();
    cnn_onnx_file *file = fuzz_below(&random, 8) ? cnn_onnx__model__unpack(&allocator, size, data) : NULL;
    if (!file)
        return LLVMFuzzerMutate(data, size, max_size);
    for (uint64_t i = 1 + fuzz_below(&random, 3); i > 0; i--) {
        all = (found){.message_count = 0};
        visit(&all, &file->base);
        const uint64_t kind = fuzz_below(&random, 2 * sizeof changes / sizeof *changes);
        if (file->graph && kind < sizeof changes / sizeof *changes)
            changes[kind](file->graph, &all, &random);
        else
            change_any(&all, &random);
    }
    const size_t bytes = cnn_onnx__model__get_packed_size(file);
    return bytes <= max_size ? cnn_onnx__model__pack(file, data) : LLVMFuzzerMutate(data, size, max_size);
}
