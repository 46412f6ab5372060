/* What single options of cnn-opt cannot tell: those that contradict each other, or do nothing alone. */
#include "optimize/job.h"

#include "cli/model_files.h"
#include "core/error.h"
#include "core/optimizers.h"

#include <string.h>

/* 2:4 knows one share and one step. Sets that share. */
static cnn_status check_two_of_four(opt_settings *settings)
{
    cnn_status status = CNN_OK;
    if (settings->structure != OPT_STRUCTURE_TWO_OF_FOUR)
        return CNN_OK;
    if (opt_has_goal(settings))
        CNN_FAIL(CNN_ERR_USAGE, "a search removes more and more, and 2:4 is always half of the weights: take "
                                "--structure channel, block or weight");
    if (settings->prune > 0 && settings->prune != OPT_TWO_OF_FOUR_SHARE)
        CNN_FAIL(CNN_ERR_USAGE, "--structure 2:4 always takes half of the weights: leave out --prune %g",
                 settings->prune);
    if (settings->global || settings->schedule > OPT_SCHEDULE_ONE_SHOT)
        CNN_FAIL(CNN_ERR_USAGE, "--structure 2:4 takes 2 of every 4 weights at once: leave out %s%s",
                 settings->global ? "--global" : "--prune-schedule ",
                 settings->global ? "" : opt_schedule_names[settings->schedule]);
    settings->prune = OPT_TWO_OF_FOUR_SHARE;
out:
    return status;
}

/* Exact widths are of channels, in one step. Sets the criterion. */
static cnn_status check_keep(opt_settings *settings)
{
    cnn_status status = CNN_OK;
    if (!settings->keep)
        return CNN_OK;
    const char *other = settings->prune > 0                           ? "--prune"
                        : settings->global                            ? "--global"
                        : settings->structure > OPT_STRUCTURE_CHANNEL ? "--structure"
                        : settings->schedule > OPT_SCHEDULE_ONE_SHOT  ? "--prune-schedule"
                        : settings->prune_steps > 0                   ? "--prune-steps"
                        : settings->max_drop >= 0                     ? "--max-drop"
                        : settings->target_size > 0                   ? "--target-size"
                        : settings->target_ms > 0                     ? "--target-ms"
                        : settings->target_macs > 0                   ? "--target-macs"
                        : settings->pick >= 0                         ? "--pick"
                                                                      : NULL;
    if (other)
        CNN_FAIL(CNN_ERR_USAGE, "--keep says which layers keep how many channels: leave out %s", other);
    if (settings->criterion < 0)
        settings->criterion = CNN_CRITERION_TAYLOR;
out:
    return status;
}

/* Weights and a network come together. Sets the input. */
static cnn_status check_from_torch(const cnn_cli *cli, opt_settings *settings)
{
    cnn_status status = CNN_OK;
    if (!settings->from_torch && !settings->network)
        return CNN_OK;
    if (!settings->from_torch)
        CNN_FAIL(CNN_ERR_USAGE,
                 "--model %.100s names the network of --from-torch: give that with it, or the model alone",
                 settings->network);
    if (!settings->network)
        CNN_FAIL(CNN_ERR_USAGE, "--from-torch %.100s holds weights alone: give --model with it, a name or a .cfg file",
                 settings->from_torch);
    if (cli->operands.count > 0)
        CNN_FAIL(CNN_ERR_USAGE, "'%.100s' and --from-torch %.100s are two models: give one of them", settings->input,
                 settings->from_torch);
    if (!cnn_cli_is_weights(settings->from_torch))
        CNN_FAIL(CNN_ERR_USAGE, "--from-torch takes a .safetensors file, not '%.100s'", settings->from_torch);
    settings->input = settings->from_torch;
out:
    return status;
}

/* What only a run with passes could tell. */
static cnn_status check_conversion(const opt_settings *settings)
{
    if (settings->report || settings->explain)
        return cnn_error(CNN_ERR_USAGE,
                         "%s tells what was done to a model, and converting a file does nothing to it: give "
                         "--prune R, --int8, or both with it",
                         settings->report ? "--report" : "--explain");
    return CNN_OK;
}

