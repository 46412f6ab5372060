/* Going on where a run was interrupted: the same bits as if it never had been. On "synth", with a small network. */
#include "tests/train_case.h"

#include "core/file.h"
#include "core/session.h"
#include "train/checkpoint.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Sessions ---- */

static void step(cnn_session *session, int number)
{
    int32_t index[SMALL_BATCH];
    float result[2];
    for (int i = 0; i < SMALL_BATCH; i++)
        index[i] = (7 * number + 3 * i) % SMALL;
    case_check(cnn_session_step(session, index, SMALL_BATCH, result));
}

/* Moves what a session keeps from step to step into another one, through the host. */
static void move_on(cnn_session *from, cnn_session *to)
{
    cnn_session_memory old[CNN_SESSION_MAX_KEPT], fresh[CNN_SESSION_MAX_KEPT];
    cnn_train_state state;
    const int count = cnn_session_kept(from, old);
    ck_assert_int_eq(cnn_session_kept(to, fresh), count);
    for (int i = 0; i < count; i++) {
        void *host = calloc(old[i].bytes, 1);
        ck_assert_str_eq(old[i].name, fresh[i].name);
        ck_assert_uint_eq(old[i].bytes, fresh[i].bytes);
        case_check(cnn_session_download(from, host, old[i].data, old[i].bytes));
        case_check(cnn_session_upload(to, fresh[i].data, host, fresh[i].bytes));
        free(host);
    }
    case_check(cnn_session_get_state(from, &state));
    case_check(cnn_session_set_state(to, &state));
}

enum { SCALE = 1 << 22 }; /* overflows in the first steps */
static const cnn_dtype storages[] = {CNN_F32, CNN_F16, CNN_BF16};

START_TEST(a_session_goes_on_in_another)
{
    const cnn_dtype storage = storages[_i];
    const float rates[8] = {0.05f, 0.04f, 0.03f, 0.02f, 0.02f, 0.01f, 0.01f, 0.01f};
    const cnn_train_state start = case_state(storage == CNN_F16 ? SCALE : 1, storage == CNN_F16);
    cnn_train_state state;
    cnn_model *whole = case_model(), *first = case_model(), *second = case_model();
    cnn_session *session = case_session(whole, storage, rates, 8, &start);
    for (int i = 0; i < 8; i++)
        step(session, i);
    case_check(cnn_session_pull(session));
    case_check(cnn_session_get_state(session, &state));
    if (storage == CNN_F16) /* the test is of little worth without steps of both kinds */
        ck_assert_msg(state.skipped > 0 && state.step > 4, "%d steps of 8 were skipped", state.skipped);
    cnn_session_close(session);

    session = case_session(first, storage, rates, 8, &start);
    for (int i = 0; i < 3; i++)
        step(session, i);
    cnn_session *next = case_session(second, storage, rates, 8, &start);
    move_on(session, next);
    cnn_session_close(session);
    for (int i = 3; i < 8; i++)
        step(next, i);
    case_check(cnn_session_pull(next));
    cnn_session_close(next);
    ck_assert(case_same(whole, second));
    cnn_model_free(whole);
    cnn_model_free(first);
    cnn_model_free(second);
}
END_TEST

START_TEST(a_session_names_what_its_bits_depend_on)
{
    char text[CNN_SESSION_LEVEL_BYTES];
    cnn_model *model = case_model();
    cnn_session *session;
    setenv("CNN_CPU_ISA", "portable", 1);
    case_check(cnn_session_open(model, &(cnn_session_options){.device = "cpu"}, &session));
    cnn_session_level(session, text);
    ck_assert_str_eq(text, "cpu portable");
    cnn_session_close(session);
    unsetenv("CNN_CPU_ISA");
    case_check(cnn_session_open(model, &(cnn_session_options){.device = "ref"}, &session));
    cnn_session_level(session, text);
    ck_assert_str_eq(text, "ref plain C");
    cnn_session_close(session);
    cnn_model_free(model);
}
END_TEST

/* ---- Runs ---- */

static const char *const path = "test_resume.ckpt";

static cnn_dataset part; /* the first 1000 images: 900 to train on */

static void set_up_part(void)
{
    part = *case_synth;
    part.count = 1000;
    remove(path);
}

static void tear_down_part(void)
{
    remove(path);
}

