/* The network and data of the training tests. */
#include "tests/train_case.h"

#include <check.h>
#include <string.h>

static const char tiny[] = "image = input(height=28, width=28, channels=1)\n"
                           "conv1 = conv(image, out=8, kernel=5, stride=2)\n"
                           "bn1 = bn(conv1)\n"
                           "relu1 = relu(bn1)\n"
                           "pool1 = maxpool(relu1, kernel=2)\n"
                           "fc1 = linear(pool1, out=10)\n";

cnn_dataset *case_synth;
cnn_dataset case_small;

void case_check(cnn_status status)
{
    ck_assert_msg(status == CNN_OK, "%s: %s", cnn_status_name(status), cnn_last_error());
}

void case_set_up(void)
{
    const cnn_dataset_options options = {0};
    case_check(cnn_dataset_load("synth", CNN_SUBSET_TRAIN, &options, &case_synth));
    case_small = *case_synth;
    case_small.count = SMALL;
}

void case_tear_down(void)
{
    cnn_dataset_free(case_synth);
}

cnn_model *case_model(void)
{
    cnn_model *model;
    case_check(cnn_model_parse(tiny, "tiny.cfg", &model));
    cnn_model_init(model, 1);
    return model;
}

bool case_same(const cnn_model *a, const cnn_model *b)
{
    for (int n = 0; n < a->node_count; n++)
        for (int role = 0; role < CNN_PARAM_COUNT; role++) {
            const cnn_param *x = &a->nodes[n].param[role], *y = &b->nodes[n].param[role];
            if (x->desc.dtype != CNN_NONE && memcmp(x->data, y->data, cnn_desc_bytes(&x->desc)) != 0)
                return false;
        }
    return true;
}

static bool keep_record(void *context, const cnn_train_progress *progress)
{
    record *r = context;
    r->calls++;
    r->last = *progress;
    if (progress->epoch_done && r->epochs < 16)
        r->loss[r->epochs++] = progress->loss;
    return !r->stop_at || progress->step < r->stop_at;
}

cnn_train_options case_options(record *r)
{
    cnn_train_options options;
    cnn_train_options_init(&options);
    options.device = "cpu";
    options.batch = 32;
    options.epochs = 1;
    options.learning_rate = 0.02f;
    if (r) {
        *r = (record){0};
        options.progress = keep_record;
        options.progress_context = r;
    }
    return options;
}

cnn_session *case_session(cnn_model *model, cnn_dtype storage, const float *rates, int32_t rate_count,
                          const cnn_train_state *state)
{
    const cnn_step_options plain = {0};
    return case_session_step(model, storage, &plain, rates, rate_count, state);
}

cnn_session *case_session_step(cnn_model *model, cnn_dtype storage, const cnn_step_options *step, const float *rates,
                               int32_t rate_count, const cnn_train_state *state)
{
    const cnn_session_options options = {
        .device = "cpu", .batch = SMALL_BATCH, .train = true, .storage = storage, .step = *step};
    cnn_session *session;
    case_check(cnn_session_open(model, &options, &session));
    case_check(cnn_session_set_data(session, &case_small));
    case_check(cnn_session_set_schedule(session, rates, rate_count));
    case_check(cnn_session_set_state(session, state));
    return session;
}

cnn_train_state case_state(float scale, int dynamic)
{
    return (cnn_train_state){.momentum = 0.9f,
                             .growth = 2,
                             .backoff = 0.5f,
                             .floor = 1,
                             .ceiling = 16777216,
                             .growth_interval = 2000,
                             .dynamic = dynamic,
                             .loss_scale = scale,
                             .first_overflow = -1,
                             .last_overflow = -1,
                             .scale_min = scale,
                             .scale_max = scale};
}
