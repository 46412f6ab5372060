/* Lowering, fusion and the memory plan of every built-in model and of a residual one. */
#include "core/backends.h"
#include "core/layers.h"
#include "core/pool.h"
#include "core/program.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char residual_cfg[] = "image = input(height=8, width=8, channels=1)\n"
                                   "conv1 = conv(image, out=4, kernel=3, pad=1)\n"
                                   "relu1 = relu(conv1)\n"
                                   "conv2 = conv(relu1, out=4, kernel=3, pad=1, bias=0)\n"
                                   "bn2 = bn(conv2)\n"
                                   "sum = add(bn2, relu1)\n"
                                   "relu2 = relu(sum)\n"
                                   "pool = maxpool(relu2, kernel=2)\n"
                                   "fc = linear(pool, out=3)\n";

static cnn_model *model_from(const char *text)
{
    cnn_model *model = NULL;
    ck_assert_msg(cnn_model_parse(text, "test.cfg", &model) == CNN_OK, "%s", cnn_last_error());
    cnn_model_init(model, 1);
    return model;
}

/* Lowers, fuses (but to observe), plans. */
static cnn_program *make(const cnn_model *model, cnn_goal goal, const cnn_backend *backend, cnn_device *device)
{
    const cnn_lower_options options = {.goal = goal,
                                       .batch = 2,
                                       .storage = CNN_F32,
                                       .data_count = 10,
                                       .rate_count = 5,
                                       .index_count = 3,
                                       .report_count = 2,
                                       .backend = backend,
                                       .device = device};
    cnn_program *program = NULL;
    ck_assert_msg(cnn_program_lower(model, &options, &program) == CNN_OK, "%s", cnn_last_error());
    if (goal != CNN_GOAL_OBSERVE)
        ck_assert(cnn_program_fuse(program, backend, device) == CNN_OK);
    ck_assert(cnn_program_plan(program) == CNN_OK);
    return program;
}

static void check_plan(const cnn_program *program)
{
    for (int i = 0; i < program->buffer_count; i++)
        for (int j = 0; j < i; j++) {
            const cnn_buffer *a = &program->buffers[i], *b = &program->buffers[j];
            if (a->place != CNN_PLACE_ARENA || b->place != CNN_PLACE_ARENA || a->first < 0 || b->first < 0)
                continue;
            bool together = a->first <= b->last && b->first <= a->last;
            bool apart =
                a->offset + cnn_desc_bytes(&a->desc) <= b->offset || b->offset + cnn_desc_bytes(&b->desc) <= a->offset;
            ck_assert_msg(!together || apart, "buffers %d and %d share bytes", i, j);
            ck_assert(a->offset % CNN_ALIGN == 0 && a->offset + cnn_desc_bytes(&a->desc) <= program->arena_bytes);
        }
}

/* Every argument that is read was written by an earlier instruction or lives outside the arena. */
static void check_order(const cnn_program *program)
{
    bool *written = calloc((size_t)program->buffer_count, sizeof *written);
    for (int i = 0; i < program->instruction_count; i++) {
        const cnn_instruction *instruction = &program->instructions[i];
        const cnn_op_info *info = cnn_op_info_get(instruction->desc.op);
        for (int role = 0; role < CNN_ARG_COUNT; role++) {
            int buffer = instruction->arg[role];
            if (buffer >= 0 && (info->use[role] & CNN_USE_READ) && program->buffers[buffer].place == CNN_PLACE_ARENA)
                ck_assert_msg(written[buffer], "instruction %d reads buffer %d before it is written", i, buffer);
        }
        for (int role = 0; role < CNN_ARG_COUNT; role++)
            if (instruction->arg[role] >= 0 && (info->use[role] & CNN_USE_WRITE))
                written[instruction->arg[role]] = true;
    }
    free(written);
}

static void check_model(const cnn_model *model)
{
    for (int goal = CNN_GOAL_INFER; goal <= CNN_GOAL_TRAIN; goal++) {
        const cnn_backend *backend = &cnn_backend_ref;
        cnn_device *device;
        ck_assert(backend->open(cnn_host_get(), NULL, &device) == CNN_OK);
        cnn_program *program = make(model, (cnn_goal)goal, backend, device);
        check_plan(program);
        check_order(program);
        ck_assert_msg(cnn_program_prepare(program, model, backend, device) == CNN_OK, "%s", cnn_last_error());
        cnn_program_free(program, backend, device);
        backend->close(device);
    }
}