/* Two and a half epochs of 29 steps: steps 29 and 58 end epochs, 73 is the last. */
enum { EPOCH_STEPS = 29, STEPS = 73 };

static cnn_train_options run_options(record *r, cnn_dtype storage)
{
    cnn_train_options options = case_options(r);
    options.epochs = 2.5;
    options.schedule = CNN_SCHEDULE_COSINE;
    options.storage = storage;
    options.loss_scale = storage == CNN_F16 ? SCALE : 0;
    options.augment = storage == CNN_BF16 ? 0 : 0.5;
    if (storage == CNN_BF16) { /* all that an optimizer remembers */
        options.optimizer = CNN_OPTIMIZER_ADAM;
        options.learning_rate = 0.002f;
        options.ema_decay = 0.9;
        options.clip_norm = 1;
    }
    options.checkpoint = path;
    return options;
}

static cnn_status train_until(cnn_model *model, const cnn_train_options *options, record *r, int64_t stop)
{
    r->stop_at = stop;
    return cnn_train(model, &part, options, NULL);
}

/* Interrupts a run at two steps, the second time after it went on; each time the model is made anew. */
static void check_interrupted(cnn_dtype storage, int64_t first, int64_t second)
{
    record r;
    cnn_train_result expected, result;
    cnn_model *whole = case_model();
    cnn_train_options options = run_options(&r, storage);
    options.checkpoint = NULL;
    case_check(cnn_train(whole, &part, &options, &expected));
    if (storage == CNN_F16)
        ck_assert_int_gt(expected.skipped_steps, 0);

    options = run_options(&r, storage);
    options.resume = true;
    const int64_t stops[] = {first, second};
    for (int i = 0; i < 2; i++) {
        cnn_model *model = case_model();
        ck_assert_int_eq(train_until(model, &options, &r, stops[i]), CNN_ERR_CANCELLED);
        ck_assert_int_eq(r.last.step, stops[i]);
        ck_assert(r.last.resumed == (i > 0));
        cnn_model_free(model);
    }
    cnn_model *model = case_model();
    r.stop_at = 0;
    case_check(cnn_train(model, &part, &options, &result));
    ck_assert(case_same(whole, model));
    ck_assert_int_eq(r.last.step, STEPS);
    ck_assert_int_eq(r.last.whole_epochs, 3);
    ck_assert(result.loss == expected.loss && result.val_accuracy == expected.val_accuracy);
    ck_assert(result.epochs == expected.epochs && result.images == expected.images);
    ck_assert_int_eq(result.skipped_steps, expected.skipped_steps);
    ck_assert(result.loss_scale_min == expected.loss_scale_min && result.loss_scale_max == expected.loss_scale_max);
    ck_assert_str_eq(result.first_overflow, expected.first_overflow);

    /* The checkpoint of the end gives it all once more, without a step. */
    cnn_model *again = case_model();
    const int calls = r.calls;
    case_check(cnn_train(again, &part, &options, &result));
    ck_assert_int_eq(r.calls, calls + 1);
    ck_assert(case_same(whole, again));
    ck_assert(result.loss == expected.loss && result.val_accuracy == expected.val_accuracy);
    cnn_model_free(again);
    cnn_model_free(model);
    cnn_model_free(whole);
}

START_TEST(an_interrupted_run_ends_with_the_same_bits)
{
    static const int64_t stops[][2] = {{1, 2}, {13, EPOCH_STEPS}, {EPOCH_STEPS - 1, EPOCH_STEPS + 1}, {40, STEPS}};
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        remove(path);
        check_interrupted(storages[_i], stops[i][0], stops[i][1]);
    }
}
END_TEST

/* Stops in the call that a whole epoch makes, or fails a step later without a chance to write anything. */
typedef struct stopper {
    int64_t at;
    bool after_epoch;
    int32_t whole_epochs;
    int64_t begin;
} stopper;

static bool stop(void *context, const cnn_train_progress *progress)
{
    stopper *s = context;
    if (progress->begin)
        s->begin = progress->step;
    s->whole_epochs = progress->whole_epochs;
    return !(s->after_epoch ? progress->epoch_done : progress->step == s->at);
}

