/* How a network is trained on after pruning has taken something from it. */
#include "cnn/optimize.h"
#include "core/model.h"

#include <math.h>

/* Small networks need more epochs, and have the time: what one epoch of a network of EPOCH_MACS takes, but at most
 * MOST_EPOCHS. */
double cnn_finetune_epochs(const cnn_model *given)
{
    enum { MOST_EPOCHS = 10 };
    const double epoch_macs = 150e6, fit = floor(epoch_macs / (double)(cnn_model_macs(given) + 1));
    return fit < 1 ? 1 : fit > MOST_EPOCHS ? MOST_EPOCHS : fit;
}

void cnn_finetune_options_init(cnn_train_options *options, const cnn_model *given, const cnn_dataset *data)
{
    cnn_train_options_init(options);
    options->epochs = cnn_finetune_epochs(given);
    options->schedule = CNN_SCHEDULE_COSINE;
    if (given->dataset != data->id)
        return;
    options->augment = given->augment;
    options->augmentation = given->augmentation[0] ? given->augmentation : NULL;
}