START_TEST(builtin_models_lower_and_plan)
{
    for (const char *const *name = cnn_model_builtin_names(); *name; name++) {
        cnn_model *model;
        ck_assert_msg(cnn_model_create(*name, &model) == CNN_OK, "%s", cnn_last_error());
        check_model(model);
        cnn_model_free(model);
    }
}
END_TEST

START_TEST(residual_model_lowers_and_plans)
{
    cnn_model *model = model_from(residual_cfg);
    check_model(model);
    cnn_model_free(model);
}
END_TEST

static int count_ops(const cnn_program *program, cnn_op op)
{
    int count = 0;
    for (int i = 0; i < program->instruction_count; i++)
        count += program->instructions[i].desc.op == op;
    return count;
}

START_TEST(fusion_merges_only_sole_readers)
{
    const cnn_backend *backend = &cnn_backend_ref;
    cnn_device *device;
    ck_assert(backend->open(cnn_host_get(), NULL, &device) == CNN_OK);
    cnn_model *model = model_from(residual_cfg);
    cnn_program *program = make(model, CNN_GOAL_INFER, backend, device);
    /* conv1 takes its ReLU; relu2 follows an add and stays. */
    ck_assert_int_eq(count_ops(program, CNN_OP_RELU), 1);
    ck_assert(program->value[cnn_model_find(model, "conv1")] == -1);
    ck_assert(program->value[cnn_model_find(model, "relu1")] >= 0);
    cnn_program_free(program, backend, device);

    /* conv1's value has two readers here: nothing may be merged into it. */
    cnn_model *shared = model_from("image = input(height=4, width=4, channels=1)\n"
                                   "conv1 = conv(image, out=2, kernel=1)\n"
                                   "relu1 = relu(conv1)\n"
                                   "sum = add(conv1, relu1)\n"
                                   "fc = linear(sum, out=2)\n");
    program = make(shared, CNN_GOAL_INFER, backend, device);
    ck_assert_int_eq(count_ops(program, CNN_OP_RELU), 1);
    ck_assert(program->value[cnn_model_find(shared, "conv1")] >= 0);
    cnn_program_free(program, backend, device);
    cnn_model_free(shared);
    cnn_model_free(model);
    backend->close(device);
}
END_TEST

/* The reference, which answers yes when asked for any op that it defines. */
static cnn_status prepare_all(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel, char *why)
{
    cnn_kernel *made = NULL;
    if (kernel)
        return cnn_backend_ref.prepare(device, desc, kernel, why);
    cnn_status status = cnn_backend_ref.prepare(device, desc, &made, why);
    if (made)
        made->destroy(made);
    return status;
}

static const char pooled_cfg[] = "image = input(height=8, width=8, channels=1)\n"
                                 "conv1 = conv(image, out=4, kernel=3, pad=1, bias=0)\n"
                                 "bn1 = bn(conv1)\n"
                                 "relu1 = relu(bn1)\n"
                                 "pool1 = maxpool(relu1, kernel=2)\n"
                                 "conv2 = conv(pool1, out=4, kernel=3, pad=1, bias=0)\n"
                                 "bn2 = bn(conv2)\n"
                                 "relu2 = relu(bn2)\n"
                                 "sum = add(relu2, pool1)\n"
                                 "fc = linear(sum, out=3)\n";

static const cnn_instruction *first_op(const cnn_program *program, cnn_op op)
{
    for (int i = 0; i < program->instruction_count; i++)
        if (program->instructions[i].desc.op == op)
            return &program->instructions[i];
    ck_abort_msg("no op %s", cnn_op_info_get(op)->name);
    return NULL;
}

static cnn_status take_all(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel, char *why)
{
    (void)device;
    (void)desc;
    (void)kernel;
    (void)why;
    return CNN_OK;
}