START_TEST(a_checkpoint_holds_the_last_whole_epoch)
{
    record r;
    stopper s = {.after_epoch = true};
    cnn_model *first = case_model(), *model = case_model(), *middle = case_model();
    cnn_train_options options = run_options(&r, CNN_F16);
    options.progress = stop;
    options.progress_context = &s;
    ck_assert_int_eq(cnn_train(first, &part, &options, NULL), CNN_ERR_CANCELLED);
    ck_assert_int_eq(s.whole_epochs, 1);

    /* Stopped in the middle of the second epoch; the checkpoint still has the parameters of the first. */
    s = (stopper){.at = EPOCH_STEPS + 10};
    options.resume = true;
    ck_assert_int_eq(cnn_train(middle, &part, &options, NULL), CNN_ERR_CANCELLED);
    ck_assert_int_eq(s.begin, EPOCH_STEPS);
    ck_assert(!case_same(first, middle));
    s = (stopper){.at = EPOCH_STEPS + 10}; /* in the first call */
    ck_assert_int_eq(cnn_train(model, &part, &options, NULL), CNN_ERR_CANCELLED);
    ck_assert_int_eq(s.begin, EPOCH_STEPS + 10);
    ck_assert_int_eq(s.whole_epochs, 1);
    ck_assert(case_same(middle, model)); /* which cnn_train brings up to the moment when it stops */
    cnn_input_file file = {0};
    cnn_checkpoint checkpoint;
    cnn_model *kept;
    case_check(cnn_checkpoint_load(path, &file, &checkpoint));
    case_check(cnn_file_decode(checkpoint.model, checkpoint.model_bytes, "kept", &kept));
    ck_assert(case_same(first, kept));
    cnn_input_close(&file);
    cnn_model_free(kept);
    cnn_model_free(first);
    cnn_model_free(middle);
    cnn_model_free(model);
}
END_TEST

/* Copies the checkpoint of a step away, as it lies there when the process is killed a moment later. */
static bool copy_at(void *context, const cnn_train_progress *progress)
{
    return progress->step != *(int64_t *)context || rename(path, "test_resume.copy") == 0;
}

START_TEST(checkpoints_come_every_n_steps)
{
    int64_t at = 51;
    cnn_model *whole = case_model(), *model = case_model();
    cnn_train_options options = run_options(NULL, CNN_F32);
    options.checkpoint_every = 25;
    options.progress = copy_at;
    options.progress_context = &at;
    case_check(cnn_train(whole, &part, &options, NULL));
    ck_assert_int_eq(rename("test_resume.copy", path), 0);
    stopper s = {.at = -1};
    options.resume = true;
    options.progress = stop;
    options.progress_context = &s;
    case_check(cnn_train(model, &part, &options, NULL));
    ck_assert_int_eq(s.begin, 50);
    ck_assert(case_same(whole, model));
    cnn_model_free(whole);
    cnn_model_free(model);
}
END_TEST

START_TEST(a_missing_checkpoint_is_a_beginning)
{
    record r;
    cnn_model *model = case_model();
    cnn_train_options options = run_options(&r, CNN_F32);
    options.resume = true;
    options.epochs = 0.1;
    case_check(cnn_train(model, &part, &options, NULL));
    ck_assert(!r.last.resumed);
    options.checkpoint = NULL;
    ck_assert_int_eq(cnn_train(model, &part, &options, NULL), CNN_ERR_USAGE);
    cnn_model_free(model);
}
END_TEST

/* ---- What is refused ---- */

static void refuses(const cnn_train_options *options, const cnn_dataset *data, cnn_model *model, const char *says)
{
    cnn_model *before;
    case_check(cnn_model_clone(model, &before));
    cnn_status status = cnn_train(model, data, options, NULL);
    ck_assert_msg(status == CNN_ERR_SHAPE, "not refused: %s (%s)", says, cnn_status_name(status));
    ck_assert_msg(strstr(cnn_last_error(), says) && strstr(cnn_last_error(), path) &&
                      strstr(cnn_last_error(), "--resume"),
                  "'%s' does not say '%s'", cnn_last_error(), says);
    ck_assert(case_same(before, model));
    cnn_model_free(before);
    cnn_model_free(model);
}

/* An option with another value, and the sentence about it. */
#define REFUSES(field, value, says)                 \
    do {                                            \
        cnn_train_options other = options;          \
        other.field = value;                        \
        refuses(&other, &part, case_model(), says); \
    } while (0)

