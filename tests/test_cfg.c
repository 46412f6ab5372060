/* Network descriptions: what is accepted, and that every mistake is named with its line, layer and what is allowed. */
#include "model_case.h"

#include "core/cfg.h"
#include "core/layers.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IMAGE "image = input(height=28, width=28, channels=1)\n"

static cnn_status parse(const char *text)
{
    cnn_model *model = NULL;
    cnn_status status = cnn_model_parse(text, "net.cfg", &model);
    cnn_model_free(model);
    return status;
}

START_TEST(test_accepts)
{
    CHECK_OK(parse("# comment\n\n" IMAGE "fc = linear(image, out=10)\n"));
    CHECK_OK(parse(IMAGE "fc = linear(image, out=10)")); /* no newline at the end */
    CHECK_OK(parse("image=input(height=28,width=28,channels=1)\r\nfc=linear(image,out=10)\r\n")); /* tight, CR LF */
    CHECK_OK(
        parse("\t image  =  input ( width = 28 , height = 28 , channels = 3 ) # why\nf = linear(image, out = 2)\n"));
    CHECK_OK(parse("\xEF\xBB\xBF" IMAGE "fc = linear(image, out=10)\n"));
    CHECK_OK(parse(IMAGE "fc = linear(image, out=1e1)\n"));
    CHECK_OK(parse(IMAGE "a = relu(image)\nb = relu(a)\nc = add(a, b)\nlayer/1.fc:0-x = linear(c, out=10)\n"));
    CHECK_OK(parse(IMAGE "fc = linear(bias=0, image, out=10)\n"));
}
END_TEST

START_TEST(test_values)
{
    cnn_model *model = NULL;
    CHECK_OK(cnn_model_parse(IMAGE "c = conv(image, out=6, kernel=5, stride=2, pad=2, bias=0)\nf = linear(c, out=10)\n",
                             "dir/net.cfg", &model));
    ck_assert_str_eq(model->name, "net");
    ck_assert_int_eq(model->node_count, 3);
    const cnn_node *conv = &model->nodes[1];
    ck_assert_int_eq(conv->line, 2);
    ck_assert_int_eq(cnn_node_int(conv, "out"), 6);
    ck_assert_int_eq(cnn_node_int(conv, "stride"), 2);
    ck_assert_int_eq(cnn_node_int(conv, "pad"), 2);
    ck_assert_int_eq(cnn_node_int(conv, "bias"), 0);
    ck_assert_int_eq(conv->out.h, 14);
    ck_assert_ptr_null(conv->param[CNN_PARAM_BIAS].data);
    ck_assert_int_eq(cnn_node_int(&model->nodes[2], "bias"), 1);
    cnn_model_free(model);
}
END_TEST

