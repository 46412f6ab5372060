/* The checks that tests of whole networks share. */
#include "tests/network_case.h"

#include "cnn/onnx.h"
#include "cnn/safetensors.h"
#include "core/backends.h"
#include "core/pool.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

cnn_dataset case_data;

void case_network_set_up(void)
{
    case_set_up();
    case_make_data(100, 28);
}

void case_network_tear_down(void)
{
    case_free_data();
    case_tear_down();
}

void case_make_data(int count, int side)
{
    case_data = make_data(count, side, 1, CLASSES);
}

void case_free_data(void)
{
    free_data(&case_data);
}

/* ---- Answers ---- */

float *case_logits(cnn_model *model, const char *device)
{
    ck_assert_int_eq(cnn_model_output(model).c, CLASSES);
    return run_logits(model, device, &case_data, SHOWN);
}

void case_check_same_logits(cnn_model *model, float *want)
{
    float *logits = case_logits(model, "cpu");
    ck_assert_mem_eq(logits, want, SHOWN * CLASSES * sizeof *want);
    free(logits);
    free(want);
}

void case_check_close_logits(cnn_model *model, float *want)
{
    float *logits = case_logits(model, "cpu");
    ck_assert_double_lt(relative_difference(want, logits, SHOWN * CLASSES), 1e-5);
    free(logits);
    free(want);
}

double case_difference(cnn_model *a, cnn_model *b)
{
    float *of_a = case_logits(a, "cpu"), *of_b = case_logits(b, "cpu");
    const double difference = relative_difference(of_a, of_b, SHOWN * CLASSES);
    free(of_a);
    free(of_b);
    return difference;
}

/* ---- Training ---- */

record case_check_trains(cnn_model *model, int which, double share)
{
    static const cnn_dtype storage[STORAGES] = {CNN_F32, CNN_F16, CNN_BF16};
    record r;
    cnn_train_options options = case_options(&r);
    options.epochs = 2;
    options.storage = storage[which];
    case_check(cnn_train(model, case_synth, &options, NULL));
    ck_assert_int_eq(r.epochs, 2);
    ck_assert_msg(r.loss[1] < share * r.loss[0], "losses %g and %g", r.loss[0], r.loss[1]);
    return r;
}

enum { STEP_BATCH = 16 };

cnn_session *case_open_steps(cnn_model *model, const char *device, cnn_dtype storage)
{
    cnn_session *session;
    const cnn_session_options options = {.device = device, .batch = STEP_BATCH, .train = true, .storage = storage};
    const float rate = 0.05f;
    const cnn_train_state state = {.momentum = 0.9f, .weight_decay = 0.01f, .loss_scale = 64, .first_overflow = -1};
    CHECK_OK(cnn_session_open(model, &options, &session));
    CHECK_OK(cnn_session_set_data(session, &case_data));
    CHECK_OK(cnn_session_set_schedule(session, &rate, 1));
    CHECK_OK(cnn_session_set_state(session, &state));
    return session;
}

void case_run_steps(cnn_session *session, int steps)
{
    float result[2];
    int32_t index[STEP_BATCH];
    for (int step = 0; step < steps; step++) {
        for (int i = 0; i < STEP_BATCH; i++)
            index[i] = (step * STEP_BATCH + i) % case_data.count;
        CHECK_OK(cnn_session_step(session, index, STEP_BATCH, result));
    }
    CHECK_OK(cnn_session_pull(session));
}

/* ---- INT8 ---- */

cnn_quantize_options case_quantize_options(void)
{
    cnn_quantize_options options;
    cnn_quantize_options_init(&options);
    options.images = 64;
    return options;
}

cnn_model *case_int8(const char *net, const cnn_quantize_options *options)
{
    const cnn_quantize_options usual = case_quantize_options();
    cnn_model *model = make_model(net, 3);
    CHECK_OK(cnn_fold_batchnorm(model));
    CHECK_OK(cnn_quantize(model, &case_data, options ? options : &usual, NULL, NULL));
    return model;
}

