/* What the tests of the optimization passes share: small models with random weights, small data, logits. */
#ifndef CNN_TESTS_OPTIMIZE_COMMON_H
#define CNN_TESTS_OPTIMIZE_COMMON_H

#include "cnn/optimize.h"
#include "cnn/session.h"
#include "core/hash.h"
#include "core/layers.h"
#include "core/memory.h"
#include "core/model.h"

#include <math.h>
#include <check.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_OK(call) ck_assert_msg((call) == CNN_OK, "%s", cnn_last_error())

/* The call fails with this status and its sentence holds this text. */
#define CHECK_REFUSED(call, expected, text)                                                               \
    do {                                                                                                  \
        ck_assert_int_eq(call, expected);                                                                 \
        ck_assert_msg(strstr(cnn_last_error(), text), "'%s' does not hold '%s'", cnn_last_error(), text); \
    } while (0)

static inline float *param_data(cnn_model *model, const char *layer, cnn_param_role role)
{
    int node = cnn_model_find(model, layer);
    ck_assert_int_ge(node, 0);
    return model->nodes[node].param[role].data;
}

static inline const cnn_tensor_desc *param_desc(const cnn_model *model, const char *layer, cnn_param_role role)
{
    int node = cnn_model_find(model, layer);
    ck_assert_int_ge(node, 0);
    return &model->nodes[node].param[role].desc;
}

/* Statistics and affine parameters of every BN away from their trivial defaults. */
static inline void scatter_batchnorm(cnn_model *model, uint64_t seed)
{
    for (int i = 0; i < model->node_count; i++)
        for (int role = CNN_PARAM_GAMMA; role <= CNN_PARAM_RUNNING_VAR; role++) {
            cnn_param *param = &model->nodes[i].param[role];
            for (int64_t c = 0; param->data && c < param->desc.c; c++) {
                float u = cnn_hash_uniform(cnn_hash(seed, CNN_PURPOSE_INIT, (uint64_t)(i * 8 + role), (uint64_t)c));
                bool around_zero = role == CNN_PARAM_BETA || role == CNN_PARAM_RUNNING_MEAN;
                ((float *)param->data)[c] = around_zero ? u - 0.5f : 0.5f + u;
            }
        }
}

static inline cnn_model *make_model(const char *text, uint64_t seed)
{
    cnn_model *model;
    CHECK_OK(cnn_model_parse(text, "test.cfg", &model));
    cnn_model_init(model, seed);
    scatter_batchnorm(model, seed);
    return model;
}

/* Random bytes in random classes. Free with free_data. */
static inline cnn_dataset make_data(int count, int side, int channels, int classes)
{
    cnn_dataset data = {.count = count, .height = side, .width = side, .channels = channels, .classes = classes};
    size_t bytes = (size_t)count * (size_t)side * (size_t)side * (size_t)channels;
    data.images = malloc(bytes);
    data.labels = malloc((size_t)count);
    for (size_t i = 0; i < bytes; i++)
        data.images[i] = (uint8_t)(cnn_hash(7, CNN_PURPOSE_SYNTH, i, 0) >> 56);
    for (int i = 0; i < count; i++)
        data.labels[i] = (uint8_t)(i % classes);
    return data;
}

static inline void free_data(cnn_dataset *data)
{
    free(data->images);
    free(data->labels);
}

/* Logits of the first `count` images, [count,classes]; free() them. */
static inline float *run_logits(cnn_model *model, const char *device, const cnn_dataset *data, int count)
{
    cnn_session *session;
    float *logits = malloc((size_t)count * (size_t)cnn_model_output(model).c * sizeof *logits);
    CHECK_OK(cnn_session_open(model, &(cnn_session_options){.device = device}, &session));
    CHECK_OK(cnn_session_infer(session, data->images, count, logits));
    cnn_session_close(session);
    return logits;
}

/* Largest difference relative to the largest value. */
static inline double relative_difference(const float *a, const float *b, int64_t count)
{
    double most = 0, difference = 0;
    for (int64_t i = 0; i < count; i++) {
        ck_assert(isfinite(a[i]) && isfinite(b[i]));
        most = most > (a[i] < 0 ? -a[i] : a[i]) ? most : (a[i] < 0 ? -a[i] : a[i]);
        double d = (double)a[i] - b[i];
        difference = difference > (d < 0 ? -d : d) ? difference : (d < 0 ? -d : d);
    }
    return difference / most;
}

/* All that a pass may change, as one number. */
static inline uint64_t fingerprint(const cnn_model *model)
{
    uint64_t hash = (uint64_t)model->node_count;
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i];
        uint32_t scale;
        memcpy(&scale, &node->out_scale, sizeof scale);
        hash = cnn_splitmix64(hash ^ scale ^ (uint64_t)node->out.c << 32 ^ node->type->id);
        for (int role = 0; role < CNN_PARAM_COUNT; role++) {
            const cnn_param *param = &node->param[role];
            size_t bytes = param->data ? cnn_desc_bytes(&param->desc) : 0;
            hash = cnn_splitmix64(hash ^ bytes);
            for (size_t b = 0; b < bytes; b++)
                hash = (hash ^ ((const uint8_t *)param->data)[b]) * 0x100000001B3u;
            for (int k = 0; param->scale && k < param->desc.n; k++) {
                memcpy(&scale, &param->scale[k], sizeof scale);
                hash = cnn_splitmix64(hash ^ scale);
            }
        }
    }
    return hash;
}

#endif
