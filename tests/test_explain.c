/* cnn-opt --explain: made-up runs, and what is said of them. */
#include "optimize/facts.h"

#include <check.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LAYERS = 3 };

/* A run: every test changes what its situation has. It begins as `cnn-opt --prune 0.5 --int8` that lost nothing. */
static opt_settings settings;
static opt_layer layers[LAYERS];
static opt_layer_facts layer_facts[LAYERS];
static opt_account account;
static opt_facts facts;
static cnn_text text;

static void add_stage(const char *name, double accuracy, int64_t bytes, int64_t weights, int64_t macs)
{
    opt_stage *stage = &account.stages[account.stage_count++];
    *stage = (opt_stage){.figures = {.accuracy = accuracy, .file_bytes = bytes, .weights = weights, .macs = macs}};
    snprintf(stage->name, sizeof stage->name, "%s", name);
}

static void set_layer(int i, const char *name, int64_t weights, double sqnr_db, double logit_error)
{
    layers[i] =
        (opt_layer){.weights_before = 4 * weights, .weights = weights, .elements = weights, .nonzeros = weights};
    snprintf(layers[i].name, sizeof layers[i].name, "%s", name);
    snprintf(layers[i].int8.layer, sizeof layers[i].int8.layer, "%s", name);
    layers[i].int8.sqnr_db = sqnr_db;
    layers[i].int8.bits = 8;
    layer_facts[i] = (opt_layer_facts){.bytes_before = 16 * weights, .bytes = weights};
    for (int trial = 0; trial < OPT_MOST_TRIALS; trial++)
        layer_facts[i].effect[trial] = (cnn_effect){.applies = true, .logit_error = logit_error};
}

static void setup(void)
{
    settings = (opt_settings){.prune = 0.5,
                              .int8 = true,
                              .structure = -1,
                              .schedule = -1,
                              .criterion = -1,
                              .finetune = -1,
                              .observer = -1,
                              .bias_correction = -1};
    account = (opt_account){.layers = layers, .layer_count = LAYERS, .epochs = 1, .val_images = 5000};
    facts = (opt_facts){.layers = layer_facts, .trial_count = OPT_MOST_TRIALS, .trial_images = 512, .images = 5000};
    text = (cnn_text){0};
    set_layer(0, "conv1", 100, 40, 0.10);
    set_layer(1, "fc1", 9000, 35, 0.12);
    set_layer(2, "fc2", 900, 38, 0.11);
    layer_facts[2].effect[2].applies = false;
    add_stage("as given", 0.98, 160000, 40000, 1000);
    add_stage("prune 50 %", 0.95, 40000, 10000, 250);
    add_stage("fine-tune 1 epoch", 0.981, 40000, 10000, 250);
    add_stage("INT8", 0.981, 10000, 10000, 250);
    facts.broken = 20;
    facts.mended = 25;
}

static void teardown(void)
{
    cnn_text_free(&text);
}

static void explain(void)
{
    cnn_text_free(&text);
    opt_explain(&settings, &account, &facts, &text);
    ck_assert(!text.failed && text.length > 0);
    ck_assert_msg(text.data[text.length - 1] == '.', "does not end a sentence: %s", text.data);
    ck_assert_msg(!strstr(text.data, "  "), "two spaces: %s", text.data);
    ck_assert_msg(!strstr(text.data, "nan") && !strstr(text.data, "inf"), "no number: %s", text.data);
}

static void says(const char *part)
{
    ck_assert_msg(strstr(text.data, part), "'%s' does not say '%s'", text.data, part);
}

static void says_not(const char *part)
{
    ck_assert_msg(!strstr(text.data, part), "'%s' says '%s'", text.data, part);
}

/* The accuracy of the passes from pass `from` on, and how many answers changed. */
static void lose(int from, double accuracy, int broken, int mended)
{
    for (int i = from; i < account.stage_count; i++)
        account.stages[i].figures.accuracy = accuracy;
    facts.broken = broken;
    facts.mended = mended;
}

START_TEST(all_is_well)
{
    explain();
    says("Pruning took 75 % of the weights and 75 % of the multiply-accumulates; fc1 lost most, 27,000 of 36,000 "
         "weights; "
         "what is left became 8-bit integers.");
    says("The file went from 160 kB to 10.0 kB, of which fc1 takes 9.0 kB.");
    says("On 5,000 validation images the accuracy went from 98.00 to 98.10 % (+0.10 points): 20 answers became wrong "
         "and "
         "25 right, a difference that chance alone can make.");
    says("The pass that cost most was 'prune 50 %', 3.00 points, all won back since.");
    says("Pruned alone, fc1 changes the scores most, by 12.0 %.");
    says("INT8 is least exact in fc1, with 35.0 dB of signal to noise, which is fine.");
    says("Next, prune more, with --prune 0.75.");
    settings.all_images = true;
    explain();
    says("On 5,000 validation images, which it was trained on, the accuracy went");
}
END_TEST

