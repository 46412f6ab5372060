/* Changes .cnn files part by part: layers, attributes, wiring, tensors, codings, fields. Mostly everything that depends
 * on a change is then made to fit (repair below), so that files get past shapes and lengths to what comes behind. */
#include "container.h"

#include <string.h>

/* ---- Layers ---- */

static const cnn_layer_type *type_of(const fuzz_layer *layer)
{
    return layer->type < 256 ? cnn_layer_by_id((unsigned)layer->type) : NULL;
}

static int attr_count(const cnn_layer_type *type)
{
    int count = 0;
    while (type && count < CNN_MAX_ATTRS && type->attr[count].name)
        count++;
    return count;
}

/* A layer of some type with attributes that it may well have. */
static void draw_layer(fuzz_random *random, fuzz_layer *layer)
{
    layer->type = fuzz_below(random, 12);
    const cnn_layer_type *type = type_of(layer);
    layer->mask = 0;
    for (int i = 0; i < attr_count(type); i++)
        if (type->attr[i].required || fuzz_below(random, 3) == 0) {
            layer->mask |= (uint64_t)1 << i;
            layer->attr[i] = type->attr[i].type == CNN_ATTR_FLOAT ? (double)fuzz_below(random, 9) / 8
                                                                  : (double)(1 + fuzz_below(random, 4));
        }
    layer->has_attrs = layer->mask != 0;
}

static void change_attr(fuzz_container *c, fuzz_random *random)
{
    fuzz_layer *layer = &c->layer[fuzz_below(random, (uint64_t)c->layer_count)];
    const cnn_layer_type *type = type_of(layer);
    const int count = attr_count(type), i = (int)fuzz_below(random, (uint64_t)count + (fuzz_below(random, 16) == 0));
    if (i >= CNN_MAX_ATTRS)
        return;
    layer->has_attrs = true;
    if (fuzz_below(random, 8) == 0)
        layer->mask ^= (uint64_t)1 << i;
    else
        layer->mask |= (uint64_t)1 << i;
    if (i < count && type->attr[i].type == CNN_ATTR_FLOAT)
        layer->attr[i] = (double)fuzz_float(random, (float)layer->attr[i]);
    else
        layer->attr[i] = (double)(int64_t)fuzz_number(
            random, layer->attr[i] > 0 && layer->attr[i] < 1e18 ? (uint64_t)layer->attr[i] : 0);
}

/* Moves what refers to layers from `from` on by one, up or down. */
static void renumber(fuzz_container *c, int from, int by)
{
    for (int i = 0; i < c->layer_count; i++)
        for (int j = 0; j < c->layer[i].input_count; j++)
            if (c->layer[i].input[j] >= from && c->layer[i].input[j] < FUZZ_MOST_LAYERS)
                c->layer[i].input[j] += by;
    for (int i = 0; i < c->tensor_count; i++)
        if (c->tensor[i].layer >= (uint64_t)from)
            c->tensor[i].layer += (uint64_t)by;
}

/* A flag says whether inputs other than the layer before are written; set where it is needed. */
static void flag_inputs(fuzz_container *c)
{
    for (int i = 0; i < c->layer_count; i++) {
        fuzz_layer *layer = &c->layer[i];
        if (layer->input_count != (i > 0) || (i > 0 && layer->input[0] != i - 1))
            layer->has_inputs = true;
    }
}

/* A new layer behind layer `at`, read in its place by those that came behind it. */
static void insert_layer(fuzz_container *c, fuzz_random *random)
{
    if (c->layer_count == FUZZ_MOST_LAYERS)
        return;
    const int at = (int)fuzz_below(random, (uint64_t)c->layer_count);
    renumber(c, at + 1, 1);
    for (int i = at + 1; i < c->layer_count; i++)
        for (int j = 0; j < c->layer[i].input_count; j++)
            if (c->layer[i].input[j] == at && fuzz_below(random, 4) > 0)
                c->layer[i].input[j] = at + 1;
    memmove(&c->layer[at + 2], &c->layer[at + 1], sizeof *c->layer * (size_t)(c->layer_count - at - 1));
    fuzz_layer *layer = &c->layer[at + 1];
    *layer = (fuzz_layer){.input_count = 1, .input = {at}, .scale_code = CNN_SCALE_AS_INPUT};
    if (fuzz_below(random, 2)) {
        layer->scale_code = CNN_SCALE_F32;
        layer->scale = 0.01f;
    }
    draw_layer(random, layer);
    if (layer->type == CNN_LAYER_ADD || layer->type == CNN_LAYER_CONCAT) {
        layer->input_count = 2;
        layer->input[1] = (int64_t)fuzz_below(random, (uint64_t)at + 1);
    }
    c->layer_count++;
}