/* A backend that would take any chain gets those that cnn/ops.h allows. */
START_TEST(chains_keep_their_order)
{
    cnn_backend backend = cnn_backend_ref;
    cnn_device *device;
    ck_assert(backend.open(cnn_host_get(), NULL, &device) == CNN_OK);
    backend.prepare = take_all;
    cnn_model *model = model_from("image = input(height=16, width=16, channels=1)\n"
                                  "conv1 = conv(image, out=4, kernel=1)\n"
                                  "relu1 = relu(conv1)\n"
                                  "relu2 = relu(relu1, max=6)\n"
                                  "pool1 = maxpool(relu2, kernel=2)\n"
                                  "conv2 = conv(pool1, out=4, kernel=1)\n"
                                  "pool2 = maxpool(conv2, kernel=2)\n"
                                  "pool3 = maxpool(pool2, kernel=2)\n"
                                  "relu3 = relu(pool3)\n"
                                  "fc = linear(relu3, out=3)\n");
    cnn_program *program = make(model, CNN_GOAL_INFER, &backend, device);
    ck_assert_int_eq(count_ops(program, CNN_OP_CLIP), 1);
    ck_assert_int_eq(count_ops(program, CNN_OP_MAXPOOL), 2); /* behind the clip, and the second in a row */
    ck_assert_int_eq(count_ops(program, CNN_OP_RELU), 1);
    cnn_program_free(program, &backend, device);
    cnn_model_free(model);
    backend.close(device);
}
END_TEST

static cnn_status prepare_all_but_pooled_gradients(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel,
                                                   char *why)
{
    return !kernel && cnn_op_is_pooled_grad(desc) ? CNN_ERR_UNSUPPORTED : prepare_all(device, desc, kernel, why);
}

static const char pooled_conv_cfg[] = "image = input(height=16, width=16, channels=1)\n"
                                      "conv1 = conv(image, out=4, kernel=3, pad=1)\n"
                                      "relu1 = relu(conv1)\n"
                                      "pool1 = maxpool(relu1, kernel=2)\n"
                                      "conv2 = conv(pool1, out=4, kernel=3, pad=1)\n"
                                      "relu2 = relu(conv2)\n"
                                      "pool2 = maxpool(relu2, kernel=2)\n"
                                      "conv3 = conv(relu2, out=4, kernel=3, pad=1)\n"
                                      "pool3 = maxpool(conv3, kernel=2)\n"
                                      "sum = add(pool2, pool3)\n"
                                      "fc = linear(sum, out=3)\n";

/* conv1 takes its ReLU and pooling, and the gradient of the pooling is that of the ReLU too. relu2 has a second reader,
 * behind conv3 the ReLU is missing. Then conv1's weight gradient takes that of the pooling, where the backend can. */
START_TEST(pooling_moves_into_convolutions)
{
    cnn_backend backend = cnn_backend_ref;
    cnn_device *device;
    backend.prepare = _i ? prepare_all : prepare_all_but_pooled_gradients;
    ck_assert(backend.open(cnn_host_get(), NULL, &device) == CNN_OK);
    cnn_model *model = model_from(pooled_conv_cfg);
    cnn_program *plain = make(model, CNN_GOAL_TRAIN, &cnn_backend_ref, device);
    cnn_program *program = make(model, CNN_GOAL_TRAIN, &backend, device);
    check_plan(program);
    check_order(program);
    ck_assert_int_eq(program->instruction_count, plain->instruction_count - 2 - _i);
    ck_assert_int_eq(count_ops(program, CNN_OP_MAXPOOL), count_ops(plain, CNN_OP_MAXPOOL) - 1);
    ck_assert_int_eq(count_ops(program, CNN_OP_RELU_GRAD), count_ops(plain, CNN_OP_RELU_GRAD) - 1);
    ck_assert_int_eq(count_ops(program, CNN_OP_MAXPOOL_GRAD), count_ops(plain, CNN_OP_MAXPOOL_GRAD) - _i);

    const cnn_instruction *forward = first_op(program, CNN_OP_CONV), *backward = NULL, *weights = NULL;
    for (int i = 0; i < program->instruction_count; i++) {
        const cnn_instruction *at = &program->instructions[i];
        backward = at->desc.op == CNN_OP_MAXPOOL_GRAD ? at : backward; /* the last ones are pool1's and conv1's */
        weights = at->desc.op == CNN_OP_CONV_WGRAD ? at : weights;
    }
    ck_assert_int_eq(forward->node, cnn_model_find(model, "pool1"));
    ck_assert_int_eq(forward->arg[CNN_ARG_DST], program->value[forward->node]);
    ck_assert_int_eq(forward->desc.pool_kernel, 2);
    ck_assert_int_eq(forward->arg[CNN_ARG_INDEX], (_i ? weights : backward)->arg[CNN_ARG_INDEX]);
    if (_i)
        ck_assert_int_eq(weights->desc.pool_kernel, 2);
    else
        ck_assert_int_eq(backward->arg[CNN_ARG_DST], weights->arg[CNN_ARG_SRC2]);
    ck_assert(program->value[cnn_model_find(model, "conv1")] == -1 &&
              program->value[cnn_model_find(model, "relu1")] == -1);
    ck_assert_msg(cnn_program_prepare(program, model, &backend, device) == CNN_OK, "%s", cnn_last_error());

    cnn_program_free(program, &backend, device);
    cnn_program_free(plain, &cnn_backend_ref, device);
    cnn_model_free(model);
    backend.close(device);
}
END_TEST

