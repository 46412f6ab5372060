/* Training a model on a data set. */
#ifndef CNN_TRAIN_H
#define CNN_TRAIN_H

#include "cnn/dataset.h"
#include "cnn/model.h"
#include "cnn/session.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How the learning rate moves over the run; formulas in train/schedule.h. */
typedef enum cnn_schedule {
    CNN_SCHEDULE_CONSTANT,
    CNN_SCHEDULE_COSINE,    /* falls to 0 */
    CNN_SCHEDULE_STEP,      /* times lr_gamma every lr_step epochs */
    CNN_SCHEDULE_ONE_CYCLE, /* from 1/25 of the rate up to it during the warm-up, then down to 1/10000 */
    CNN_SCHEDULE_COUNT
} cnn_schedule;

/* What a callback sees. Counters of the run so far, what was done before a checkpoint included. */
typedef struct cnn_train_progress {
    const char *device;               /* "cpu: AMD EPYC 9B14, avx512vnni, 2 threads" */
    int32_t train_images, val_images; /* of an epoch; held out */
    const char *augmentation;         /* kinds and strengths in use, as cnn_train_options has them; NULL: none */
    int64_t images_in_all;            /* that the run trains on */
    bool begin;                       /* the call before the first step */
    bool resumed;                     /* this run goes on from a checkpoint */
    int32_t epoch;                    /* 1-based */
    int32_t whole_epochs;             /* trained, validated and reported */
    double epochs;                    /* of the run, fractions allowed */
    int64_t step, steps;              /* batches done and in all */
    int64_t images;                   /* trained on so far */
    double seconds;                   /* spent in training steps and augmentation, evaluation apart */
    double loss;           /* mean over this epoch so far, steps whose loss was not finite apart; NaN: none yet */
    double step_loss;      /* of the last step, or NaN */
    float learning_rate;   /* of the last update, or the first */
    float loss_scale;      /* now */
    int32_t skipped_steps; /* so far */
    bool epoch_done;       /* the two fields below are set, and the model holds the parameters of now */
    double val_accuracy;   /* fraction of 1; NaN when no images are held out */
    double val_loss;
} cnn_train_progress;

/* Return false to stop: cnn_train then returns CNN_ERR_CANCELLED with the model as it is. */
typedef bool (*cnn_train_fn)(void *context, const cnn_train_progress *progress);

/* Changes the model in the middle of a run, its masks included; `edit` counts from 0. */
typedef cnn_status (*cnn_train_edit_fn)(void *context, cnn_model *model, int edit);