/* What only fine-tuning reads. */
static cnn_status check_finetuning(const opt_settings *settings)
{
    cnn_status status = CNN_OK;
    const char *augments = settings->augment > 0 ? "--augment" : settings->augmentation ? "--augmentation" : NULL;
    if (augments && !opt_fine_tunes(settings))
        CNN_FAIL(CNN_ERR_USAGE, "%s changes images of fine-tuning, and there is none: give --finetune N with it",
                 augments);
    if (settings->adversarial > 0 && augments)
        CNN_FAIL(CNN_ERR_USAGE, "--adversarial looks for changes of the images as they are: leave out %s", augments);
    if (settings->adversarial > 0 && !opt_fine_tunes(settings))
        CNN_FAIL(CNN_ERR_USAGE, "--adversarial is for fine-tuning, and there is none: give --finetune N with it");
    if (settings->optimizer != CNN_OPTIMIZER_SGD && !opt_fine_tunes(settings))
        CNN_FAIL(CNN_ERR_USAGE, "--optimizer is for fine-tuning, and there is none: give --finetune N with it");
    const char *training = settings->rate_schedule >= 0 ? "--schedule"
                           : settings->nesterov         ? "--nesterov"
                           : settings->weight_decay > 0 ? "--weight-decay"
                                                        : NULL;
    const char *unlike_recipe = training;
    if (settings->optimizer != CNN_OPTIMIZER_SGD && settings->optimizer != CNN_OPTIMIZER_ADAM)
        unlike_recipe = "--optimizer";
    if (settings->criterion >= 0 && settings->criterion != CNN_CRITERION_LAMP)
        unlike_recipe = "--criterion";
    if (!training && settings->label_smoothing > 0)
        training = "--label-smoothing";
    if (training && !opt_fine_tunes(settings))
        CNN_FAIL(CNN_ERR_USAGE, "%s is for fine-tuning, and there is none: give --finetune N with it", training);
    if (settings->nesterov && settings->optimizer != CNN_OPTIMIZER_SGD)
        CNN_FAIL(CNN_ERR_USAGE, "--nesterov is for --optimizer sgd: leave one of them out");
    if (opt_squeezes(settings) && unlike_recipe)
        CNN_FAIL(CNN_ERR_USAGE, "--target-size with single weights of INT8 has a recipe of its own: leave out %s",
                 unlike_recipe);
    if (settings->all_images && !opt_fine_tunes(settings))
        CNN_FAIL(CNN_ERR_USAGE, "--all-images is for fine-tuning, and there is none: give --finetune N with it");
    if (settings->all_images && opt_has_goal(settings) && !opt_squeezes(settings))
        CNN_FAIL(CNN_ERR_USAGE, "a search decides by images that were not trained on: leave out --all-images");
    if (settings->distill > 0 && !opt_fine_tunes(settings))
        CNN_FAIL(CNN_ERR_USAGE, "--distill is for fine-tuning, and there is none: give --finetune N with it");
    if ((settings->temperature > 0 || settings->teacher) && !(settings->distill > 0))
        CNN_FAIL(CNN_ERR_USAGE, "%s is that of --distill: give --distill with it",
                 settings->teacher ? "--teacher" : "--temperature");
out:
    return status;
}

