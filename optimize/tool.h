/* What the files of cnn-opt share: its settings, and the account that the passes fill and the report prints. */
#ifndef CNN_OPTIMIZE_TOOL_H
#define CNN_OPTIMIZE_TOOL_H

#include "cli/cli.h"
#include "cnn/optimize.h"
#include "optimize/measure.h"

typedef enum opt_amp { OPT_AMP_OFF = -1, OPT_AMP_FP16, OPT_AMP_BF16 } opt_amp;

typedef enum opt_schedule { OPT_SCHEDULE_ONE_SHOT, OPT_SCHEDULE_ITERATIVE, OPT_SCHEDULE_CUBIC } opt_schedule;
typedef enum opt_structure {
    OPT_STRUCTURE_CHANNEL,
    OPT_STRUCTURE_BLOCK,
    OPT_STRUCTURE_WEIGHT,
    OPT_STRUCTURE_TWO_OF_FOUR,
    OPT_STRUCTURES
} opt_structure;

/* The share of weights that 2:4 takes. */
#define OPT_TWO_OF_FOUR_SHARE 0.5

typedef struct opt_settings {
    double prune;     /* 0: not given */
    const char *keep; /* exact widths; NULL: not given */
    bool global, int8;
    int pack;                 /* cnn_pack */
    int structure;            /* opt_structure; -1: not given */
    int schedule;             /* opt_schedule; -1: not given */
    int prune_steps;          /* 0: not given */
    double regrow;            /* share of what goes in a step that comes back; 0: not given */
    double augment;           /* share of images in fine-tuning; -1: not given */
    const char *augmentation; /* how they change; NULL: not given */
    double adversarial;       /* 0: not given */
    int criterion;            /* cnn_criterion; -1: not given */
    double finetune;          /* epochs; -1: not given */
    int amp;                  /* opt_amp */
    int optimizer;            /* cnn_optimizer */
    double learning_rate;     /* 0: not given */
    int rate_schedule;        /* cnn_schedule; -1: not given */
    bool nesterov;
    double weight_decay;
    double label_smoothing;
    int batch;
    bool all_images;
    double distill;      /* share of the loss; 0: not given */
    const char *teacher; /* a model's file; NULL: not given */
    double temperature;  /* 0: not given */
    const char *bits;    /* of weights, as --bits has it; NULL: not given */
    double average_bits; /* that it asks for; 0: it does not */
    int codebook;        /* bits of its numbers; 0: not given */
    int observer;        /* -1: not given */
    double percentile;   /* 0: not given */
    int bias_correction; /* 0: off, 1: on, -1: not given */
    int equalization;    /* likewise */
    int rounding;        /* cnn_rounding; -1: not given */
    double max_drop;     /* points of accuracy, of 100; -1: not given */
    int64_t target_size; /* bytes; 0: not given */
    double target_ms;    /* 0: not given */
    int64_t target_macs; /* 0: not given */
    int pick;            /* a point of a search; -1: not given */
    const char *search;  /* its folder; NULL: beside the output */
    const char *output;
    const char *report; /* a path that ends in .html or .json; NULL: none */
    bool explain;
    const char *keygen;     /* name of a key to make; NULL: none */
    const char *sign;       /* a secret key's file; NULL: none */
    const char *input;      /* of the operands, or from_torch */
    const char *network;    /* with from_torch */
    const char *from_torch; /* a .safetensors file; NULL: not given */
} opt_settings;

/* ---- options.c, checks.c ---- */

extern const cnn_tool opt_tool;
extern const char *const opt_schedule_names[], *const opt_structure_names[], *const opt_observer_names[];

/* The defaults, before the command line is parsed. */
void opt_settings_init(opt_settings *settings);

/* Refuses options that contradict each other or do nothing; sets what follows from others. */
cnn_status opt_settings_check(const cnn_cli *cli, opt_settings *settings);

static inline bool opt_prunes(const opt_settings *settings)
{
    return settings->prune > 0 || settings->keep;
}

/* Whether a layer's weights were rounded to few numbers without training on them: then these matter more than how
 * values are quantized. */
static inline bool opt_only_rounds(const opt_settings *settings, const cnn_quantize_row *row)
{
    const bool trained = settings->finetune > 0 || (settings->finetune < 0 && opt_prunes(settings));
    return row->bits < 5 && (settings->codebook || !trained);
}

/* The model after a pass; the first row is the model as it was given. */
typedef struct opt_stage {
    char name[64];
    cnn_measurement figures;
} opt_stage;

/* A convolution or linear layer, before and after. */
typedef struct opt_layer {
    char name[64];
    const char *type;
    int32_t channels_before, channels;
    int64_t weights_before, weights; /* values of weights and bias */
    int64_t elements, nonzeros;      /* of the weights without the bias, after */
    cnn_structure structure;         /* of them */
    int64_t macs_before, macs;
    cnn_quantize_row int8;
} opt_layer;

enum { OPT_MOST_STAGES = 8 };

typedef struct opt_account {
    opt_stage stages[OPT_MOST_STAGES];
    int stage_count;
    opt_layer *layers;
    int layer_count;
    double epochs;           /* of fine-tuning after --prune or --keep */
    int val_images;          /* accuracies are of these */
    double seconds;          /* all of the work */
    struct opt_front *front; /* points of a search; NULL: there was none */
    int chosen;              /* the point that was taken */
    struct opt_facts *facts; /* what reports and --explain tell beside it; NULL when nobody asks (optimize/facts.h) */
} opt_account;

/* ---- sign.c ---- */

/* Makes the key that the settings name. */
cnn_status opt_keygen(const cnn_cli *cli, const opt_settings *settings);

/* Whether the model is only signed; signs it, or what the passes wrote. */
bool opt_only_signs(const opt_settings *settings);
cnn_status opt_sign(cnn_cli *cli, const opt_settings *settings);

/* Runs the passes that the settings ask for and writes the model. Free the account with opt_account_free. */
cnn_status opt_run(cnn_cli *cli, const opt_settings *settings, opt_account *account);
void opt_account_free(opt_account *account);

/* Whether a path is that of a report in JSON; of one in HTML. */
bool opt_report_is_json(const char *path);
bool opt_report_is_html(const char *path);

/* Writes the report that the settings ask for. */
cnn_status opt_report_save(cnn_cli *cli, const opt_settings *settings, const opt_account *account);

/* Prints the account: tables and one sentence, or with --json one object. */
cnn_status opt_report(const cnn_cli *cli, const opt_settings *settings, const opt_account *account);

#endif
