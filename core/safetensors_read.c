/* Giving a network the weights of a safetensors file: which tensor is which parameter, then the values. */
#include "core/safetensors.h"

#include "core/channels_first.h"
#include "core/error.h"
#include "core/file.h"
#include "core/input_file.h"
#include "core/memory.h"
#include "core/torch_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FULL_NAME = CNN_NAME_BYTES + 16, NAMES_SHOWN = 6, MAX_FILE = 34 /* 2^34 bytes */ };

/* A prefix of names that layers without names of their own take in order: "0" of "0.weight". */
typedef struct group {
    const char *name; /* not ended by NUL */
    size_t length;
} group;

static bool is_stored(const cnn_node *node, int role)
{
    return node->param[role].desc.dtype != CNN_NONE;
}

/* ---- Names ---- */

/* Whether a tensor's name is `wanted`, or ends in "." and that. */
static bool ends_in(const char *name, const char *wanted)
{
    const size_t length = strlen(name), end = strlen(wanted);
    return length >= end && strcmp(name + length - end, wanted) == 0 &&
           (length == end || name[length - end - 1] == '.');
}

/* The tensor with this name, or the only one that ends in it; NULL: none. *several: more than one does. */
static cnn_safetensor *find(const cnn_safetensors *list, const char *wanted, bool *several)
{
    cnn_safetensor *found = NULL;
    *several = false;
    for (int i = 0; i < list->count; i++) {
        cnn_safetensor *tensor = &list->tensors[i];
        if (strcmp(tensor->name, wanted) == 0) {
            *several = false;
            return tensor;
        }
        if (ends_in(tensor->name, wanted)) {
            *several |= found != NULL;
            found = tensor;
        }
    }
    return *several ? NULL : found;
}

/* Whether a tensor is no weight: PyTorch counts a batch norm's batches. */
static bool is_counter(const cnn_safetensor *tensor)
{
    return ends_in(tensor->name, "num_batches_tracked");
}

/* Digits count as a number: "features.10" comes after "features.9". */
static int compare_natural(const char *a, const char *a_end, const char *b, const char *b_end)
{
    while (a < a_end && b < b_end) {
        const char *a_digits = a, *b_digits = b;
        while (a < a_end && *a >= '0' && *a <= '9')
            a++;
        while (b < b_end && *b >= '0' && *b <= '9')
            b++;
        if (a > a_digits && b > b_digits) {
            const int longer = (a - a_digits > b - b_digits) - (a - a_digits < b - b_digits);
            const int order = longer ? longer : memcmp(a_digits, b_digits, (size_t)(a - a_digits));
            if (order)
                return order;
            continue;
        }
        a = a_digits;
        b = b_digits;
        if (*a != *b)
            return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
        a++;
        b++;
    }
    return (a < a_end) - (b < b_end);
}

static int compare_groups(const void *a, const void *b)
{
    const group *left = a, *right = b;
    return compare_natural(left->name, left->name + left->length, right->name, right->name + right->length);
}

/* All prefixes in natural order; returns how many. groups [list->count] */
static int list_groups(const cnn_safetensors *list, group *groups)
{
    int count = 0, kept = 0;
    for (int i = 0; i < list->count; i++) {
        const char *dot = strrchr(list->tensors[i].name, '.');
        if (dot && !is_counter(&list->tensors[i]))
            groups[count++] = (group){list->tensors[i].name, (size_t)(dot - list->tensors[i].name)};
    }
    qsort(groups, (size_t)count, sizeof *groups, compare_groups);
    for (int i = 0; i < count; i++)
        if (kept == 0 || compare_groups(&groups[kept - 1], &groups[i]) != 0)
            groups[kept++] = groups[i];
    return kept;
}

/* ---- Which tensor a layer takes ---- */

/* What the parameters of a layer are called: after the layer, or after its group. */
static void name_parameter(const cnn_node *node, int role, const group *g, char *name, size_t bytes)
{
    snprintf(name, bytes, "%.*s.%s", g ? (int)g->length : (int)strlen(node->name), g ? g->name : node->name,
             cnn_torch_role_name((cnn_param_role)role));
}

static void list_names(const cnn_safetensors *list, cnn_text *text)
{
    int count = 0;
    for (int i = 0; i < list->count; i++) {
        if (is_counter(&list->tensors[i]))
            continue;
        if (++count > NAMES_SHOWN)
            break;
        cnn_text_append(text, "%s%.60s", count > 1 ? ", " : "", list->tensors[i].name);
    }
    if (count > NAMES_SHOWN)
        cnn_text_append(text, ", ...");
    for (size_t i = 0; text->data && i < text->length; i++)
        if (text->data[i] < 0x20 || text->data[i] == 0x7F)
            text->data[i] = '?';
}

static cnn_status refuse_missing(const cnn_safetensors *list, const cnn_node *node, const char *name, bool several)
{
    cnn_text names = {0};
    if (several)
        return cnn_error(CNN_ERR_SHAPE, "layer %s: several tensors end in %s; none is called so", node->name, name);
    list_names(list, &names);
    cnn_status status = cnn_error(CNN_ERR_SHAPE, "layer %s: there is no %s; the file holds %s", node->name, name,
                                  names.data ? names.data : "nothing");
    cnn_text_free(&names);
    return status;
}