START_TEST(pooling_moves_into_batch_norms)
{
    cnn_backend backend = cnn_backend_ref;
    cnn_device *device;
    backend.prepare = prepare_all;
    ck_assert(backend.open(cnn_host_get(), NULL, &device) == CNN_OK);
    cnn_model *model = model_from(pooled_cfg);
    cnn_program *plain = make(model, CNN_GOAL_TRAIN, &cnn_backend_ref, device);
    cnn_program *program = make(model, CNN_GOAL_TRAIN, &backend, device);
    check_plan(program);
    check_order(program);
    /* bn1 takes its ReLU and pooling; no pooling follows bn2. */
    ck_assert_int_eq(program->instruction_count, plain->instruction_count - 4);
    ck_assert_int_eq(count_ops(program, CNN_OP_MAXPOOL) + count_ops(program, CNN_OP_MAXPOOL_GRAD), 0);
    ck_assert_int_eq(count_ops(program, CNN_OP_RELU), 1);
    ck_assert_int_eq(count_ops(program, CNN_OP_RELU_GRAD), 1);
    ck_assert_int_eq(count_ops(plain, CNN_OP_MAXPOOL_GRAD), 1);

    const cnn_instruction *forward = first_op(program, CNN_OP_BN_TRAIN), *backward = NULL;
    for (int i = 0; i < program->instruction_count; i++)
        if (program->instructions[i].desc.op == CNN_OP_BN_GRAD)
            backward = &program->instructions[i]; /* the last one is bn1's */
    ck_assert_int_eq(forward->desc.epilogue_count, 2);
    ck_assert_int_eq(forward->node, cnn_model_find(model, "pool1"));
    ck_assert_int_eq(forward->arg[CNN_ARG_DST], program->value[forward->node]);
    ck_assert_int_eq(forward->arg[CNN_ARG_INDEX], backward->arg[CNN_ARG_INDEX]);
    ck_assert_int_eq(forward->arg[CNN_ARG_SRC], backward->arg[CNN_ARG_SRC]);
    ck_assert_int_eq(backward->arg[CNN_ARG_SRC2], first_op(plain, CNN_OP_MAXPOOL_GRAD)->arg[CNN_ARG_SRC2]);
    ck_assert_int_eq(backward->desc.pool_kernel, 2);
    ck_assert(program->value[cnn_model_find(model, "bn1")] == -1 &&
              program->value[cnn_model_find(model, "relu1")] == -1);
    ck_assert_msg(cnn_program_prepare(program, model, &backend, device) == CNN_OK, "%s", cnn_last_error());

    cnn_program_free(program, &backend, device);
    cnn_program_free(plain, &cnn_backend_ref, device);
    cnn_model_free(model);
    backend.close(device);
}
END_TEST