START_TEST(a_sure_gain_is_not_called_chance)
{
    facts.mended = 80;
    explain();
    says("20 answers became wrong and 80 right. ");
    says("prune more");
}
END_TEST

START_TEST(a_loss_by_chance_is_no_loss)
{
    lose(2, 0.9794, 23, 20);
    explain();
    says("(-0.06 points): 23 answers became wrong and 20 right, a difference that chance alone can make.");
    says("prune more");
    says_not("won back");
}
END_TEST

START_TEST(only_int8)
{
    settings.prune = 0;
    account.stage_count = 1;
    add_stage("INT8", 0.98, 40000, 40000, 1000);
    lose(1, 0.98, 0, 0);
    explain();
    says("Nothing was removed: weights and activations became 8-bit integers.");
    says("every answer is the same");
    says_not("Pruned alone");
    says("Next, add --prune 0.5");
}
END_TEST

START_TEST(coarse_weights)
{
    for (int i = 0; i < LAYERS; i++)
        layers[i].int8.bits = 3;
    explain();
    says("; what is left became integers of 3 bits, activations of 8.");
    layers[1].int8.bits = 5;
    explain();
    says("; what is left became integers of 3 to 5 bits, activations of 8.");
}
END_TEST

START_TEST(only_pruning)
{
    settings.int8 = false;
    account.stage_count = 3;
    explain();
    says_not("8-bit");
    says_not("INT8 is least");
    says("Next, add --int8");
    says("; or prune more");
}
END_TEST

START_TEST(pruning_without_repair)
{
    account.epochs = 0;
    account.stage_count = 2;
    add_stage("INT8", 0.95, 10000, 10000, 250);
    lose(1, 0.95, 160, 10);
    explain();
    says("'prune 50 %', 3.00 points. ");
    says_not("chance");
    says("Next, train after pruning with --finetune 1 or more");
    says_not("--observer");
}
END_TEST

START_TEST(pruning_too_much)
{
    settings.prune = 0.9;
    lose(2, 0.96, 120, 20);
    explain();
    says("Next, raise --finetune to 3; or prune in steps with --prune-schedule iterative.");
    account.epochs = 5;
    settings.schedule = OPT_SCHEDULE_ITERATIVE;
    explain();
    says("Next, raise --finetune to 15; or lower --prune.");
}
END_TEST

START_TEST(a_layer_that_matters_more)
{
    lose(2, 0.96, 120, 20);
    layer_facts[0].effect[2].logit_error = 0.4;
    explain();
    says("Pruned alone, conv1 changes the scores most, by 40.0 %.");
    says("; or take --global, which prunes less where it hurts, as in conv1.");
    settings.global = true;
    explain();
    says_not("take --global");
}
END_TEST

START_TEST(int8_breaks_a_layer)
{
    lose(3, 0.95, 160, 10);
    layers[0].int8.sqnr_db = 8.5;
    settings.observer = CNN_OBSERVER_MAX;
    explain();
    says("INT8 is least exact in conv1, with 8.5 dB of signal to noise, where 20 and more are fine.");
    says("The pass that cost most was 'INT8', 3.10 points. ");
    says("Next, let --observer auto find each layer's range");
    settings.observer = -1;
    settings.bias_correction = 0;
    explain();
    says("Next, leave --bias-correction on");
    settings.bias_correction = -1;
    layers[0].int8.clipped = 0.034;
    explain();
    says("Next, try --observer max: in conv1 it clips nothing, where 3.4 % of the values are clipped now");
}
END_TEST

START_TEST(int8_alone_costs)
{
    settings.prune = 0;
    account.epochs = 0;
    account.stage_count = 1;
    add_stage("INT8", 0.95, 40000, 40000, 1000);
    lose(1, 0.95, 160, 10);
    explain();
    says("Next, train a little before quantizing, with --finetune 1.");
}
END_TEST

START_TEST(single_weights)
{
    settings.structure = OPT_STRUCTURE_WEIGHT;
    for (int i = 0; i < LAYERS; i++)
        layers[i].nonzeros = layers[i].elements / 2;
    explain();
    says("Of the weights 50 % are 0 now; what is left became 8-bit integers.");
    says("; or for speed take --structure block or channel");
    settings.prune = 0.9;
    settings.structure = OPT_STRUCTURE_BLOCK;
    explain();
    says("in whole blocks");
    says("Next, for the smallest file add --pack smallest.");
    settings.pack = CNN_PACK_SMALLEST;
    explain();
    says_not("Next");
}
END_TEST