static void delete_layer(fuzz_container *c, fuzz_random *random)
{
    if (c->layer_count == 1)
        return;
    const int at = (int)fuzz_below(random, (uint64_t)c->layer_count);
    const int64_t before = c->layer[at].input[0];
    for (int i = at + 1; i < c->layer_count; i++)
        for (int j = 0; j < c->layer[i].input_count; j++)
            if (c->layer[i].input[j] == at)
                c->layer[i].input[j] = before;
    int kept = 0;
    for (int i = 0; i < c->tensor_count; i++)
        if (c->tensor[i].layer != (uint64_t)at)
            c->tensor[kept++] = c->tensor[i];
    c->tensor_count = kept;
    c->layer_count--;
    memmove(&c->layer[at], &c->layer[at + 1], sizeof *c->layer * (size_t)(c->layer_count - at));
    renumber(c, at + 1, -1);
}

static void change_wiring(fuzz_container *c, fuzz_random *random)
{
    const int at = (int)fuzz_below(random, (uint64_t)c->layer_count);
    fuzz_layer *layer = &c->layer[at];
    const uint64_t kind = fuzz_below(random, 8);
    if (kind == 0)
        layer->input_count = (int)fuzz_below(random, CNN_MAX_INPUTS + 1);
    const int i = (int)fuzz_below(random, (uint64_t)layer->input_count);
    if (i < CNN_MAX_INPUTS)
        layer->input[i] = kind == 1 ? (int64_t)fuzz_number(random, 1) : (int64_t)fuzz_below(random, (uint64_t)at);
    if (kind == 2)
        layer->has_inputs = !layer->has_inputs;
}

static void change_layer(fuzz_container *c, fuzz_random *random)
{
    fuzz_layer *layer = &c->layer[fuzz_below(random, (uint64_t)c->layer_count)];
    fuzz_layer *other = &c->layer[fuzz_below(random, (uint64_t)c->layer_count)];
    const fuzz_layer kept = *layer;
    switch (fuzz_below(random, 6)) {
    case 0:
        *layer = *other;
        *other = kept;
        break;
    case 1:
        layer->scale_code = fuzz_below(random, 4);
        break;
    case 2:
        layer->scale = fuzz_float(random, layer->scale);
        break;
    case 3:
        if (c->has_names)
            fuzz_change(&layer->name);
        break;
    case 4:
        layer->type = fuzz_below(random, 14);
        break;
    default:
        draw_layer(random, layer);
    }
}

/* ---- Tensors and fields ---- */

static void change_numbers(fuzz_tensor *t, fuzz_random *random)
{
    uint64_t *const number[] = {&t->layer,   &t->role,    &t->dtype,   &t->flags,   &t->structure,     &t->encoding,
                                &t->dims[0], &t->dims[1], &t->dims[2], &t->dims[3], &t->scale_encoding};
    uint64_t *one = number[fuzz_below(random, sizeof number / sizeof *number)];
    *one = fuzz_number(random, *one);
}

static void change_floats(fuzz_part *part, fuzz_random *random)
{
    float value;
    if (part->bytes < sizeof value)
        return;
    uint8_t *at = part->data + fuzz_below(random, part->bytes / sizeof value) * sizeof value;
    memcpy(&value, at, sizeof value);
    value = fuzz_float(random, value);
    memcpy(at, &value, sizeof value);
}

/* The values of a tensor anew, coded in some way that takes them. */
static void code_again(fuzz_tensor *t, fuzz_random *random)
{
    const uint64_t encoding = fuzz_below(random, CNN_ENCODING_COUNT);
    const cnn_tensor_coding *coding = &cnn_tensor_codings[encoding];
    const uint64_t *d = t->dims;
    if (!coding->encode || d[0] > 256 || d[1] > 64 || d[2] > 64 || d[3] > 256 || d[0] * d[1] * d[2] * d[3] > 1 << 14 ||
        (t->dtype != CNN_F32 && t->dtype != CNN_I8 && t->dtype != CNN_I32) || t->structure >= CNN_STRUCTURE_COUNT)
        return;
    cnn_tensor_desc desc = cnn_desc((cnn_dtype)t->dtype, (int32_t)d[0], (int32_t)d[1], (int32_t)d[2], (int32_t)d[3]);
    desc.structure = (cnn_structure)t->structure;
    const size_t bytes = cnn_desc_bytes(&desc);
    if (bytes == 0 || !coding->suits(&desc))
        return;
    fuzz_part values = {.data = fuzz_block(bytes), .bytes = bytes};
    const uint64_t live = fuzz_below(random, 5);
    for (size_t i = 0; i < bytes; i++)
        if (fuzz_below(random, 4) < live)
            values.data[i] = (uint8_t)(fuzz_next(random) & (t->dtype == CNN_I8 ? 0x3F : 0x3D));
    cnn_bytes parameters = {0}, coded = {0};
    if (coding->encode(&desc, values.data, &parameters, &coded) == CNN_OK) {
        t->encoding = encoding;
        t->parameters = fuzz_copy(parameters.data, parameters.length);
        t->values.part = fuzz_copy(coded.data, coded.length);
    }
    cnn_bytes_free(&parameters);
    cnn_bytes_free(&coded);
}

