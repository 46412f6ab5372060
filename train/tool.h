/* What the files of cnn-train share: its settings, the run that works on them, and what it prints. */
#ifndef CNN_TRAIN_TOOL_H
#define CNN_TRAIN_TOOL_H

#include "cli/cli.h"
#include "cli/progress.h"
#include "cnn/train.h"
#include "train/log.h"

/* Values of train_settings.amp that are no index into the types of --amp, and of the loss scales that are no number. */
enum { TRAIN_AMP_OFF = -1, TRAIN_SCALE_DYNAMIC = 0, TRAIN_NOT_GIVEN = -1 };

typedef struct train_settings {
    const char *model;  /* or NULL: see train_network */
    const char *init;   /* a trained model to start from, or NULL */
    const char *freeze; /* layers, or NULL */
    const char *output;
    const char *image_size; /* of pictures: "32", "24x48"; NULL: not given */
    int prepare;            /* 0: digit, 1: resize, or TRAIN_NOT_GIVEN */
    int amp;                /* index into the types of --amp, or TRAIN_AMP_OFF */
    int batch, schedule;
    int optimizer;
    double epochs, decay;
    double rate;                             /* or TRAIN_NOT_GIVEN */
    double momentum, beta1, beta2, adam_eps; /* or TRAIN_NOT_GIVEN */
    double clip_norm;                        /* or TRAIN_NOT_GIVEN */
    double label_smoothing;
    double ema; /* decay, or TRAIN_NOT_GIVEN */
    bool nesterov;
    double warmup, lr_step, lr_gamma;     /* or TRAIN_NOT_GIVEN */
    double augment;                       /* share, or TRAIN_NOT_GIVEN */
    const char *augmentation;             /* or NULL */
    double adversarial, adversarial_step; /* or 0: not given */
    int adversarial_steps;                /* or 0: not given */
    double loss_scale;                    /* fixed; or TRAIN_SCALE_DYNAMIC, TRAIN_NOT_GIVEN */
    double loss_scale_start;              /* or TRAIN_NOT_GIVEN */
    const char *checkpoint;               /* or NULL: OUTPUT.ckpt */
    int64_t checkpoint_every;             /* steps; or 0: only after each epoch */
    bool resume, dump_program;
    const char *log;   /* or NULL: none */
    int64_t log_every; /* steps */
} train_settings;

/* What the progress callback works with. */
typedef struct train_run {
    cnn_cli *cli;
    const train_settings *set;
    cnn_model *model;
    cnn_model *init; /* --init, or NULL */
    const cnn_dataset *data;
    cnn_dtype storage;
    cnn_train_options options; /* of the run */
    cnn_progress bar;
    int64_t images; /* counters when this epoch began */
    double seconds;
    char *checkpoint; /* where it is kept; NULL: nowhere */
    train_log log;
    cnn_train_progress at; /* what the callback saw last */
    size_t file_bytes;     /* of the model saved last; 0: none yet */
    cnn_status failed;     /* in the callback ... */
    char failure[512];     /* ... and its sentence */
    int signal;            /* that ended training; 0: none */
} train_run;

/* ---- options.c ---- */

extern const cnn_tool train_tool;

/* The defaults, before the command line is parsed. */
void train_settings_init(train_settings *settings);

/* ---- settings.c ---- */

/* Refuses options that contradict each other. */
cnn_status train_settings_check(const train_settings *settings);

/* What activations and working weights are stored as. */
cnn_dtype train_settings_storage(const train_settings *settings);

/* The settings as the library takes them; the callback is the caller's to set. */
void train_settings_options(const train_settings *settings, const cnn_common *common, cnn_train_options *options);

/* What names the network: --model, else --init, else the standard. */
const char *train_network(const train_settings *settings);

/* Whether the network itself is that of --init. */
bool train_starts_as(const train_settings *settings);

/* ---- data.c ---- */

/* Loads training and test images; both are the caller's, also on failure. Pictures are made for the model where it is
 * somebody's own; a built-in network that does not suit the data is made anew for them, with parameters of zero. So
 * cnn_model_init comes after it. */
cnn_status train_load_data(train_run *run, cnn_dataset **data, cnn_dataset **test);

/* ---- start.c ---- */

/* Makes run->model without values, and loads run->init. Then, when the model suits the data, fills it. Both refuse a
 * --freeze that does not suit the model. */
cnn_status train_make_model(train_run *run);
cnn_status train_init_model(train_run *run, const cnn_dataset *data);

/* ---- report.c ---- */

/* Before the first step (of a run that goes on, too), after an epoch, and at the end; with --json the results go to
 * standard error, and at the end the object to standard output. */
void train_report_start(train_run *run, const cnn_train_progress *progress);
void train_report_epoch(train_run *run, const cnn_train_progress *progress);
void train_report_end(train_run *run, const cnn_train_result *result, const cnn_dataset *test, int64_t correct);

#endif