START_TEST(exact_widths)
{
    settings.prune = 0;
    settings.keep = "conv1=7";
    for (int i = 0; i < LAYERS - 1; i++) {
        layers[i].channels_before = 10;
        layers[i].channels = 7;
    }
    explain();
    says("Pruning took 75 % of the weights");
    says("Next, keep fewer channels");
    lose(1, 0.95, 160, 10);
    explain();
    says("raise --finetune to 3; or keep more channels");
    says_not("--prune");
}
END_TEST

START_TEST(two_of_four)
{
    settings.structure = OPT_STRUCTURE_TWO_OF_FOUR;
    for (int i = 0; i < LAYERS; i++)
        layers[i].nonzeros = layers[i].elements / 2;
    explain();
    says("Of the weights 50 % are 0 now; what is left became 8-bit integers.");
    says("remove more than 2:4 does, with --prune 0.75 --structure weight");
    lose(1, 0.95, 160, 10);
    explain();
    says("take --prune 0.5 --structure weight --global, which chooses freely");
    says_not("lower --prune");
}
END_TEST

START_TEST(dead_and_exact_layers)
{
    layers[1].int8 = (cnn_quantize_row){.layer = "fc1", .dead = true, .sqnr_db = (double)NAN};
    layers[0].int8.sqnr_db = layers[2].int8.sqnr_db = HUGE_VAL;
    explain();
    says("fc1 gives nothing but zeros and could as well be missing.");
    says_not("INT8 is least exact");
}
END_TEST

START_TEST(a_search)
{
    static opt_front front;
    front = (opt_front){.count = 6};
    front.visits[4] = (opt_visit){.share = 0.6, .paired = {.images = 5000, .broken = 20, .mended = 25}};
    account.front = &front;
    account.chosen = 4;
    account.stage_count = 1;
    add_stage("point 4 of the search", 0.981, 10000, 10000, 250);
    settings.prune = 0;
    settings.max_drop = 0.3;
    settings.pick = -1;
    explain();
    says("Pruning took 75 % of the weights");
    says("It is one of 6 models that a search tried: in 90 of 100 cases it loses at most 0.07 points.");
    says("Next, raise --finetune to 3, so that smaller models keep the accuracy.");
    front.visits[4].structure = OPT_STRUCTURE_WEIGHT;
    explain();
    says("Of the weights");
    front.visits[4].structure = OPT_STRUCTURE_CHANNEL;
    settings.max_drop = -1;
    settings.int8 = false;
    settings.finetune = 2;
    explain();
    says("Next, add --int8");
    says("; or ask for less: the search goes on where it ended.");
    lose(1, 0.95, 160, 10);
    explain();
    says("; or raise --finetune to 6");
    says_not("The pass that cost");
    front.visits[4] = (opt_visit){.share = 0};
    explain();
    says("Nothing was removed");
    says_not("Pruned alone");
}
END_TEST

START_TEST(no_images_held_out)
{
    for (int i = 0; i < account.stage_count; i++)
        account.stages[i].figures.accuracy = (double)NAN;
    facts.images = facts.broken = facts.mended = facts.trial_images = 0;
    for (int i = 0; i < LAYERS; i++)
        memset(layer_facts[i].effect, 0, sizeof layer_facts[i].effect);
    explain();
    says("No images were held out, so nothing is known of its accuracy.");
    says_not("Next");
    says_not("Pruned alone");
}
END_TEST

START_TEST(one_layer)
{
    account.layer_count = 1;
    explain();
    says_not("lost most");
    says_not("of which");
    says_not("Pruned alone");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("explain");
    TCase *tests = tcase_create("explain");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, all_is_well);
    tcase_add_test(tests, a_sure_gain_is_not_called_chance);
    tcase_add_test(tests, a_loss_by_chance_is_no_loss);
    tcase_add_test(tests, only_int8);
    tcase_add_test(tests, coarse_weights);
    tcase_add_test(tests, only_pruning);
    tcase_add_test(tests, pruning_without_repair);
    tcase_add_test(tests, pruning_too_much);
    tcase_add_test(tests, a_layer_that_matters_more);
    tcase_add_test(tests, int8_breaks_a_layer);
    tcase_add_test(tests, int8_alone_costs);
    tcase_add_test(tests, single_weights);
    tcase_add_test(tests, exact_widths);
    tcase_add_test(tests, two_of_four);
    tcase_add_test(tests, dead_and_exact_layers);
    tcase_add_test(tests, a_search);
    tcase_add_test(tests, no_images_held_out);
    tcase_add_test(tests, one_layer);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