/* What is wrong, and what the sentence must say. */
static const struct {
    const char *text;
    cnn_status status;
    const char *parts[5];
} mistakes[] = {
    {"", CNN_ERR_FORMAT, {"net.cfg", "empty", "input(height=28"}},
    {"# only a comment\n", CNN_ERR_FORMAT, {"net.cfg", "empty"}},
    {IMAGE "c = convv(image, out=6)\n",
     CNN_ERR_FORMAT,
     {"net.cfg: line 2", "'c'", "'convv'", "input, conv, linear, bn"}},
    {IMAGE "c = conv(image, out=6, kernal=5)\n",
     CNN_ERR_FORMAT,
     {"line 2", "'c'", "'kernal'", "out, kernel, stride, pad"}},
    {IMAGE "r = globalavgpool(image, out=5)\n",
     CNN_ERR_FORMAT,
     {"line 2", "globalavgpool has no attribute 'out'", "none"}},
    {IMAGE "c = conv(image, kernel=5)\n", CNN_ERR_FORMAT, {"line 2", "'c'", "conv needs out="}},
    {IMAGE "c = conv(image, out=0, kernel=5)\n", CNN_ERR_FORMAT, {"line 2", "out of conv is 0", "from 1 to"}},
    {IMAGE "c = conv(image, out=2.5, kernel=5)\n", CNN_ERR_FORMAT, {"line 2", "2.5", "whole number"}},
    {IMAGE "c = conv(image, out=6, kernel=5, bias=2)\n", CNN_ERR_FORMAT, {"line 2", "bias of conv is 2", "0 or 1"}},
    {IMAGE "c = conv(image, out=six, kernel=5)\n", CNN_ERR_FORMAT, {"line 2", "'six'", "number"}},
    {IMAGE "c = conv(image, out=nan, kernel=5)\n", CNN_ERR_FORMAT, {"line 2", "'nan'"}},
    {IMAGE "c = conv(image, out=0x10, kernel=5)\n", CNN_ERR_FORMAT, {"line 2", "'0x10'"}},
    {IMAGE "c = conv(image, out=6, out=7, kernel=5)\n", CNN_ERR_FORMAT, {"line 2", "out is given twice"}},
    {IMAGE "image = relu(image)\n", CNN_ERR_FORMAT, {"line 2", "'image'", "already, in line 1"}},
    {IMAGE "f = linear(imagine, out=10)\n", CNN_ERR_FORMAT, {"line 2", "'f'", "'imagine'", "earlier layer"}},
    {IMAGE "f = linear(f, out=10)\n", CNN_ERR_FORMAT, {"line 2", "'f'", "earlier layer"}},
    {IMAGE "f = linear(out=10)\n", CNN_ERR_FORMAT, {"line 2", "linear takes 1 input, not 0"}},
    {IMAGE "f = linear(image, image, out=10)\n", CNN_ERR_FORMAT, {"line 2", "1 input", "one too many"}},
    {IMAGE "f = add(image)\n", CNN_ERR_FORMAT, {"line 2", "add takes 2 inputs, not 1"}},
    {IMAGE IMAGE, CNN_ERR_FORMAT, {"line 2", "already"}},
    {IMAGE "second = input(height=1, width=1, channels=1)\n", CNN_ERR_FORMAT, {"line 2", "one input"}},
    {"f = relu()\n", CNN_ERR_FORMAT, {"line 1", "first layer must be the input"}},
    {"image\n", CNN_ERR_FORMAT, {"line 1", "= after the name"}},
    {"= relu(image)\n", CNN_ERR_FORMAT, {"line 1", "name of a layer"}},
    {IMAGE "f = \n", CNN_ERR_FORMAT, {"line 2", "layer type expected at the end"}},
    {IMAGE "f = linear image\n", CNN_ERR_FORMAT, {"line 2", "( after the layer type"}},
    {IMAGE "f = linear(image, out=10\n", CNN_ERR_FORMAT, {"line 2", ", or )"}},
    {IMAGE "f = linear(image, out=)\n", CNN_ERR_FORMAT, {"line 2", "a number expected"}},
    {IMAGE "f = linear(image, out=10,)\n", CNN_ERR_FORMAT, {"line 2", "an input or attribute"}},
    {IMAGE "f = linear(image, out=10) g = relu(f)\n", CNN_ERR_FORMAT, {"line 2", "one layer a line"}},
    {IMAGE "1f = linear(image, out=10)\n", CNN_ERR_FORMAT, {"line 2", "'1f' is no layer name"}},
    {IMAGE "a123456789012345678901234567890123456789012345678901234567890123 = relu(image)\n",
     CNN_ERR_FORMAT,
     {"line 2", "63 characters"}},
    {IMAGE "f = linear(image, out=9)\np = softmax(f)\nr = relu(p)\n",
     CNN_ERR_FORMAT,
     {"line 4", "'r'", "follows the softmax 'p' of line 3", "must be the last layer"}},
    {IMAGE "f = linear(image, out=9)\np = softmax(f)\nq = softmax(f)\n",
     CNN_ERR_FORMAT,
     {"line 4", "'q'", "'p' of line 3"}},
    {IMAGE "a = linear(image, out=9)\nb = relu(a)\np = softmax(a)\n",
     CNN_ERR_FORMAT,
     {"line 4", "'p'", "softmax of 'a'", "the layer before it is 'b'"}},
    {IMAGE "f = linear(image, out=9)\nf = softmax(f)\n", CNN_ERR_FORMAT, {"line 3", "'f'", "already, in line 2"}},
    {IMAGE "f = linear(image, out=9)\np = softmax(f, axis=1)\n",
     CNN_ERR_FORMAT,
     {"line 3", "softmax has no attribute 'axis'", "none"}},
    {IMAGE "f = linear(image, out=9)\np = softmax()\n", CNN_ERR_FORMAT, {"line 3", "softmax takes 1 input, not 0"}},
    {IMAGE "p = softmax(image)\n", CNN_ERR_SHAPE, {"net.cfg", "no layer after the input"}},
    {IMAGE "c = convv(image, out=6)\n", CNN_ERR_FORMAT, {"'convv'", "dropout, softmax"}},
    {IMAGE "c = conv(image, out=6, kernel=29)\n", CNN_ERR_SHAPE, {"line 2", "'c'", "29x29", "28x28"}},
    {IMAGE "p = maxpool(image, kernel=2)\ns = add(image, p)\n", CNN_ERR_SHAPE, {"line 3", "'s'", "28x28x1", "14x14x1"}},
    {IMAGE "c = conv(image, out=6, kernel=5)\n", CNN_ERR_SHAPE, {"line 2", "'c'", "[1,24,24,6]", "[1,1,1,classes]"}},
    {IMAGE, CNN_ERR_SHAPE, {"net.cfg", "no layer after the input"}},
    {IMAGE "a = relu(image)\nf = linear(image, out=10)\n", CNN_ERR_SHAPE, {"line 2", "'a'", "no later layer reads it"}},
    {IMAGE "c = conv(image, out=16777216, kernel=1)\nf = linear(c, out=10)\n", CNN_ERR_SHAPE, {"line 2", "2^31-1"}},
    {IMAGE "a = linear(image, out=16777216)\nf = linear(a, out=16777216)\n", CNN_ERR_SHAPE, {"line 2", "2^31-1"}},
};

