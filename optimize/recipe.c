/* How a network is trained on after pruning has taken something from it. */
#include "cnn/optimize.h"
#include "core/model.h"

#include <math.h>

/* Small networks need more epochs, and have the time: what one epoch of a network of epoch_macs takes, but at most
 * MOST_EPOCHS. An epoch of a few hundred images is too few updates to recover: then as many as make ENOUGH_UPDATES. */
double cnn_finetune_epochs(const cnn_model *given, const cnn_dataset *data)
{
    enum { MOST_EPOCHS = 10, ENOUGH_UPDATES = 400, BATCH = 64, MOST_OF_FEW = 100 };
    const double epoch_macs = 150e6, fit = floor(epoch_macs / (double)(cnn_model_macs(given) + 1));
    const double updates = ceil(0.9 * data->count / BATCH); /* of an epoch; a tenth is held out */
    const double enough = fmin(ceil(ENOUGH_UPDATES / fmax(updates, 1)), MOST_OF_FEW);
    return fmax(fmax(fmin(fit, MOST_EPOCHS), 1), enough);
}

void cnn_finetune_options_init(cnn_train_options *options, const cnn_model *given, const cnn_dataset *data)
{
    cnn_train_options_init(options);
    options->epochs = cnn_finetune_epochs(given, data);
    options->schedule = CNN_SCHEDULE_COSINE;
    if (given->dataset != data->id)
        return;
    options->augment = given->augment;
    options->augmentation = given->augmentation[0] ? given->augmentation : NULL;
}