START_TEST(another_run_is_refused)
{
    record r;
    cnn_model *model = case_model();
    cnn_train_options options = run_options(&r, CNN_F16);
    ck_assert_int_eq(train_until(model, &options, &r, 20), CNN_ERR_CANCELLED);
    cnn_model_free(model);
    options.resume = true;
    r.stop_at = 0;
    REFUSES(batch, 16, "--batch 32, this one has 16");
    REFUSES(epochs, 2.25, "--epochs 2.5, this one has 2.25");
    REFUSES(learning_rate, 0.021f, "--lr 0.02, this one has 0.021");
    REFUSES(momentum, 0.5f, "--momentum 0.9, this one has 0.5");
    REFUSES(weight_decay, 1e-4f, "--weight-decay 0, this one has 0.0001");
    REFUSES(schedule, CNN_SCHEDULE_CONSTANT, "--schedule cosine, this one has constant");
    REFUSES(warmup, 0.25, "--warmup -1, this one has 0.25");
    REFUSES(lr_step, 1.5, "--lr-step 3, this one has 1.5");
    REFUSES(lr_gamma, 0.2f, "--lr-gamma 0.1, this one has 0.2");
    REFUSES(storage, CNN_BF16, "--amp fp16, this one has bf16");
    REFUSES(loss_scale, 1024, "--loss-scale 4194304 that moves, this one has 1024 that moves");
    REFUSES(static_loss_scale, true, "--loss-scale 4194304 that moves, this one has 4194304;");
    REFUSES(augment, 0.25, "--augment 0.5, this one has 0.25");
    REFUSES(augmentation, "shift", "--augmentation scale=0.12,rotate=12,shift=1.5, this one has shift=1.5;");
    REFUSES(seed, 2, "--seed 1, this one has 2");
    REFUSES(device, "ref", "this one computes on ref plain C");
}
END_TEST

START_TEST(other_data_or_models_are_refused)
{
    record r;
    cnn_model *model = case_model();
    cnn_train_options options = run_options(&r, CNN_F32);
    ck_assert_int_eq(train_until(model, &options, &r, 20), CNN_ERR_CANCELLED);
    cnn_model_free(model);
    options.resume = true;
    r.stop_at = 0;
    refuses(&options, &case_small, case_model(), "synth: 1000 images of 28x28x1 in 10 classes, this one on synth: 100");
    part.images[999] ^= 1;
    refuses(&options, &part, case_model(), "the images are not those");
    part.images[999] ^= 1;
    part.labels[77] = (uint8_t)(9 - part.labels[77]);
    refuses(&options, &part, case_model(), "the labels are not those");
    part.labels[77] = (uint8_t)(9 - part.labels[77]);

    model = case_model();
    cnn_model_init(model, 2);
    refuses(&options, &part, model, "another model");
    model = case_model();
    model->name[0] = 'T';
    refuses(&options, &part, model, "another model");
    case_check(cnn_model_parse("image = input(height=28, width=28, channels=1)\n"
                               "conv1 = conv(image, out=8, kernel=5, stride=2)\n"
                               "bn1 = bn(conv1)\n"
                               "pool1 = maxpool(bn1, kernel=2)\n"
                               "fc1 = linear(pool1, out=10)\n",
                               "tiny.cfg", &model));
    cnn_model_init(model, 1);
    refuses(&options, &part, model, "'relu1 = relu(bn1)' where this one has 'pool1");
    setenv("CNN_CPU_ISA", "portable", 1);
    model = case_model();
    cnn_status status = cnn_train(model, &part, &options, NULL);
    ck_assert_int_eq(status, CNN_ERR_SHAPE);
    ck_assert_ptr_nonnull(strstr(cnn_last_error(), "this one computes on cpu portable"));
    cnn_model_free(model);
    unsetenv("CNN_CPU_ISA");
    model = case_model();
    case_check(cnn_train(model, &part, &options, NULL)); /* as it was, it goes on */
    cnn_model_free(model);
}
END_TEST

/* A checkpoint that is whole but cannot be of this run. `spoil` changes what was read. */
typedef void (*spoil_fn)(cnn_checkpoint *checkpoint);

static void more_steps(cnn_checkpoint *checkpoint)
{
    checkpoint->point.step += EPOCH_STEPS;
    checkpoint->point.state.step += EPOCH_STEPS;
}

static void more_epochs(cnn_checkpoint *checkpoint)
{
    checkpoint->point.epochs += 3;
}

static void more_updates(cnn_checkpoint *checkpoint)
{
    checkpoint->point.state.step++;
}