static cnn_status check_tensor(const cnn_node *node, cnn_param_role role, const cnn_safetensor *tensor)
{
    int64_t dims[4];
    const int rank = cnn_torch_dims(node, role, dims);
    if (tensor->type == CNN_RAW_NONE)
        return cnn_error(CNN_ERR_UNSUPPORTED, "layer %s: %s is of type %.20s; F32, F16, BF16 and F64 are read",
                         node->name, cnn_torch_role_name(role), tensor->type_name);
    bool same = rank == tensor->rank;
    for (int i = 0; i < rank && same; i++)
        same = tensor->dims[i] == dims[i];
    if (same)
        return CNN_OK;
    cnn_text text = {0};
    for (int i = 0; i < rank; i++)
        cnn_text_append(&text, "%s%lld", i ? "," : "[", (long long)dims[i]);
    cnn_text_append(&text, "], and in the file it is ");
    for (int i = 0; i < tensor->rank && i < CNN_SAFETENSORS_RANK; i++)
        cnn_text_append(&text, "%s%lld", i ? "," : "[", (long long)tensor->dims[i]);
    cnn_text_append(&text, tensor->rank == 0 ? "one number" : tensor->rank > CNN_SAFETENSORS_RANK ? ",...]" : "]");
    cnn_status status = cnn_error(CNN_ERR_SHAPE, "layer %s: %s must be %s", node->name, cnn_torch_role_name(role),
                                  text.data ? text.data : "?");
    cnn_text_free(&text);
    return status;
}

/* Finds the tensors of one layer; map [CNN_PARAM_STORED]. */
static cnn_status map_layer(const cnn_safetensors *list, const cnn_node *node, const group *g, cnn_safetensor **map)
{
    char name[FULL_NAME + 256];
    for (int role = 0; role < CNN_PARAM_STORED; role++) {
        bool several;
        if (!is_stored(node, role))
            continue;
        name_parameter(node, role, g, name, sizeof name);
        map[role] = find(list, name, &several);
        if (!map[role])
            return refuse_missing(list, node, name, several);
        cnn_status status = check_tensor(node, (cnn_param_role)role, map[role]);
        if (status != CNN_OK)
            return status;
        map[role]->taken++;
    }
    return CNN_OK;
}

/* Whether any tensor has the name of a layer. */
static bool has_names(const cnn_safetensors *list, const cnn_model *model)
{
    char name[FULL_NAME];
    bool several;
    for (int i = 0; i < model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_STORED; role++)
            if (is_stored(&model->nodes[i], role)) {
                name_parameter(&model->nodes[i], role, NULL, name, sizeof name);
                if (find(list, name, &several) || several)
                    return true;
            }
    return false;
}

static cnn_status map_all(const cnn_safetensors *list, const cnn_model *model, cnn_safetensor **map)
{
    cnn_status status = CNN_OK;
    const bool named = has_names(list, model);
    int layers = 0, used = 0;
    group *groups = cnn_calloc((size_t)list->count + 1, sizeof *groups);
    if (!groups)
        return CNN_ERR_MEMORY;
    const int count = named ? 0 : list_groups(list, groups);
    for (int i = 0; i < model->node_count; i++)
        layers += cnn_node_has_params(&model->nodes[i]);
    const bool in_order = !named && count == layers; /* else by names, which says what is missing */
    for (int i = 0; i < model->node_count; i++)
        if (cnn_node_has_params(&model->nodes[i]))
            CNN_TRY(map_layer(list, &model->nodes[i], in_order ? &groups[used++] : NULL,
                              map + (size_t)i * CNN_PARAM_STORED));
    for (int i = 0; i < list->count; i++) {
        const cnn_safetensor *tensor = &list->tensors[i];
        if (tensor->taken > 1)
            CNN_FAIL(CNN_ERR_SHAPE, "two layers take %.80s", tensor->name);
        if (tensor->taken == 0 && !is_counter(tensor))
            CNN_FAIL(CNN_ERR_SHAPE,
                     "no layer of %s takes %.80s; give the network that the weights are of (a bias needs bias=1 there)",
                     model->name, tensor->name);
    }
out:
    free(groups);
    return status;
}

/* ---- Values ---- */

static cnn_status copy_values(cnn_model *model, cnn_safetensor *const *map)
{
    int64_t most = 0;
    for (int i = 0; i < model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_STORED; role++) {
            const int64_t count = cnn_desc_elements(&model->nodes[i].param[role].desc);
            most = count > most ? count : most;
        }
    float *values = cnn_calloc((size_t)most + 1, sizeof *values);
    if (!values)
        return CNN_ERR_MEMORY;
    for (int i = 0; i < model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_STORED; role++) {
            cnn_param *param = &model->nodes[i].param[role];
            const cnn_safetensor *tensor = map[(size_t)i * CNN_PARAM_STORED + (size_t)role];
            if (!tensor)
                continue;
            cnn_raw_to_f32(tensor->type, tensor->data, cnn_desc_elements(&param->desc), values);
            cnn_channels_from_first(&param->desc, values, param->data);
        }
    free(values);
    return CNN_OK;
}

cnn_status cnn_safetensors_decode(const uint8_t *data, size_t size, const char *path, cnn_model *model)
{
    cnn_status status = CNN_OK;
    cnn_safetensors list = {0};
    cnn_safetensor **map = cnn_calloc((size_t)model->node_count * CNN_PARAM_STORED, sizeof *map);
    if (!map)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(cnn_safetensors_list(data, size, &list));
    CNN_TRY(map_all(&list, model, map));
    CNN_TRY(copy_values(model, map));
    CNN_TRY(cnn_model_check(model));
out:
    cnn_safetensors_free(&list);
    free(map);
    return status == CNN_OK || status == CNN_ERR_MEMORY ? status : cnn_error_prefix(status, "%s", path);
}

cnn_status cnn_safetensors_load(const char *path, cnn_model *model)
{
    cnn_input_file file = {0};
    cnn_status status = cnn_input_open(&file, path, "a safetensors file", (uint64_t)1 << MAX_FILE);
    if (status == CNN_OK)
        status = cnn_safetensors_decode(file.data, file.size, path, model);
    cnn_input_close(&file);
    return status;
}
