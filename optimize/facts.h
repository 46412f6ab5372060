/* What a report tells of a run beside its account: measured once, then written as HTML, as JSON, and in words. */
#ifndef CNN_OPTIMIZE_FACTS_H
#define CNN_OPTIMIZE_FACTS_H

#include "core/memory.h"
#include "optimize/front.h"
#include "optimize/histogram.h"
#include "optimize/job.h"
#include "optimize/sensitivity.h"

enum {
    OPT_MOST_PICTURES = 24,
    OPT_MOST_TRIALS = 3,
    OPT_TRIAL_IMAGES = 320,  /* of the validation images; whole batches */
    OPT_PRUNE_PER_CENT = 50, /* what layers are pruned by for comparison when the run prunes nothing */
    OPT_DEVICE_BYTES = 128
};

/* A model that could be chosen: one after each pass, or those that a search tried, the given one before them. */
typedef struct opt_point {
    char name[64];
    char label[16]; /* in charts: "1" */
    bool chosen;
    double share;        /* removed, of the given model; NaN: of a pass */
    double drop_at_most; /* accuracy that a search promises not to lose more than, a fraction of 1; NaN: of a pass */
    double accuracy;
    int64_t file_bytes, macs;
    double ms_per_image;
} opt_point;

/* Of account->layers with the same number. */
typedef struct opt_layer_facts {
    cnn_tensor_desc weight_before, weight; /* [K,R,S,C] */
    int64_t bytes_before, bytes;           /* in the files */
    cnn_histogram before, after;           /* of one limit; batch norms are folded into both */
    cnn_effect effect[OPT_MOST_TRIALS];
} opt_layer_facts;

/* A picture that the model answers otherwise than before. */
typedef struct opt_picture {
    int32_t image;            /* number in the training images */
    int label;                /* what it is */
    int before, after;        /* answers ... */
    double p_before, p_after; /* ... and the probability that each model gives to its own */
    uint8_t *png;             /* NULL when the images have neither 1 nor 3 channels; free() */
    size_t png_bytes;
} opt_picture;

typedef struct opt_trial {
    char key[32];  /* "int8_weights" */
    char name[64]; /* "weights in 8 bits" */
} opt_trial;

typedef struct opt_facts {
    char *command;  /* as it was typed, quoted for a shell */
    char model[64]; /* "lenet5" */
    char data[64];  /* "mnist" */
    char device[OPT_DEVICE_BYTES];

    opt_point *points; /* [point_count] */
    int point_count;

    int64_t other_bytes_before, other_bytes; /* of the files: the graph, batch norms, names, checksums, alignment */
    opt_layer_facts *layers;                 /* [account->layer_count] */

    /* On the validation images; none: 0 images. */
    int32_t images, classes;
    char **class_names;                      /* [classes] */
    int32_t *confusion_before, *confusion;   /* [classes][classes]: what it is, what was answered */
    int32_t broken, mended, other;           /* answers that changed from right to wrong, from wrong to right, from one
                                                wrong one to another */
    opt_picture pictures[OPT_MOST_PICTURES]; /* of these, in that order, the surest new answers first */
    int picture_count;
    int32_t height, width; /* of the pictures */

    /* Sensitivity of the model as it was given. */
    opt_trial trials[OPT_MOST_TRIALS];
    int trial_count;
    int32_t trial_images, trial_right;

    cnn_text explanation;
} opt_facts;

/* The share that the model was pruned by, by --prune, by the search that chose it, or as --keep came out; 0: not at
 * all.
 */
static inline double opt_pruned_share(const opt_settings *settings, const opt_account *account)
{
    if (settings->keep) {
        double before = 0, after = 0;
        for (int i = 0; i + 1 < account->layer_count; i++) {
            before += account->layers[i].channels_before;
            after += account->layers[i].channels;
        }
        return before > 0 ? 1 - after / before : 0;
    }
    return account->front ? account->front->visits[account->chosen].share : settings->prune;
}

/* Whether the settings ask for what needs facts. */
bool opt_facts_wanted(const opt_settings *settings);

/* Fills what two models answer to the validation images, and draws the pictures (optimize/facts_answers.c). Both fail
 * like all else. `watch` hears the images that went through a network. */
cnn_status opt_facts_answers(opt_job *job, cnn_measure_fn progress, void *watch);

/* Keeps the model as it is given, in job->given. */
cnn_status opt_facts_begin(opt_job *job);

/* Measures everything, when the model is what it will be and the account is complete: account->facts. */
cnn_status opt_facts_end(opt_job *job);

void opt_facts_free(opt_facts *facts);

/* Appends one paragraph in plain words: what was removed, what suffered most, what to try next (optimize/explain.c). */
void opt_explain(const opt_settings *settings, const opt_account *account, const opt_facts *facts, cnn_text *text);

/* What cnn-opt --json prints: the account. */
void opt_account_json(const opt_settings *settings, const opt_account *account, FILE *out);

/* The two forms of a report: the account and the facts. */
cnn_status opt_report_html(const opt_settings *settings, const opt_account *account, cnn_text *text);
cnn_status opt_report_json(const opt_settings *settings, const opt_account *account, FILE *out);

#endif
