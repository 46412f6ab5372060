/* Going on where a run was interrupted: the same bits as if it never had been. On "synth", with a small network. */
#include "tests/train_case.h"

#include "core/session.h"

#include <check.h>
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

int main(void)
{
    Suite *suite = suite_create("resume");
    TCase *tests = tcase_create("resume");
    tcase_set_timeout(tests, 120);
    tcase_add_checked_fixture(tests, case_set_up, case_tear_down);
    tcase_add_loop_test(tests, a_session_goes_on_in_another, 0, 3);
    tcase_add_test(tests, a_session_names_what_its_bits_depend_on);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