void case_check_same_bits(cnn_model *int8)
{
    ck_assert(int8->nodes[0].out_scale > 0);
    case_check_same_logits(int8, case_logits(int8, "cpu:portable"));
    case_check_same_logits(int8, case_logits(int8, "ref"));
}

void case_observe(cnn_model *model, const char *device, cnn_observe_fn observe, void *context)
{
    cnn_session *session;
    CHECK_OK(cnn_session_open(model, &(cnn_session_options){.device = device, .batch = 16}, &session));
    CHECK_OK(cnn_session_observe(session, &case_data, NULL, SHOWN, observe, context));
    cnn_session_close(session);
}

int case_q(const cnn_model *model, int node, float value)
{
    return (int)lrintf(value / model->nodes[node].out_scale);
}

/* ---- Passes ---- */

/* The batch norm that reads a layer; NULL: none. */
static cnn_node *norm_of(cnn_model *model, const char *layer)
{
    const int at = cnn_model_find(model, layer);
    for (int i = 0; i < model->node_count; i++)
        if (model->nodes[i].type->id == CNN_LAYER_BN && model->nodes[i].input[0] == at)
            return &model->nodes[i];
    return NULL;
}

static void zero_output(cnn_model *model, const char *layer, int32_t k)
{
    const cnn_tensor_desc *desc = param_desc(model, layer, CNN_PARAM_WEIGHT);
    const int64_t filter = cnn_desc_elements(desc) / desc->n;
    float *bias = param_data(model, layer, CNN_PARAM_BIAS);
    ck_assert_int_lt(k, desc->n);
    memset(param_data(model, layer, CNN_PARAM_WEIGHT) + k * filter, 0, (size_t)filter * sizeof(float));
    if (bias)
        bias[k] = 0;
}

void case_silence(cnn_model *model, const char *layer, int32_t k)
{
    cnn_node *bn = norm_of(model, layer);
    zero_output(model, layer, k);
    for (int role = CNN_PARAM_GAMMA; bn && role <= CNN_PARAM_RUNNING_MEAN; role++)
        ((float *)bn->param[role].data)[k] = 0;
}

void case_make_constant(cnn_model *model, const char *layer, int32_t k, float value)
{
    ck_assert_ptr_null(norm_of(model, layer));
    zero_output(model, layer, k);
    param_data(model, layer, CNN_PARAM_BIAS)[k] = value;
}

cnn_prune_result case_check_halving(cnn_model *model, const char *const *layers)
{
    cnn_prune_result result;
    int32_t left[16];
    for (int i = 0; layers[i]; i++) {
        left[i] = param_desc(model, layers[i], CNN_PARAM_WEIGHT)->n / 2;
        for (int32_t k = 1; k < 2 * left[i]; k += 2)
            case_silence(model, layers[i], k);
    }
    float *before = case_logits(model, "cpu");
    CHECK_OK(cnn_prune_channels(model, &(cnn_prune_options){.ratio = 0.5}, &result));
    for (int i = 0; layers[i]; i++) {
        const cnn_node *bn = norm_of(model, layers[i]);
        ck_assert_int_eq(param_desc(model, layers[i], CNN_PARAM_WEIGHT)->n, left[i]);
        ck_assert(!bn || bn->param[CNN_PARAM_GAMMA].desc.c == left[i]);
    }
    case_check_close_logits(model, before);
    cnn_model_free(case_check_file(model, "cnn"));
    return result;
}

void case_check_dead(cnn_model *model, int64_t units)
{
    int64_t found;
    float *before = case_logits(model, "cpu");
    CHECK_OK(cnn_remove_dead(model, &found));
    ck_assert_int_eq(found, units);
    case_check_close_logits(model, before);
}

void case_check_equalize(cnn_model *model, int groups)
{
    int found;
    float *before = case_logits(model, "cpu");
    CHECK_OK(cnn_equalize(model, &case_data, 1, "cpu", &found));
    ck_assert_int_eq(found, groups);
    if (groups == 0)
        case_check_same_logits(model, before);
    else
        case_check_close_logits(model, before);
}

