/* Random networks. */
#include "tests/differential/graph.h"

#include "cnn/ops.h"
#include "core/hash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

uint64_t graph_below(graph_random *random, uint64_t count)
{
    return cnn_splitmix64(random->state++) % count;
}

bool graph_one_in(graph_random *random, uint64_t count)
{
    return graph_below(random, count) == 0;
}

float graph_uniform(graph_random *random)
{
    return 2.0f * cnn_hash_uniform(cnn_splitmix64(random->state++)) - 1.0f;
}

/* ---- Layers ---- */

enum { MOST_VALUES = 24 };

/* What a layer gives. */
typedef struct value {
    int number; /* of the layer, for its name */
    int h, w, c;
    bool read;
} value;

typedef struct graph {
    graph_random *random;
    cnn_text *cfg;
    value value[MOST_VALUES];
    int count;
    int64_t macs;
} graph;

static int pick(graph *g, const int *list, size_t count)
{
    return list[graph_below(g->random, count)];
}

/* Mostly the last one, which keeps chains long. */
static value *any_value(graph *g)
{
    return &g->value[graph_one_in(g->random, 3) ? graph_below(g->random, (uint64_t)g->count) : (uint64_t)g->count - 1];
}

/* A new value of a layer that reads `from`, unless that is NULL. */
static value *put(graph *g, value *from, int h, int w, int c)
{
    if (from)
        from->read = true;
    value *v = &g->value[g->count];
    *v = (value){.number = g->count, .h = h, .w = w, .c = c};
    g->count++;
    return v;
}

static int channels(graph *g)
{
    static const int widths[] = {1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 20, 24, 31, 32, 33, 48, 64, 65};
    return pick(g, widths, sizeof widths / sizeof *widths);
}

/* A group count that divides the inputs, and outputs that it divides. */
static int draw_groups(graph *g, int inputs, int *outputs)
{
    int groups = 1;
    if (graph_one_in(g->random, 3)) { /* depthwise */
        groups = inputs;
        *outputs = inputs * (1 + (int)graph_one_in(g->random, 4));
    } else if (graph_one_in(g->random, 4)) {
        groups = 1 + (int)graph_below(g->random, (uint64_t)inputs);
        groups = inputs % groups == 0 ? groups : 1;
        *outputs = (*outputs + groups - 1) / groups * groups;
    }
    return groups;
}

/* The name of a layer with weights; with a batch norm behind it that has the value's name, as nothing else may read
 * what it is folded into. */
static char draw_bn(graph *g)
{
    return graph_one_in(g->random, 3) ? 'c' : 'v';
}

static void put_bn(graph *g, char name, int number)
{
    if (name == 'c')
        cnn_text_append(g->cfg, "v%d = bn(c%d)\n", number, number);
}

static void put_conv(graph *g)
{
    value *from = any_value(g);
    const int kernel = 1 + (int)graph_below(g->random, graph_one_in(g->random, 3) ? 7 : 3);
    const int stride = graph_one_in(g->random, 3) ? 1 + (int)graph_below(g->random, 3) : 1;
    const int pad = (int)graph_below(g->random, (uint64_t)(kernel + (int)graph_one_in(g->random, 8)));
    int out = channels(g);
    const int groups = draw_groups(g, from->c, &out);
    const int h = cnn_window_count(from->h, kernel, stride, pad), w = cnn_window_count(from->w, kernel, stride, pad);
    const int64_t macs = (int64_t)h * w * out * kernel * kernel * (from->c / groups);
    if (h == 0 || w == 0 || g->macs + macs > GRAPH_MOST_MACS)
        return;
    g->macs += macs;
    const char name = draw_bn(g);
    const value *v = put(g, from, h, w, out);
    cnn_text_append(g->cfg, "%c%d = conv(v%d, out=%d, kernel=%d, stride=%d, pad=%d, bias=%d, groups=%d)\n", name,
                    v->number, from->number, out, kernel, stride, pad, (int)graph_below(g->random, 4) > 0, groups);
    put_bn(g, name, v->number);
}

static void put_linear(graph *g)
{
    value *from = any_value(g);
    const int out = channels(g);
    const int64_t macs = (int64_t)from->h * from->w * from->c * out;
    if (g->macs + macs > GRAPH_MOST_MACS)
        return;
    g->macs += macs;
    const char name = draw_bn(g);
    const value *v = put(g, from, 1, 1, out);
    cnn_text_append(g->cfg, "%c%d = linear(v%d, out=%d, bias=%d)\n", name, v->number, from->number, out,
                    (int)graph_below(g->random, 4) > 0);
    put_bn(g, name, v->number);
}