START_TEST(test_mistake)
{
    char text[300];
    ck_assert_uint_lt(strlen(mistakes[_i].text), sizeof text);
    strcpy(text, mistakes[_i].text);
    case_check_error(parse(text), mistakes[_i].status, text, mistakes[_i].parts);
    ck_assert_ptr_null(strchr(cnn_last_error(), '\n'));
}
END_TEST

/* A softmax at the end is noted; what is printed is read back the same, whatever layers are called. */
START_TEST(test_softmax)
{
    static const char *const nets[3][2] = {
        {IMAGE "fc = linear(image, out=10)\n", NULL},
        {IMAGE "fc = linear(image, out=10)\nprob = softmax(fc) # classes\n", "\nsoftmax = softmax(fc)\n"},
        {IMAGE "softmax = relu(image)\nsoftmax1 = linear(softmax, out=10)\nprob = softmax(softmax1)\n",
         "\nsoftmax2 = softmax(softmax1)\n"}};
    for (int i = 0; i < 3; i++) {
        cnn_model *model = NULL, *again = NULL;
        char *text;
        CHECK_OK(cnn_model_parse(nets[i][0], "net", &model));
        ck_assert_int_eq(cnn_model_softmax(model), i > 0);
        ck_assert_int_eq(cnn_model_layer_count(model), i == 2 ? 3 : 2);
        CHECK_OK(cnn_model_print(model, &text));
        if (nets[i][1])
            ck_assert_msg(strstr(text, nets[i][1]) != NULL, "%s", text);
        CHECK_OK(cnn_model_parse(text, "net", &again));
        case_check_equal(model, again);
        free(text);
        CHECK_OK(cnn_model_adapt(again, &(cnn_image_form){.height = 8, .width = 8, .channels = 3}, 4));
        ck_assert_int_eq(cnn_model_softmax(again), i > 0);
        cnn_model_set_softmax(again, false);
        ck_assert(!cnn_model_softmax(again));
        cnn_model_free(again);
        cnn_model_free(model);
    }
}
END_TEST

START_TEST(test_limits)
{
    cnn_model *model = NULL;
    size_t length = CNN_CFG_MAX_BYTES + 1;
    char *text = malloc(length + 1);
    memset(text, '#', length);
    text[length] = '\0';
    CHECK_FAILS(cnn_model_parse(text, "big.cfg", &model), CNN_ERR_FORMAT, "big.cfg", "1048577 bytes");
    text[2000] = '\0';
    CHECK_FAILS(cnn_model_parse(text, "long.cfg", &model), CNN_ERR_FORMAT, "long.cfg: line 1", "1024");
    CHECK_FAILS(cnn_cfg_read("image = \0input", 14, "zero.cfg", &model), CNN_ERR_FORMAT, "zero.cfg: line 1",
                "zero byte");

    size_t at = (size_t)sprintf(text, IMAGE);
    for (int i = 0; i < CNN_MAX_NODES; i++)
        at += (size_t)sprintf(text + at, "r%d = relu(image)\n", i);
    CHECK_FAILS(cnn_model_parse(text, "many.cfg", &model), CNN_ERR_FORMAT, "line 4097", "at most 4096");
    free(text);
}
END_TEST

START_TEST(test_files)
{
    cnn_model *model = NULL;
    char path[] = "test_cfg_XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    FILE *file = fdopen(fd, "wb");
    fputs(IMAGE "fc = linear(image, out=10)\n", file);
    fclose(file);
    CHECK_OK(cnn_model_create(path, &model));
    ck_assert_str_eq(model->name, path);
    cnn_model_free(model);
    model = NULL;
    unlink(path);
    CHECK_FAILS(cnn_model_create(path, &model), CNN_ERR_IO, path,
                "convnet, lenet5, lenet5-caffe, lenet300, resnet20, resnet56, vgg16, mobilenet-small");
    CHECK_FAILS(cnn_model_create("/", &model), CNN_ERR_IO, "folder");
    CHECK_FAILS(cnn_model_create("/dev/null", &model), CNN_ERR_IO, "/dev/null: is a device");
    ck_assert_ptr_null(model);
}
END_TEST

/* models/NAME.cfg and the built-in text are the same. */
START_TEST(test_builtins_are_the_files)
{
    for (const char *const *name = cnn_model_builtin_names(); *name; name++) {
        char path[4096];
        cnn_model *builtin = NULL, *file = NULL;
        snprintf(path, sizeof path, "%s/models/%s.cfg", CNN_SOURCE_DIR, *name);
        CHECK_OK(cnn_model_create(*name, &builtin));
        CHECK_OK(cnn_model_create(path, &file));
        case_check_equal(builtin, file);
        cnn_model_free(builtin);
        cnn_model_free(file);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cfg");
    TCase *tests = tcase_create("cfg");
    tcase_add_test(tests, test_accepts);
    tcase_add_test(tests, test_values);
    tcase_add_loop_test(tests, test_mistake, 0, (int)(sizeof mistakes / sizeof *mistakes));
    tcase_add_test(tests, test_softmax);
    tcase_add_test(tests, test_limits);
    tcase_add_test(tests, test_files);
    tcase_add_test(tests, test_builtins_are_the_files);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
