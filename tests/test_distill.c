/* Distillation: training that listens to a teacher. */
#include "tests/optimize_common.h"
#include "tests/train_case.h"

#include <math.h>

/* Without batch norm, so that training computes what inference does. */
static const char plain[] = "image = input(height=28, width=28, channels=1)\n"
                            "conv1 = conv(image, out=6, kernel=5, stride=3)\n"
                            "relu1 = relu(conv1)\n"
                            "fc1 = linear(relu1, out=10)\n";

static cnn_train_options listening(cnn_model *teacher, float share, float temperature)
{
    cnn_train_options options = case_options(NULL);
    options.epochs = 0.5;
    options.teacher = teacher;
    options.distill = share;
    options.temperature = temperature;
    return options;
}

static double largest_change(cnn_model *a, cnn_model *b)
{
    double most = 0;
    for (int i = 0; i < a->node_count; i++)
        for (int role = CNN_PARAM_WEIGHT; role <= CNN_PARAM_BIAS; role++) {
            const float *x = a->nodes[i].param[role].data, *y = b->nodes[i].param[role].data;
            for (int64_t j = 0; x && j < cnn_desc_elements(&a->nodes[i].param[role].desc); j++)
                most = fmax(most, fabs((double)x[j] - (double)y[j]));
        }
    return most;
}

/* A student that answers every image as the teacher does has nothing to learn from it: whose image a row of answers is
 * must be right for that. The labels alone, or another teacher, move it. */
START_TEST(test_nothing_to_learn_from_oneself)
{
    static const float temperatures[] = {1, 4};
    cnn_model *teacher = make_model(plain, 3), *student, *other = make_model(plain, 4);
    cnn_train_options options = listening(teacher, 1, temperatures[_i]);
    CHECK_OK(cnn_model_clone(teacher, &student));
    CHECK_OK(cnn_train(student, case_synth, &options, NULL));
    ck_assert_msg(largest_change(student, teacher) < 1e-5, "%g", largest_change(student, teacher));
    float *answers = NULL; /* kept: nobody asks the other teacher */
    options.answers = &answers;
    CHECK_OK(cnn_train(student, case_synth, &options, NULL));
    ck_assert_ptr_nonnull(answers);
    options.teacher = other;
    CHECK_OK(cnn_train(student, case_synth, &options, NULL));
    ck_assert_msg(largest_change(student, teacher) < 1e-5, "%g", largest_change(student, teacher));
    free(answers);
    options.answers = NULL;
    CHECK_OK(cnn_train(student, case_synth, &options, NULL));
    ck_assert(largest_change(student, teacher) > 1e-2);
    cnn_model_free(student);
    cnn_model_free(other);
    cnn_model_free(teacher);
}
END_TEST

/* With augmentation the teacher answers what the student sees, not what the image was. */
START_TEST(test_nothing_to_learn_from_oneself_augmented)
{
    cnn_model *teacher = make_model(plain, 3), *student;
    cnn_train_options options = listening(teacher, 1, 2);
    options.augment = 0.7;
    options.augmentation = "shift=3,rotate=20,elastic,contrast";
    CHECK_OK(cnn_model_clone(teacher, &student));
    CHECK_OK(cnn_train(student, case_synth, &options, NULL));
    ck_assert_msg(largest_change(student, teacher) < 1e-5, "%g", largest_change(student, teacher));
    cnn_model_free(student);
    cnn_model_free(teacher);
}
END_TEST

static double agreement_of(cnn_model *student, cnn_model *teacher)
{
    enum { IMAGES = 300 };
    float *a = run_logits(student, "cpu", case_synth, IMAGES), *b = run_logits(teacher, "cpu", case_synth, IMAGES);
    int same = 0;
    for (int n = 0; n < IMAGES; n++) {
        int best[2] = {0, 0};
        for (int k = 1; k < 10; k++) {
            best[0] = a[n * 10 + k] > a[n * 10 + best[0]] ? k : best[0];
            best[1] = b[n * 10 + k] > b[n * 10 + best[1]] ? k : best[1];
        }
        same += best[0] == best[1];
    }
    free(a);
    free(b);
    return (double)same / IMAGES;
}

/* An untrained teacher's answers have nothing to do with the labels; a student that hears it alone repeats them, in
 * mixed precision too. */
START_TEST(test_a_student_repeats_its_teacher)
{
    cnn_model *teacher = make_model(plain, 3), *student = make_model(plain, 5);
    cnn_train_options options = listening(teacher, 1, 1);
    for (int64_t i = 0; i < cnn_desc_elements(param_desc(teacher, "fc1", CNN_PARAM_WEIGHT)); i++)
        param_data(teacher, "fc1", CNN_PARAM_WEIGHT)[i] *= 20;
    options.epochs = 2;
    options.storage = _i ? CNN_F16 : CNN_F32;
    const double before = agreement_of(student, teacher);
    CHECK_OK(cnn_train(student, case_synth, &options, NULL));
    const double after = agreement_of(student, teacher);
    ck_assert_msg(before < 0.3 && after > 0.6, "%g before, %g after", before, after);
    cnn_model_free(student);
    cnn_model_free(teacher);
}
END_TEST

START_TEST(test_what_does_not_fit_is_refused)
{
    cnn_model *teacher = make_model(plain, 3), *student = make_model(plain, 5), *small;
    cnn_train_options options = listening(teacher, 1.5f, 1);
    CHECK_REFUSED(cnn_train(student, case_synth, &options, NULL), CNN_ERR_USAGE, "the share of distillation is 1.5");
    options = listening(teacher, 0.5f, 0);
    CHECK_REFUSED(cnn_train(student, case_synth, &options, NULL), CNN_ERR_USAGE, "the temperature is 0");
    small = make_model("image = input(height=28, width=28, channels=1)\nfc1 = linear(image, out=7)\n", 1);
    options = listening(small, 0.5f, 1);
    CHECK_REFUSED(cnn_train(student, case_synth, &options, NULL), CNN_ERR_SHAPE, "teacher");
    cnn_model_free(small);

    cnn_session *session;
    const float rate = 0.1f;
    const int32_t index[] = {0};
    float result[2];
    const cnn_train_state state = case_state(1, 0);
    const cnn_step_options step = {.distill = 0.5f, .temperature = 2};
    session = case_session_step(student, CNN_F32, &step, &rate, 1, &state);
    CHECK_REFUSED(cnn_session_step(session, index, 1, result), CNN_ERR_USAGE, "needs a teacher");
    cnn_session_close(session);
    cnn_model_free(student);
    cnn_model_free(teacher);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("distill");
    TCase *tests = tcase_create("distill");
    tcase_add_unchecked_fixture(tests, case_set_up, case_tear_down);
    tcase_add_loop_test(tests, test_nothing_to_learn_from_oneself, 0, 2);
    tcase_add_test(tests, test_nothing_to_learn_from_oneself_augmented);
    tcase_add_loop_test(tests, test_a_student_repeats_its_teacher, 0, 2);
    tcase_add_test(tests, test_what_does_not_fit_is_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