static void put_activation(graph *g)
{
    static const char *const kinds[][2] = {{"relu", ""},
                                           {"relu", ""},
                                           {"relu", ", max=6"},
                                           {"relu", ", max=1"},
                                           {"leaky_relu", ""},
                                           {"leaky_relu", ", slope=0.3"},
                                           {"dropout", ", rate=0.5"}};
    const uint64_t kind = graph_below(g->random, sizeof kinds / sizeof *kinds);
    value *from = any_value(g);
    const value *v = put(g, from, from->h, from->w, from->c);
    cnn_text_append(g->cfg, "v%d = %s(v%d%s)\n", v->number, kinds[kind][0], from->number, kinds[kind][1]);
}

static void put_pool(graph *g)
{
    value *from = any_value(g);
    if (graph_one_in(g->random, 6)) {
        const value *v = put(g, from, 1, 1, from->c);
        cnn_text_append(g->cfg, "v%d = globalavgpool(v%d)\n", v->number, from->number);
        return;
    }
    const bool max = graph_one_in(g->random, 2);
    const int kernel = 1 + (int)graph_below(g->random, 4), stride = 1 + (int)graph_below(g->random, 3);
    const int pad = max && graph_one_in(g->random, 2) ? (int)graph_below(g->random, (uint64_t)kernel) : 0;
    const int h = cnn_window_count(from->h, kernel, stride, pad), w = cnn_window_count(from->w, kernel, stride, pad);
    if (h == 0 || w == 0)
        return;
    const value *v = put(g, from, h, w, from->c);
    if (max)
        cnn_text_append(g->cfg, "v%d = maxpool(v%d, kernel=%d, stride=%d, pad=%d)\n", v->number, from->number, kernel,
                        stride, pad);
    else
        cnn_text_append(g->cfg, "v%d = avgpool(v%d, kernel=%d, stride=%d)\n", v->number, from->number, kernel, stride);
}

/* Values of one shape are added; of one height and width, put side by side. */
static void put_join(graph *g)
{
    enum { MOST = 4 };
    value *first = any_value(g);
    int together[MOST] = {first->number}, count = 1, c = first->c;
    const bool add = graph_one_in(g->random, 2);
    for (int i = g->count - 1; i >= 0 && count < (add ? 2 : MOST); i--) {
        value *v = &g->value[i];
        if (v == first || v->h != first->h || v->w != first->w || (add && v->c != first->c) ||
            graph_one_in(g->random, 3))
            continue;
        together[count++] = i;
        c += v->c;
    }
    if (count < 2 || c > 256)
        return;
    for (int i = 0; i < count; i++)
        g->value[together[i]].read = true;
    const value *v = put(g, NULL, first->h, first->w, add ? first->c : c);
    cnn_text_append(g->cfg, "v%d = %s(", v->number, add ? "add" : "concat");
    for (int i = 0; i < count; i++)
        cnn_text_append(g->cfg, "%sv%d", i ? ", " : "", together[i]);
    cnn_text_append(g->cfg, ")\n");
}

/* What nothing reads yet goes through averages into one value, and that into the scores. */
static void put_end(graph *g)
{
    int open[CNN_MAX_INPUTS], count = 0;
    value *last = &g->value[g->count - 1];
    for (int i = 0; i < g->count; i++)
        if (!g->value[i].read && count < CNN_MAX_INPUTS)
            open[count++] = i;
    if (count > 1) {
        for (int i = 0; i < count; i++) {
            const value from = g->value[open[i]];
            cnn_text_append(g->cfg, "g%d = %s(v%d)\n", i, from.h * from.w > 1 ? "globalavgpool" : "relu", from.number);
        }
        cnn_text_append(g->cfg, "all = concat(");
        for (int i = 0; i < count; i++)
            cnn_text_append(g->cfg, "%sg%d", i ? ", " : "", i);
        cnn_text_append(g->cfg, ")\n");
    }
    const int classes = 2 + (int)graph_below(g->random, 16);
    if (count > 1)
        cnn_text_append(g->cfg, "scores = linear(all, out=%d)\n", classes);
    else
        cnn_text_append(g->cfg, "scores = linear(v%d, out=%d)\n", last->number, classes);
}