static void more_skipped(cnn_checkpoint *checkpoint)
{
    checkpoint->point.watch.skipped++;
}

static void higher_scale(cnn_checkpoint *checkpoint)
{
    checkpoint->point.state.loss_scale = 1e30f;
}

static void fewer_memories(cnn_checkpoint *checkpoint)
{
    checkpoint->memory_count--;
}

static void smaller_memory(cnn_checkpoint *checkpoint)
{
    checkpoint->memory[1].bytes -= 4;
}

static void renamed_memory(cnn_checkpoint *checkpoint)
{
    checkpoint->memory[0].name[0] = 'x';
}

static void no_model(cnn_checkpoint *checkpoint)
{
    checkpoint->model_bytes--;
}

static const struct {
    spoil_fn spoil;
    const char *says;
} spoils[] = {
    {more_steps, "its numbers of steps and of epochs contradict each other"},
    {more_epochs, "its numbers of steps and of epochs contradict each other"},
    {more_updates, "its numbers of steps, updates and skipped steps contradict each other"},
    {more_skipped, "its numbers of steps, updates and skipped steps contradict each other"},
    {higher_scale, "its loss scale and the options contradict each other"},
    {fewer_memories, "its memories and the options contradict each other"},
    {smaller_memory, "its memories and the options contradict each other"},
    {renamed_memory, "its memories and the options contradict each other"},
    {no_model, "its model"},
};

START_TEST(contradictions_are_refused)
{
    record r;
    cnn_input_file file = {0};
    cnn_checkpoint checkpoint;
    cnn_model *model = case_model(), *before = case_model();
    cnn_train_options options = run_options(&r, CNN_F16);
    ck_assert_int_eq(train_until(model, &options, &r, 20), CNN_ERR_CANCELLED);
    cnn_model_free(model);
    options.resume = true;
    r.stop_at = 0;
    case_check(cnn_checkpoint_load(path, &file, &checkpoint));
    for (size_t i = 0; i < sizeof spoils / sizeof *spoils; i++) {
        cnn_checkpoint spoilt = checkpoint;
        spoils[i].spoil(&spoilt);
        case_check(cnn_checkpoint_save(&spoilt, path));
        model = case_model();
        ck_assert_int_eq(cnn_train(model, &part, &options, NULL), CNN_ERR_FORMAT);
        ck_assert_msg(strstr(cnn_last_error(), spoils[i].says) && strstr(cnn_last_error(), path),
                      "'%s' does not say '%s'", cnn_last_error(), spoils[i].says);
        ck_assert(case_same(before, model));
        cnn_model_free(model);
    }
    cnn_model_free(before);
    cnn_input_close(&file);
}
END_TEST

START_TEST(other_files_are_left_alone)
{
    char text[16] = {0};
    cnn_model *model = case_model();
    cnn_train_options options = run_options(NULL, CNN_F32);
    FILE *file = fopen(path, "w");
    fputs("my notes", file);
    fclose(file);
    for (int resume = 0; resume < 2; resume++) {
        options.resume = resume;
        ck_assert_int_eq(cnn_train(model, &part, &options, NULL), CNN_ERR_FORMAT);
        ck_assert_ptr_nonnull(strstr(cnn_last_error(), "is not a checkpoint"));
    }
    file = fopen(path, "r");
    ck_assert_uint_eq(fread(text, 1, sizeof text, file), 8);
    fclose(file);
    ck_assert_str_eq(text, "my notes");
    cnn_model_free(model);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("resume");
    TCase *tests = tcase_create("resume");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, case_set_up, case_tear_down);
    tcase_add_loop_test(tests, a_session_goes_on_in_another, 0, 3);
    tcase_add_test(tests, a_session_names_what_its_bits_depend_on);
    tcase_add_checked_fixture(tests, set_up_part, tear_down_part);
    tcase_add_loop_test(tests, an_interrupted_run_ends_with_the_same_bits, 0, 3);
    tcase_add_test(tests, a_checkpoint_holds_the_last_whole_epoch);
    tcase_add_test(tests, checkpoints_come_every_n_steps);
    tcase_add_test(tests, a_missing_checkpoint_is_a_beginning);
    tcase_add_test(tests, another_run_is_refused);
    tcase_add_test(tests, other_data_or_models_are_refused);
    tcase_add_test(tests, contradictions_are_refused);
    tcase_add_test(tests, other_files_are_left_alone);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