/* The convolution that makes the later of two summands takes the sum and what follows; `other` is the earlier one. */
static void check_sum(const char *text, const char *other)
{
    const cnn_backend *backend = &cnn_backend_ref;
    cnn_device *device;
    ck_assert(backend->open(cnn_host_get(), NULL, &device) == CNN_OK);
    cnn_model *model = model_from(text);
    cnn_program *program = make(model, CNN_GOAL_INFER, backend, device);
    check_plan(program);
    check_order(program);
    ck_assert_int_eq(count_ops(program, CNN_OP_ADD), 0);
    ck_assert_int_eq(count_ops(program, CNN_OP_RELU), 0);
    const int relu = cnn_model_find(model, "relu2");
    for (int i = 0; i < program->instruction_count; i++) {
        const cnn_instruction *instruction = &program->instructions[i];
        if (instruction->node != relu)
            continue;
        ck_assert_int_eq(instruction->desc.epilogue_count, 3);
        ck_assert_int_eq(instruction->desc.epilogue[1], CNN_EPILOGUE_ADD);
        ck_assert_int_eq(instruction->arg[CNN_ARG_SRC2], program->value[cnn_model_find(model, other)]);
    }
    ck_assert_msg(cnn_program_prepare(program, model, backend, device) == CNN_OK, "%s", cnn_last_error());
    cnn_program_free(program, backend, device);
    cnn_model_free(model);
    backend->close(device);
}

START_TEST(sums_move_into_convolutions)
{
    static const char before[] = "image = input(height=8, width=8, channels=1)\n"
                                 "conv1 = conv(image, out=4, kernel=3, pad=1)\n"
                                 "relu1 = relu(conv1)\n"
                                 "conv2 = conv(relu1, out=4, kernel=3, pad=1)\n";
    static const char after[] = "relu2 = relu(sum)\nfc = linear(relu2, out=3)\n";
    char text[512];
    snprintf(text, sizeof text, "%ssum = add(conv2, relu1)\n%s", before, after);
    check_sum(text, "relu1");
    snprintf(text, sizeof text, "%ssum = add(relu1, conv2)\n%s", before, after);
    check_sum(text, "relu1");
    snprintf(text, sizeof text, "%sconv3 = conv(relu1, out=4, kernel=1)\nsum = add(conv2, conv3)\n%s", before, after);
    check_sum(text, "conv2");
}
END_TEST

START_TEST(residual_gradient_is_summed)
{
    const cnn_backend *backend = &cnn_backend_ref;
    cnn_device *device;
    ck_assert(backend->open(cnn_host_get(), NULL, &device) == CNN_OK);
    cnn_model *model = model_from(residual_cfg);
    cnn_program *program = make(model, CNN_GOAL_TRAIN, backend, device);
    /* One add forward, one for the two gradients that meet in relu1. */
    ck_assert_int_eq(count_ops(program, CNN_OP_ADD), 2);
    ck_assert_int_eq(count_ops(program, CNN_OP_CONV_DGRAD), 1);
    ck_assert_int_eq(count_ops(program, CNN_OP_SGD), 1);
    cnn_program_free(program, backend, device);
    cnn_model_free(model);
    backend->close(device);
}
END_TEST

START_TEST(segments_cover_the_parameters)
{
    cnn_model *model = model_from(residual_cfg);
    cnn_segments segments = cnn_model_segments(model);
    int64_t end = 0;
    int count = 0;
    for (int node = 0; node < model->node_count; node++)
        for (int role = 0; role < CNN_PARAM_COUNT; role++) {
            int64_t offset;
            int number = cnn_model_segment(model, node, (cnn_param_role)role, &offset);
            if (number < 0)
                continue;
            ck_assert_int_eq(number, count++);
            ck_assert(offset >= end && offset % CNN_SEGMENT_ALIGN == 0);
            ck_assert_int_eq(cnn_model_segment_node(model, number), node);
            end = offset + cnn_desc_elements(&model->nodes[node].param[role].desc);
        }
    ck_assert_int_eq(count, segments.count);
    ck_assert(end <= segments.elements);
    ck_assert_int_eq(count, 2 + 1 + 2 + 2);
    cnn_model_free(model);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("program");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, builtin_models_lower_and_plan);
    tcase_add_test(tcase, residual_model_lowers_and_plans);
    tcase_add_test(tcase, fusion_merges_only_sole_readers);
    tcase_add_test(tcase, chains_keep_their_order);
    tcase_add_loop_test(tcase, pooling_moves_into_convolutions, 0, 2);
    tcase_add_test(tcase, pooling_moves_into_batch_norms);
    tcase_add_test(tcase, sums_move_into_convolutions);
    tcase_add_test(tcase, residual_gradient_is_summed);
    tcase_add_test(tcase, segments_cover_the_parameters);
    Suite *suite = suite_create("program");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