void graph_write(graph_random *random, cnn_text *cfg)
{
    static void (*const kinds[])(graph *) = {put_conv, put_conv, put_conv, put_activation, put_activation,
                                             put_pool, put_join, put_join, put_linear};
    graph g = {.random = random, .cfg = cfg};
    const value *image = put(&g, NULL, 1 + (int)graph_below(random, 20), 1 + (int)graph_below(random, 20),
                             1 + (int)graph_below(random, 4));
    cnn_text_append(cfg, "v0 = input(height=%d, width=%d, channels=%d)\n", image->h, image->w, image->c);
    put_conv(&g);
    const uint64_t layers = 1 + graph_below(random, 12);
    for (uint64_t i = 0; i < layers && g.count < MOST_VALUES - 4; i++) {
        int open = 0;
        for (int j = 0; j < g.count; j++)
            open += !g.value[j].read;
        if (open < CNN_MAX_INPUTS - 1) /* all of them are to fit in one concat */
            kinds[graph_below(random, sizeof kinds / sizeof *kinds)](&g);
        else
            put_join(&g);
    }
    put_end(&g);
}

/* ---- Parameters ---- */

static void fill_channel(graph_random *random, float *values, int64_t count)
{
    const float usual = sqrtf(3.0f / (float)count);
    const uint64_t kind = graph_below(random, 12);
    const float scale = kind == 1 ? 100.0f * usual : kind == 2 ? 1e-4f * usual : usual;
    const float same = graph_uniform(random);
    for (int64_t i = 0; i < count; i++) {
        const float u = graph_uniform(random);
        values[i] = kind == 0 ? 0.0f : kind == 3 ? same * usual : kind == 4 && u < 0.5f ? 0.0f : u * scale;
    }
    if (kind == 5) /* one weight is all */
        values[graph_below(random, (uint64_t)count)] = 50.0f * same;
}

static float parameter(graph_random *random, cnn_param_role role, float scale)
{
    const float u = graph_uniform(random);
    switch (role) {
    case CNN_PARAM_GAMMA:
        return graph_one_in(random, 16) ? 0.0f : 1.5f * u;
    case CNN_PARAM_RUNNING_VAR:
        return graph_one_in(random, 16) ? 0.0f : graph_one_in(random, 16) ? 1e-6f : u * u + 0.01f;
    default:
        return graph_one_in(random, 8) ? 0.0f : u * scale;
    }
}

void graph_fill(graph_random *random, cnn_model *model)
{
    for (int i = 0; i < model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_STORED; role++) {
            cnn_param *param = &model->nodes[i].param[role];
            float *values = param->data;
            const float scale = graph_one_in(random, 6) ? 10.0f : 0.3f;
            if (!values)
                continue;
            const int64_t channel = (int64_t)param->desc.h * param->desc.w * param->desc.c;
            for (int32_t k = 0; role == CNN_PARAM_WEIGHT && k < param->desc.n; k++)
                fill_channel(random, values + k * channel, channel);
            for (int64_t j = 0; role != CNN_PARAM_WEIGHT && j < channel; j++)
                values[j] = parameter(random, (cnn_param_role)role, scale);
        }
}

/* ---- Images ---- */

cnn_dataset graph_images(graph_random *random, const cnn_model *model, int count)
{
    const cnn_tensor_desc in = cnn_model_input(model);
    const size_t bytes = (size_t)cnn_desc_elements(&in);
    cnn_dataset data = {.count = count,
                        .height = in.h,
                        .width = in.w,
                        .channels = in.c,
                        .classes = cnn_model_output(model).c,
                        .images = malloc((size_t)count * bytes),
                        .labels = malloc((size_t)count)};
    if (!data.images || !data.labels)
        abort();
    for (int i = 0; i < count; i++) {
        const bool plain = graph_one_in(random, 8);
        const uint8_t colour = (uint8_t)graph_below(random, 256);
        data.labels[i] = (uint8_t)(i % data.classes);
        for (size_t j = 0; j < bytes; j++)
            data.images[(size_t)i * bytes + j] = plain ? colour : (uint8_t)graph_below(random, 256);
    }
    return data;
}

void graph_free_images(cnn_dataset *data)
{
    free(data->images);
    free(data->labels);
}
