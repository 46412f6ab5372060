/* Which training options make sense. */
#include "train/check.h"

#include "core/error.h"
#include "train/scaler.h"

#include <float.h>
#include <math.h>

static cnn_status check_schedule(const cnn_train_options *options)
{
    const double gamma = (double)options->lr_gamma;
    if ((unsigned)options->schedule >= CNN_SCHEDULE_COUNT)
        return cnn_error(CNN_ERR_USAGE, "schedule %d is not known", (int)options->schedule);
    if (isnan(options->warmup) || (options->warmup > 0.0 && options->warmup >= options->epochs))
        return cnn_error(CNN_ERR_USAGE, "a warm-up of %g epochs: it must be shorter than the run of %g",
                         options->warmup, options->epochs);
    if (options->schedule == CNN_SCHEDULE_STEP && !(options->lr_step > 0.0 && isfinite(options->lr_step)))
        return cnn_error(CNN_ERR_USAGE, "a step of %g epochs: a positive number is needed", options->lr_step);
    if (options->schedule == CNN_SCHEDULE_STEP && !(gamma > 0.0 && gamma <= 1.0))
        return cnn_error(CNN_ERR_USAGE, "a step to %g of the learning rate: it must be in (0, 1]", gamma);
    return CNN_OK;
}

/* What is minimized, and how gradients move the weights. */
static cnn_status check_optimizer(const cnn_train_options *options)
{
    const double momentum = (double)options->momentum, decay = (double)options->weight_decay;
    const double clip = (double)options->clip_norm, smoothing = (double)options->label_smoothing;
    if ((unsigned)options->optimizer >= CNN_OPTIMIZER_COUNT)
        return cnn_error(CNN_ERR_USAGE, "optimizer %d is not known", (int)options->optimizer);
    if (!(options->beta1 >= 0.0 && options->beta1 < 1.0 && options->beta2 >= 0.0 && options->beta2 < 1.0))
        return cnn_error(CNN_ERR_USAGE, "betas %g and %g: they must be in [0, 1)", options->beta1, options->beta2);
    if (!((double)FLT_MIN <= options->eps && options->eps <= 1.0))
        return cnn_error(CNN_ERR_USAGE, "Adam's eps %g: it must be above 0, and not above 1", options->eps);
    if (!(momentum >= 0.0 && momentum < 1.0))
        return cnn_error(CNN_ERR_USAGE, "momentum %g: it must be in [0, 1)", momentum);
    if (options->nesterov && momentum == 0.0)
        return cnn_error(CNN_ERR_USAGE, "Nesterov's step looks ahead along the momentum, which is 0");
    if (!isfinite(decay) || decay < 0.0)
        return cnn_error(CNN_ERR_USAGE, "weight decay %g: it must be 0 or more", decay);
    if (!isfinite(clip) || clip < 0.0)
        return cnn_error(CNN_ERR_USAGE, "gradients clipped at a norm of %g: it must be 0 (none) or more", clip);
    if (!(options->ema_decay >= 0.0 && options->ema_decay < 1.0))
        return cnn_error(CNN_ERR_USAGE, "a decay of %g of the average: it must be in [0, 1)", options->ema_decay);
    if (!(smoothing >= 0.0 && smoothing < 1.0))
        return cnn_error(CNN_ERR_USAGE, "label smoothing %g: it must be in [0, 1)", smoothing);
    return CNN_OK;
}

static cnn_status check_adversarial(const cnn_train_options *options)
{
    const double eps = options->adversarial, step = options->adversarial_step;
    if (!(eps >= 0.0 && eps <= 1.0) || !(step >= 0.0 && step <= 1.0) || (eps > 0.0 && options->adversarial_steps < 1))
        return cnn_error(CNN_ERR_USAGE,
                         "adversarial training within %g, %d steps of %g: changes are in [0, 1], steps from 1 on", eps,
                         options->adversarial_steps, step);
    if (eps > 0.0 && options->augment > 0.0)
        return cnn_error(CNN_ERR_USAGE, "adversarial training looks for changes of the images as they are: leave out "
                                        "augmentation");
    return CNN_OK;
}

cnn_status cnn_train_check_options(const cnn_train_options *options)
{
    cnn_status status = CNN_OK;
    const double rate = (double)options->learning_rate;
    if (options->batch < 1)
        return cnn_error(CNN_ERR_USAGE, "batch %d: it must be at least 1", options->batch);
    if (!isfinite(options->epochs) || options->epochs <= 0.0)
        return cnn_error(CNN_ERR_USAGE, "epochs %g: a positive number is needed", options->epochs);
    if (!isfinite(rate) || rate <= 0.0)
        return cnn_error(CNN_ERR_USAGE, "learning rate %g: a positive number is needed", rate);
    if (options->storage != CNN_F32 && options->storage != CNN_F16 && options->storage != CNN_BF16)
        return cnn_error(CNN_ERR_USAGE, "training stores values in f32, f16 or bf16, not in %s",
                         cnn_dtype_name(options->storage));
    if (options->checkpoint_every < 0 || (options->resume && !options->checkpoint))
        return cnn_error(CNN_ERR_USAGE, "going on after an interruption needs the name of a checkpoint, and a number "
                                        "of steps between checkpoints is not negative");
    if (options->edit && (options->edits < 1 || !(options->edit_span > 0.0 && options->edit_span <= 1.0) ||
                          options->ema_decay > 0.0 || options->checkpoint))
        return cnn_error(CNN_ERR_USAGE, "a model that is edited while it trains has neither averaged weights nor a "
                                        "checkpoint, and is edited at least once within the run");
    CNN_TRY(check_adversarial(options));
    CNN_TRY(check_optimizer(options));
    CNN_TRY(check_schedule(options));
    CNN_TRY(cnn_scaler_check(options));
out:
    return status;
}