static void change_tensor(fuzz_container *c, fuzz_random *random)
{
    if (c->tensor_count == 0)
        return;
    fuzz_tensor *t = &c->tensor[fuzz_below(random, (uint64_t)c->tensor_count)];
    fuzz_payload *payload = fuzz_below(random, 3) ? &t->values : fuzz_below(random, 2) ? &t->scales : &t->mask;
    switch (fuzz_below(random, 8)) {
    case 0:
        change_numbers(t, random);
        break;
    case 1:
        fuzz_change(&payload->part);
        break;
    case 2:
        change_floats(&payload->part, random);
        break;
    case 3:
        payload->outside = !payload->outside;
        break;
    case 4:
        fuzz_resize(&payload->part, (size_t)fuzz_number(random, payload->part.bytes) % 65536);
        break;
    case 5:
        t->flags ^= (uint64_t)1 << fuzz_below(random, 5);
        break;
    case 6:
        fuzz_change(&t->parameters);
        break;
    default:
        code_again(t, random);
    }
}

static void move_tensors(fuzz_container *c, fuzz_random *random)
{
    if (c->tensor_count == 0)
        return;
    fuzz_tensor *a = &c->tensor[fuzz_below(random, (uint64_t)c->tensor_count)];
    fuzz_tensor *b = &c->tensor[fuzz_below(random, (uint64_t)c->tensor_count)];
    const fuzz_tensor kept = *a;
    switch (fuzz_below(random, 3)) {
    case 0:
        *a = *b;
        *b = kept;
        break;
    case 1:
        if (c->tensor_count < FUZZ_MOST_TENSORS)
            c->tensor[c->tensor_count++] = kept;
        break;
    default:
        *a = c->tensor[--c->tensor_count];
    }
}

static void change_field(fuzz_container *c, fuzz_random *random)
{
    fuzz_field *field = &c->field[fuzz_below(random, (uint64_t)c->field_count)];
    const uint64_t kind = fuzz_below(random, 8);
    if (kind == 0 && c->field_count < FUZZ_MOST_FIELDS) {
        field = &c->field[c->field_count++];
        *field = (fuzz_field){.tag = fuzz_below(random, CNN_TAG_COUNT)};
        fuzz_change(&field->value);
    } else if (c->field_count == 0) {
        return;
    } else if (kind == 1) {
        *field = c->field[--c->field_count];
    } else if (kind == 2) {
        field->tag = fuzz_below(random, 16) ? 1 + fuzz_below(random, 8) : fuzz_below(random, CNN_TAG_COUNT);
    } else {
        fuzz_change(&field->value);
    }
}

static void change_flags(fuzz_container *c, fuzz_random *random)
{
    bool *const flag[] = {&c->has_names, &c->has_scales, &c->has_tensors};
    bool *one = flag[fuzz_below(random, 3)];
    if (fuzz_below(random, 4) == 0)
        *one = !*one;
    else if (fuzz_below(random, 4) == 0)
        c->signature.bytes = fuzz_below(random, 2) ? 0 : c->signature.bytes;
    else if (fuzz_below(random, 8) == 0)
        fuzz_change(&c->signature);
    else if (fuzz_below(random, 16) == 0)
        c->version = fuzz_number(random, c->version);
}

/* ---- What depends on the layers ---- */

/* The same layers as a model, for the shapes of their parameters; NULL when there is no such model. */
static cnn_model *shapes_of(const fuzz_container *c)
{
    cnn_model *model = cnn_model_new();
    bool good = model != NULL;
    for (int i = 0; i < c->layer_count && good; i++) {
        const fuzz_layer *layer = &c->layer[i];
        const cnn_layer_type *type = type_of(layer);
        int input[CNN_MAX_INPUTS];
        double attr[CNN_MAX_ATTRS] = {0};
        char name[CNN_NAME_BYTES];
        for (int j = 0; j < layer->input_count; j++) {
            good = good && layer->input[j] >= 0 && layer->input[j] < i;
            input[j] = (int)layer->input[j];
        }
        for (int j = 0; j < attr_count(type); j++)
            attr[j] = layer->mask >> j & 1 ? layer->attr[j] : type->attr[j].standard;
        good = good && type;
        if (good)
            cnn_file_default_name(model, type, i, name);
        good = good && cnn_model_add(model, type, name, input, layer->input_count, attr) == i;
    }
    good = good && cnn_model_infer_shapes(model, "mutated") == CNN_OK;
    if (!good)
        cnn_model_free(model);
    return good ? model : NULL;
}