typedef struct cnn_train_options {
    const char *device; /* "auto" */
    int batch;
    double epochs;
    cnn_optimizer optimizer;
    float learning_rate, weight_decay;
    float momentum;           /* of SGD */
    double beta1, beta2, eps; /* of Adam: cnn/ops.h */
    bool nesterov;            /* w -= lr*(g + momentum*v) instead of lr*v, v the momentum after this step */
    float clip_norm;          /* gradients of a larger Euclidean norm, over all parameters, are scaled to it; 0: none */
    double ema_decay;         /* in (0, 1): what is validated and handed out is the moving average of weights and BN
                                 statistics, average += (1 - d)*(value - average) after every update, d = min(ema_decay,
                                 (1 + t)/(10 + t)) with t updates before it; 0: no average */
    float label_smoothing;    /* share of the target that is spread evenly over all classes, in [0, 1) */
    cnn_schedule schedule;
    cnn_model *teacher;     /* distillation: the loss becomes (1 - distill) times the one of the labels and distill *
                               temperature^2 times the divergence from what the teacher answers, both softened by the
                               temperature (op LOSS in cnn/ops.h). It answers what the student sees, also where
                               augmentation changes images, which then costs its pass in every step (adversarial
                               training apart). It reads the same images and tells as many classes. NULL: none */
    float **answers;        /* without augmentation keeps what it says for further runs with the same teacher and data:
                               *answers is NULL before the first, then [count, classes] scores; free() it. NULL: each
                               run asks anew */
    float distill;          /* in (0, 1] with a teacher */
    float temperature;      /* positive */
    double warmup;          /* epochs in which the rate rises linearly; negative: the schedule's own, none or, of
                               one-cycle, 0.3 of the run */
    double lr_step;         /* CNN_SCHEDULE_STEP: epochs between drops ... */
    float lr_gamma;         /* ... and what remains after each, in (0, 1] */
    cnn_dtype storage;      /* CNN_F32, CNN_F16 or CNN_BF16: --amp */
    float loss_scale;       /* start of the dynamic scaler (f16), in [1, 2^24]; 0: 65536. f32 and bf16 use 1 */
    bool static_loss_scale; /* keep loss_scale where it is */
    bool tf32, autotune;    /* GPUs: as in cnn_session_options */
    /* The share of each epoch's images that is augmented, in [0,1]; kinds and strengths, "shift=2,rotate,serif", or
     * NULL for what suits the data. */
    double augment;
    const char *augmentation;
    /* Adversarial training: each step learns from images that `adversarial_steps` steps from a random place, within
     * `adversarial` a pixel (of its range from 0 to 1), have made as wrong as they could (cnn/robust.h: pgd). Not
     * together with augment. 0: none. */
    double adversarial;      /* in [0, 1] */
    double adversarial_step; /* change of a pixel in one step; 0: min(1.25, 2.5/steps) of `adversarial` */
    int adversarial_steps;   /* from 1 */
    bool all_images; /* the held-out images, too, are trained on: what is said of them then is no validation any more */
    /* Layers that training leaves exactly as they are, "conv1,bn1", or "all" for all but the last one with weights; a
     * frozen batch norm normalizes with its running statistics. NULL: none. */
    const char *freeze;
    uint64_t seed;         /* order of images, augmentation */
    cnn_train_fn progress; /* may be NULL; called before the first step, after every step and after every epoch */
    void *progress_context;
    /* Called `edits` times with the model of now, before evenly spread steps of the first edit_span of the run, from
     * the first step on; what it leaves goes back to the device. A shorter run than that gets the last ones only. Not
     * with ema_decay, nor with a checkpoint. NULL: none. */
    cnn_train_edit_fn edit;
    void *edit_context;
    int edits;
    double edit_span;         /* in (0, 1] */
    const char *checkpoint;   /* file that is kept for going on after an interruption; NULL: none */
    int64_t checkpoint_every; /* steps; 0: only at the end of each epoch */
    bool resume;              /* go on from `checkpoint`, when there is one */
} cnn_train_options;

typedef struct cnn_train_result {
    double loss;         /* mean of the last epoch */
    double val_accuracy; /* on the held-out split, after the last epoch */
    double epochs;
    double images_per_s;
    int64_t images;
    int32_t skipped_steps;
    float loss_scale_min, loss_scale_max;
    char first_overflow[64]; /* layer, "" when nothing overflowed */
} cnn_train_result;

/* Batch 64, lr 0.01, momentum 0.9, 10 epochs, constant (a step would be 0.1 every 3 epochs), f32, seed 1. */
CNN_API void cnn_train_options_init(cnn_train_options *options);

/* Which images are augmented, and how, follows from (seed, epoch, number of the image in the data) alone. Kinds with
 * the unit of their strength, which is the largest change, drawn evenly: shift (pixels), rotate (degrees), scale (share
 * of the size; half as much in the aspect), shear (pixels a row), elastic (pixels, root mean square), stroke (pixels by
 * which strokes get thinner or wider), blur (share of smoothing or sharpening), contrast (share), crop (whole pixels),
 * flip (share of images that are mirrored), cutout (side of an empty square), serif (share of handwritten 1s that get
 * flag and foot, and of 7s that get a bar). Without "=N" a kind has a standard strength. */

/* Trains `model` in place on the training part of `data` (the split stored in the model). The model must match the
 * data's shape and classes. Stops with CNN_ERR_NUMERIC, naming the layer, after 20 overflows in a row at the floor;
 * with a scale that does not move (f32, bf16, static) after as many skipped steps or when the loss is not finite. The
 * model then holds the parameters of the last whole epoch. `result` (or NULL) is set with CNN_OK and CNN_ERR_CANCELLED.
 *
 * A checkpoint is written after the callback of each epoch, the last one included, every checkpoint_every steps, and
 * when the callback asks to stop. It is the caller's to remove. With `resume` the same model, data and options go on
 * from it and end with the same bits as if nothing had happened; the first call of the callback then sees the
 * checkpoint's counters, and the model holds the parameters of the last whole epoch, if there is one. A checkpoint of
 * another run (CNN_ERR_SHAPE) or a damaged one (CNN_ERR_FORMAT) is refused, and no parameter is touched. */
CNN_API cnn_status cnn_train(cnn_model *model, const cnn_dataset *data, const cnn_train_options *options,
                             cnn_train_result *result);

#ifdef __cplusplus
}
#endif
#endif