static cnn_status check_rest(const opt_settings *settings)
{
    cnn_status status = CNN_OK;
    const bool goal = opt_has_goal(settings);
    if (settings->pack != CNN_PACK_AUTO && cnn_cli_is_foreign(settings->output))
        CNN_FAIL(CNN_ERR_USAGE, "--pack is for .cnn files: leave it out, or name one with --output");
    if (opt_converts(settings))
        CNN_TRY(check_conversion(settings));
    else if (!opt_prunes(settings) && !settings->int8 && !goal && !settings->sign)
        CNN_FAIL(CNN_ERR_USAGE, "nothing to do: give --prune R (such as --prune 0.5), --int8, or both");
    if (settings->prune > 0 && goal)
        CNN_FAIL(CNN_ERR_USAGE, "--prune says how much to remove, and a search finds that out: leave one of them out");
    if (settings->search && !goal)
        CNN_FAIL(CNN_ERR_USAGE, "--search keeps the points of a search: give --max-drop, --target-size, --target-ms, "
                                "--target-macs or --pick with it");
    if (opt_squeezes(settings) && (settings->search || settings->target_ms > 0))
        CNN_FAIL(CNN_ERR_USAGE,
                 "--target-size with single weights of INT8 has a recipe of its own, without %s: leave out %s",
                 settings->search ? "a search" : "a clock",
                 settings->search ? "--search" : "--target-ms, or give --target-macs instead");
    if (goal && (settings->schedule >= 0 || settings->prune_steps > 0 || settings->global))
        CNN_FAIL(CNN_ERR_USAGE, "a search prunes step by step over all layers: leave out %s",
                 settings->schedule >= 0     ? "--prune-schedule"
                 : settings->prune_steps > 0 ? "--prune-steps"
                                             : "--global");
    if (settings->report && !opt_report_is_html(settings->report) && !opt_report_is_json(settings->report))
        CNN_FAIL(CNN_ERR_USAGE, "--report writes .html or .json; '%.200s' ends in neither", settings->report);
    if (settings->report && strcmp(settings->report, settings->output) == 0)
        CNN_FAIL(CNN_ERR_USAGE, "--report and --output name the same file, '%.200s'", settings->output);
    const char *how = settings->global            ? "--global"
                      : settings->schedule >= 0   ? "--prune-schedule"
                      : settings->prune_steps > 0 ? "--prune-steps"
                      : settings->structure >= 0  ? "--structure"
                      : settings->criterion >= 0  ? "--criterion"
                                                  : NULL;
    if (how && !opt_prunes(settings) && !goal)
        CNN_FAIL(CNN_ERR_USAGE, "%s says how to prune: give --prune R with it", how);
    if (settings->prune_steps > 0 && settings->schedule <= OPT_SCHEDULE_ONE_SHOT)
        CNN_FAIL(CNN_ERR_USAGE, "--prune-steps needs --prune-schedule iterative or cubic: one-shot has one step");
    if (settings->regrow > 0 && settings->schedule != OPT_SCHEDULE_CUBIC)
        CNN_FAIL(CNN_ERR_USAGE, "--regrow brings weights back while training goes on: give --prune-schedule cubic with "
                                "it, and --structure weight or block");
    if (settings->schedule == OPT_SCHEDULE_CUBIC && settings->structure <= OPT_STRUCTURE_CHANNEL)
        CNN_FAIL(CNN_ERR_USAGE, "--prune-schedule cubic prunes while training goes on, which channels cannot: give "
                                "--structure block or weight with it, or take iterative");
    if (settings->schedule > OPT_SCHEDULE_ONE_SHOT && settings->finetune == 0.0)
        CNN_FAIL(CNN_ERR_USAGE, "--prune-schedule %s fine-tunes between its steps: leave out --finetune 0",
                 opt_schedule_names[settings->schedule]);
    CNN_TRY(check_finetuning(settings));
    if (settings->structure > OPT_STRUCTURE_CHANNEL && settings->criterion == CNN_CRITERION_BN)
        CNN_FAIL(CNN_ERR_USAGE, "--criterion bn scores whole channels; with --structure %s take l1, taylor or random",
                 opt_structure_names[settings->structure]);
    if (settings->structure <= OPT_STRUCTURE_CHANNEL && settings->criterion == CNN_CRITERION_LAMP)
        CNN_FAIL(CNN_ERR_USAGE,
                 "--criterion lamp scores weights: give --structure weight, block or 2:4 with it, or take "
                 "another criterion for channels");
    if ((settings->observer >= 0 || settings->percentile > 0 || settings->bias_correction >= 0) && !settings->int8)
        CNN_FAIL(CNN_ERR_USAGE,
                 "--observer, --percentile and --bias-correction say how to quantize: give --int8 with them");
    if (settings->percentile > 0 && settings->observer >= 0 && settings->observer != CNN_OBSERVER_PERCENTILE &&
        settings->observer != CNN_OBSERVER_AUTO)
        CNN_FAIL(CNN_ERR_USAGE, "--percentile is of no use with --observer %s; leave one of them out",
                 opt_observer_names[settings->observer]);
out:
    return status;
}

/* What signs. */
static cnn_status check_signing(const cnn_cli *cli, const opt_settings *settings)
{
    if (settings->keygen &&
        (cli->operands.count > 0 || opt_prunes(settings) || settings->int8 || settings->sign || opt_has_goal(settings)))
        return cnn_error(CNN_ERR_USAGE, "--keygen makes a key and does nothing to a model: leave out the rest");
    if (settings->sign && cnn_cli_is_foreign(settings->output))
        return cnn_error(CNN_ERR_USAGE, "--sign is for .cnn files: leave it out, or name one with --output");
    if (opt_only_signs(settings) && (settings->pack != CNN_PACK_AUTO || settings->report || settings->explain))
        return cnn_error(CNN_ERR_USAGE,
                         "%s is for passes, and a file that is only signed keeps its bytes: leave it out",
                         settings->report    ? "--report"
                         : settings->explain ? "--explain"
                                             : "--pack");
    return CNN_OK;
}

cnn_status opt_settings_check(const cnn_cli *cli, opt_settings *settings)
{
    cnn_status status = CNN_OK;
    if (cli->operands.count > 0)
        settings->input = cli->operands.list[0];
    CNN_TRY(check_from_torch(cli, settings));
    CNN_TRY(check_signing(cli, settings));
    if (settings->keygen)
        goto out;
    CNN_TRY(check_keep(settings));
    CNN_TRY(check_two_of_four(settings));
    CNN_TRY(check_rest(settings));
    CNN_TRY(opt_check_quantizer(settings));
out:
    return status;
}