static void fit_tensor(fuzz_tensor *t, const cnn_tensor_desc *want, bool i8, fuzz_random *random)
{
    const uint64_t dims[] = {(uint64_t)want->n, (uint64_t)want->h, (uint64_t)want->w, (uint64_t)want->c};
    const uint64_t count = dims[0] * dims[1] * dims[2] * dims[3];
    const bool same = memcmp(t->dims, dims, sizeof dims) == 0 || !(t->flags & CNN_TENSOR_DIMS);
    memcpy(t->dims, dims, sizeof dims);
    t->dtype = !i8 ? CNN_F32 : t->role == CNN_PARAM_WEIGHT ? CNN_I8 : CNN_I32;
    t->flags &= CNN_TENSOR_FLAGS & ~(uint64_t)CNN_TENSOR_SCALES;
    t->flags |= t->dtype == CNN_I8 ? CNN_TENSOR_SCALES : 0;
    t->scale_encoding = CNN_ENCODING_RAW;
    fuzz_resize(&t->scales.part, dims[0] * sizeof(float));
    fuzz_resize(&t->mask.part, (count + 7) / 8);
    if (count % 8 && t->mask.part.bytes)
        t->mask.part.data[count / 8] &= (uint8_t)((1u << count % 8) - 1);
    if (!same && t->encoding != CNN_ENCODING_RAW) {
        t->encoding = CNN_ENCODING_RAW;
        code_again(t, random);
    }
    if (t->encoding == CNN_ENCODING_RAW)
        fuzz_resize(&t->values.part, count * (t->dtype == CNN_I8 ? 1 : 4));
}

/* The tensors that the layers ask for, in their order, of what is there. */
static void repair(fuzz_container *c, fuzz_random *random)
{
    enum { MOST_VALUES = 1 << 14 };
    static fuzz_tensor made[FUZZ_MOST_TENSORS];
    int count = 0;
    bool i8 = false;
    cnn_model *model = c->has_tensors ? shapes_of(c) : NULL;
    for (int i = 0; i < c->tensor_count; i++)
        i8 = i8 || c->tensor[i].dtype == CNN_I8;
    for (int i = 0; model && i < model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_STORED; role++) {
            const cnn_tensor_desc *want = &model->nodes[i].param[role].desc;
            if (want->dtype == CNN_NONE)
                continue;
            if (count == FUZZ_MOST_TENSORS || cnn_desc_elements(want) > MOST_VALUES)
                goto out;
            fuzz_tensor *t = &made[count++];
            *t = (fuzz_tensor){.flags = CNN_TENSOR_DIMS};
            for (int j = 0; j < c->tensor_count; j++)
                if (c->tensor[j].layer == (uint64_t)i && c->tensor[j].role == (uint64_t)role)
                    *t = c->tensor[j];
            t->layer = (uint64_t)i;
            t->role = (uint64_t)role;
            fit_tensor(t, want, i8, random);
        }
    if (model) {
        memcpy(c->tensor, made, sizeof *made * (size_t)count);
        c->tensor_count = count;
    }
out:
    cnn_model_free(model);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    static void (*const changes[])(fuzz_container *, fuzz_random *) = {
        change_attr,   insert_layer,  delete_layer, change_wiring, change_layer, change_tensor,
        change_tensor, change_tensor, move_tensors, change_field,  change_flags};
    static fuzz_container container;
    fuzz_random random = {.state = (uint64_t)seed << 20};
    cnn_bytes file = {0};
    fuzz_forget();
    if (fuzz_below(&random, 8) == 0 || !fuzz_container_read(&container, data, size))
        return LLVMFuzzerMutate(data, size, max_size);
    for (uint64_t i = 1 + fuzz_below(&random, 3); i > 0; i--)
        changes[fuzz_below(&random, sizeof changes / sizeof *changes)](&container, &random);
    if (fuzz_below(&random, 16))
        flag_inputs(&container);
    if (fuzz_below(&random, 4))
        repair(&container, &random);
    fuzz_container_write(&container, &file);
    const bool fits = !file.failed && file.length <= max_size;
    if (fits)
        memcpy(data, file.data, size = file.length);
    cnn_bytes_free(&file);
    return fits ? size : LLVMFuzzerMutate(data, size, max_size);
}
