/* The test set as it is, under an attack, and sanitized: a table of accuracies. */
#include "infer/infer.h"

#include "cli/json.h"
#include "cli/message.h"
#include "cli/model_files.h"
#include "cli/progress.h"
#include "cli/table.h"
#include "core/clock.h"
#include "core/error.h"
#include "core/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double standard_eps = 0.1, step_share = 0.1;

/* What is measured. Of images the attack found when `attacked`, else of the test set. */
typedef struct row {
    int64_t right, sanitized, flagged; /* flagged: whose answer changes when sanitized */
} row;

typedef struct measured {
    int64_t images;
    row clean, attacked;
    double seconds;
} measured;

cnn_status infer_check_attack(const infer_settings *s)
{
    cnn_sanitize_options sanitize;
    const bool pgd = s->attack == CNN_ATTACK_PGD;
    const bool detailed = s->attack_steps || s->attack_step != 0 || s->attack_restarts || s->attack_start >= 0;
    if (s->attack >= 0 && !s->test)
        return cnn_error(CNN_ERR_USAGE, "option --attack measures on a test set: give --test too");
    if (s->held_out && !s->test)
        return cnn_error(CNN_ERR_USAGE, "option --held-out says what --test measures on: give --test too");
    if (s->attack < 0 && (detailed || s->eps != 0 || s->attack_from))
        return cnn_error(CNN_ERR_USAGE, "%s is for attacks: give --attack too",
                         s->eps != 0      ? "option --eps"
                         : s->attack_from ? "option --attack-from"
                                          : "what begins with --attack-");
    if (s->attack_sanitized && (s->attack < 0 || !s->sanitize))
        return cnn_error(CNN_ERR_USAGE, "option --attack-sanitized needs --attack and --sanitize");
    if (detailed && !pgd)
        return cnn_error(CNN_ERR_USAGE, "steps, restarts and starts are for --attack pgd; fgsm goes one step of --eps");
    if (s->attack_start == 1 && s->attack_restarts > 1)
        return cnn_error(CNN_ERR_USAGE,
                         "--attack-restarts %d would begin at the same image each time: leave out "
                         "--attack-start image",
                         s->attack_restarts);
    if ((s->attack >= 0 || (s->sanitize && s->test)) && s->logits)
        return cnn_error(CNN_ERR_USAGE, "--logits writes the scores of a test set as it is: leave out %s",
                         s->attack >= 0 ? "--attack" : "--sanitize");
    if (s->sanitize && (s->bench || s->compare || s->dump_program))
        return cnn_error(CNN_ERR_USAGE, "option --sanitize is for pictures, --input and --test");
    return s->sanitize ? infer_parse_sanitize(s->sanitize, &sanitize) : CNN_OK;
}

static cnn_attack_options options_of(const infer_run *run)
{
    const infer_settings *s = run->settings;
    cnn_attack_options options;
    cnn_attack_options_init(&options);
    options.device = run->device[0];
    options.batch = run->batch;
    options.seed = (uint64_t)run->cli->common.seed;
    options.method = (cnn_attack_method)s->attack;
    options.eps = s->eps != 0 ? s->eps : standard_eps;
    options.step = s->attack_step != 0 ? s->attack_step : step_share * options.eps;
    options.steps = s->attack_steps ? s->attack_steps : options.steps;
    options.random_start = s->attack_start != 1;
    options.restarts = s->attack_restarts ? s->attack_restarts : options.random_start ? options.restarts : 1;
    return options;
}

static bool show_attack(void *context, int64_t done, int64_t all)
{
    (void)all;
    cnn_progress_update(context, (double)done, NULL);
    return true;
}

/* Answers to images as they are and sanitized; the images are changed. */
static cnn_status measure(infer_run *run, uint8_t *images, const uint8_t *labels, int64_t count, row *found)
{
    cnn_status status = CNN_OK;
    float *logits = cnn_calloc((size_t)count * (size_t)run->classes, sizeof *logits);
    bool *changed = cnn_calloc((size_t)count, sizeof *changed);
    *found = (row){0};
    if (!logits || !changed) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    CNN_TRY(cnn_session_infer(run->session, images, count, logits));
    for (int64_t i = 0; i < count; i++)
        found->right += infer_best(logits + i * run->classes, run->classes) == labels[i];
    CNN_TRY(infer_sanitize(run, images, count, logits, changed));
    for (int64_t i = 0; i < count; i++) {
        found->sanitized += infer_best(logits + i * run->classes, run->classes) == labels[i];
        found->flagged += changed[i];
    }
out:
    free(changed);
    free(logits);
    return status;
}