void case_prune_filter(cnn_model *model, const char *layer, int32_t k)
{
    for (int i = 0; i < model->node_count; i++) {
        cnn_param *weight = &model->nodes[i].param[CNN_PARAM_WEIGHT];
        if (!cnn_node_has_weights(&model->nodes[i]))
            continue;
        weight->mask = cnn_aligned_alloc((size_t)cnn_desc_elements(&weight->desc));
        memset(weight->mask, 1, (size_t)cnn_desc_elements(&weight->desc));
    }
    const cnn_param *weight = &model->nodes[cnn_model_find(model, layer)].param[CNN_PARAM_WEIGHT];
    const int64_t filter = cnn_desc_elements(&weight->desc) / weight->desc.n;
    zero_output(model, layer, k);
    memset(weight->mask + k * filter, 0, (size_t)filter);
}

void case_check_out_of_memory(cnn_model *model, const cnn_prune_options *options,
                              cnn_status (*pass)(cnn_model *, const cnn_prune_options *, cnn_prune_result *))
{
    const uint64_t before = fingerprint(model);
    cnn_status status = CNN_ERR_MEMORY;
    for (long n = 1; status != CNN_OK; n++) {
        cnn_memory_fail_at(n);
        status = pass(model, options, NULL);
        cnn_memory_fail_at(0);
        ck_assert_int_lt(n, 2000);
        if (status == CNN_OK)
            break;
        ck_assert_int_eq(status, CNN_ERR_MEMORY);
        ck_assert_uint_eq(fingerprint(model), before);
    }
    ck_assert_uint_ne(fingerprint(model), before);
}

/* ---- Files and programs ---- */

static const char *path_of(const char *kind)
{
    static char path[64];
    snprintf(path, sizeof path, "network-%ld.%s", (long)getpid(), kind);
    return path;
}

cnn_model *case_check_file(cnn_model *model, const char *kind)
{
    const char *path = path_of(kind);
    cnn_model *back = NULL;
    if (strcmp(kind, "onnx") == 0) {
        CHECK_OK(cnn_onnx_save(model, path, NULL));
        CHECK_OK(cnn_onnx_load(path, NULL, &back));
    } else if (strcmp(kind, "safetensors") == 0) { /* into the same network with other weights */
        CHECK_OK(cnn_model_clone(model, &back));
        cnn_model_init(back, 9);
        CHECK_OK(cnn_safetensors_save(model, path, NULL));
        CHECK_OK(cnn_safetensors_load(path, back));
    } else {
        CHECK_OK(cnn_model_save(model, path, NULL));
        CHECK_OK(cnn_model_load(path, &back));
    }
    unlink(path);
    case_check_same_logits(back, case_logits(model, "cpu"));
    return back;
}

cnn_model *case_packed(const cnn_model *model, cnn_pack pack, size_t *bytes)
{
    const char *path = path_of("cnn");
    cnn_model *back = NULL;
    CHECK_OK(cnn_model_save_packed(model, path, pack, bytes));
    CHECK_OK(cnn_model_load(path, &back));
    unlink(path);
    return back;
}

cnn_instruction *case_instructions(const cnn_model *model, cnn_goal goal, int *count)
{
    const cnn_backend *backend = &cnn_backend_cpu;
    cnn_device *device;
    cnn_program *program;
    CHECK_OK(backend->open(cnn_host_get(), NULL, &device));
    const cnn_lower_options options = {.goal = goal,
                                       .batch = 2,
                                       .storage = CNN_F32,
                                       .step = {.dropout = true, .seed = 5},
                                       .data_count = 10,
                                       .rate_count = 5,
                                       .index_count = 3,
                                       .report_count = 2,
                                       .backend = backend,
                                       .device = device};
    CHECK_OK(cnn_program_lower(model, &options, &program));
    CHECK_OK(cnn_program_fuse(program, backend, device));
    *count = program->instruction_count;
    cnn_instruction *copy = malloc((size_t)*count * sizeof *copy);
    memcpy(copy, program->instructions, (size_t)*count * sizeof *copy);
    cnn_program_free(program, backend, device);
    backend->close(device);
    return copy;
}
