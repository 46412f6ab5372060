/* One run of cnn-opt inside: what the files that do its passes share. */
#ifndef CNN_OPTIMIZE_JOB_H
#define CNN_OPTIMIZE_JOB_H

#include "cnn/train.h"
#include "core/model.h"
#include "optimize/tool.h"

/* What a run works on. */
typedef struct opt_job {
    cnn_cli *cli;
    const opt_settings *settings;
    cnn_model *model;
    cnn_dataset *data; /* the training images; the split is of these */
    cnn_split split;
    opt_account *account;
    cnn_model *teacher;                        /* for --distill: the model as it was given, or --teacher; else NULL */
    float *answers;                            /* of the teacher, once it was asked */
    double augment;                            /* share of the images that fine-tuning changes ... */
    char augmentation[CNN_AUGMENTATION_BYTES]; /* ... and how; "": as suits the data */
    cnn_model *given;                          /* as it was before any pass; NULL unless facts are wanted */
} opt_job;

/* Notes the layers as they are before any pass. */
cnn_status opt_account_begin(opt_job *job);

/* Measures the model as it is now and adds that to the account as a stage with this name. */
cnn_status opt_measure(opt_job *job, const char *format, ...) CNN_PRINTF(2, 3);

/* Completes the layers with what they are at the end. Rows are those of cnn_quantize, if it ran. */
void opt_account_end(opt_job *job, const cnn_quantize_row *rows, int row_count);

/* Folds the batch norms away. Only INT8 needs that; elsewhere one that cannot be folded stays. */
cnn_status opt_fold(opt_job *job, bool *folded);

/* Takes units out of a folded model that pruning of single weights has left without any. */
cnn_status opt_remove_dead(opt_job *job);

/* Calibrates and makes the model INT8. Rows may be NULL; free() them. */
cnn_status opt_quantize(opt_job *job, cnn_quantize_row **rows, int *row_count);

/* Writes the output. */
cnn_status opt_save(opt_job *job);

/* Searches for the model that the settings' goals ask for, and writes it (optimize/explore.c). */
bool opt_has_goal(const opt_settings *settings);
cnn_status opt_explore(opt_job *job);

/* Makes a model whose file has at most target_size bytes out of single weights of few levels, and writes it
 * (optimize/squeeze.c). */
bool opt_squeezes(const opt_settings *settings);
cnn_status opt_squeeze(opt_job *job);

/* Whether nothing but the kind of file is to change; doing that (optimize/convert.c). */
bool opt_converts(const opt_settings *settings);
cnn_status opt_convert(cnn_cli *cli, const opt_settings *settings);

/* Reads the model that the settings name. */
cnn_status opt_load(cnn_cli *cli, const opt_settings *settings, cnn_model **model);

/* Refuses exact widths that cannot be, before anything takes time. */
cnn_status opt_check_keep(const opt_job *job);

/* Prunes and fine-tunes for some epochs as the settings say, and measures. */
cnn_status opt_shrink(opt_job *job, double epochs);

/* The opt_structure that they ask for, channels unless they say so. */
int opt_structure_of(const opt_settings *settings);

/* What prunes as the settings say, and of what it removes a share: "channels". */
typedef cnn_status (*opt_prune_fn)(cnn_model *model, const cnn_prune_options *options, cnn_prune_result *result);
const char *opt_structure_name(int structure); /* as --structure has it; "none" below 0 */
opt_prune_fn opt_prune_function(opt_structure structure);
const char *opt_prune_unit(const opt_settings *settings);

/* Whether there is any; and for how many epochs --prune and --keep do, of a model as it was given. */
bool opt_fine_tunes(const opt_settings *settings);
double opt_epochs(const opt_settings *settings, const cnn_model *given, const cnn_dataset *data);

/* Trains for some epochs, then measures. */
cnn_status opt_finetune(opt_job *job, double epochs);

/* The same in two halves, without measuring: options as the settings say, and a run with them under a label. */
void opt_train_options(opt_job *job, double epochs, cnn_train_options *options);
cnn_status opt_train(opt_job *job, cnn_train_options *options, const char *label);

/* Refuses options of the quantizer that do not go together; reads the average of --bits (optimize/bits.c). */
cnn_status opt_check_quantizer(opt_settings *settings);

/* --bits. Set gives the model the
 * widths of a list; choose finds those of an average, once, before weights are put on a grid or quantized. Describe
 * writes what INT8 is going to be: "INT8, weights of 3 bits". */
cnn_status opt_set_bits(opt_job *job);
cnn_status opt_choose_bits(opt_job *job);
void opt_describe_bits(const opt_job *job, char *text, size_t bytes);

/* Weights other than 0. */
int64_t opt_live_weights(const cnn_model *model);

#endif