static cnn_status attack(infer_run *run, const cnn_dataset *data, uint8_t *found, measured *all)
{
    cnn_status status = CNN_OK;
    cnn_progress progress;
    cnn_attack_result result;
    cnn_model *source = NULL;
    cnn_attack_options options = options_of(run);
    cnn_sanitize_options sanitize;
    if (run->settings->attack_sanitized) {
        CNN_TRY(infer_parse_sanitize(run->settings->sanitize, &sanitize));
        options.sanitize = &sanitize;
    }
    if (run->settings->attack_from)
        CNN_TRY(cnn_cli_open_model(run->cli, run->settings->attack_from, &source));
    options.source = source;
    options.progress = show_attack;
    options.context = &progress;
    cnn_progress_begin(&progress, run->cli, "attack", (double)all->images, "images");
    const double start = cnn_clock();
    status = cnn_attack(run->model, data, NULL, all->images, &options, found, &result);
    all->seconds = cnn_clock() - start;
    cnn_progress_end(&progress);
    if (status != CNN_OK)
        goto out;
    CNN_TRY(measure(run, found, data->labels, all->images, &all->attacked));
    *(options.sanitize ? &all->attacked.sanitized : &all->attacked.right) = result.attacked; /* also between bytes */
out:
    cnn_model_free(source);
    return status;
}

static double share(int64_t part, const measured *all)
{
    return (double)part / (double)all->images;
}

static void print_json(const infer_run *run, const cnn_dataset *data, const measured *all)
{
    const infer_settings *s = run->settings;
    const cnn_attack_options options = options_of(run);
    cnn_json json;
    cnn_json_begin(&json, stdout);
    cnn_json_number(&json, "accuracy", share(all->clean.right, all));
    cnn_json_integer(&json, "images", all->images);
    cnn_json_string(&json, "data", cnn_dataset_name(data->id));
    cnn_json_string(&json, "model", run->path);
    cnn_json_string(&json, "device", cnn_session_device(run->session));
    if (s->sanitize) {
        cnn_json_string(&json, "sanitize", s->sanitize);
        cnn_json_number(&json, "sanitized_accuracy", share(all->clean.sanitized, all));
        cnn_json_number(&json, "flagged", share(all->clean.flagged, all));
    }
    if (s->attack >= 0) {
        cnn_json_string(&json, "attack", options.method == CNN_ATTACK_PGD ? "pgd" : "fgsm");
        cnn_json_number(&json, "eps", options.eps);
        cnn_json_bool(&json, "attack_sanitized", s->attack_sanitized);
        cnn_json_number(&json, "attacked_accuracy", share(all->attacked.right, all));
        cnn_json_number(&json, "images_per_s", (double)all->images / all->seconds);
    }
    if (s->attack >= 0 && s->sanitize) {
        cnn_json_number(&json, "attacked_sanitized_accuracy", share(all->attacked.sanitized, all));
        cnn_json_number(&json, "attacked_flagged", share(all->attacked.flagged, all));
    }
    cnn_json_end(&json);
}

static void add_row(const infer_run *run, const measured *all, const char *name, const row *r, cnn_table *table)
{
    cnn_table_cell(table, "%s", name);
    cnn_table_cell(table, "%.2f %%", 100 * share(r->right, all));
    if (!run->settings->sanitize)
        return;
    cnn_table_cell(table, "%.2f %%", 100 * share(r->sanitized, all));
    cnn_table_cell(table, "%.2f %%", 100 * share(r->flagged, all));
}

static cnn_status print_table(const infer_run *run, const cnn_dataset *data, const measured *all)
{
    const cnn_attack_options options = options_of(run);
    char name[64];
    cnn_table table;
    printf("%s: right answers to %lld %s %s images\n", run->path, (long long)all->images, cnn_dataset_name(data->id),
           run->settings->held_out ? "held-out" : "test");
    cnn_table_begin(&table, run->settings->sanitize ? "<images|>as they are|>sanitized|>flagged" : "<images|>right");
    add_row(run, all, "clean", &all->clean, &table);
    if (run->settings->attack >= 0) {
        snprintf(name, sizeof name, "%s, eps %g%s", options.method == CNN_ATTACK_PGD ? "pgd" : "fgsm", options.eps,
                 run->settings->attack_sanitized ? ", sanitized" : "");
        add_row(run, all, name, &all->attacked, &table);
    }
    return cnn_table_end(&table, stdout);
}

cnn_status infer_attack(infer_run *run)
{
    cnn_status status = CNN_OK;
    cnn_dataset *data = NULL;
    uint8_t *images = NULL;
    measured all = {0};
    const int wanted = run->settings->attack >= 0 ? run->settings->images : 0;
    CNN_TRY(infer_load_test_set(run, &data));
    all.images = wanted && wanted < data->count ? wanted : data->count;
    images = cnn_calloc((size_t)all.images, infer_image_bytes(run));
    if (!images)
        CNN_TRY(CNN_ERR_MEMORY);
    memcpy(images, data->images, (size_t)all.images * infer_image_bytes(run));
    CNN_TRY(measure(run, images, data->labels, all.images, &all.clean));
    if (run->settings->attack >= 0)
        CNN_TRY(attack(run, data, images, &all));
    if (run->cli->common.json)
        print_json(run, data, &all);
    else
        CNN_TRY(print_table(run, data, &all));
out:
    free(images);
    cnn_dataset_free(data);
    return status;
}
