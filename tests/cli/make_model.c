/* For the command-line tests: writes a model with fresh weights, without training.
 *
 *     cli_make_model NAME|FILE.cfg DATASET FILE.cnn      DATASET: mnist, fashion-mnist, synth, none */
#include "core/model.h"

#include <stdio.h>
#include <string.h>

static cnn_dataset_id dataset_id(const char *name)
{
    for (cnn_dataset_id id = CNN_DATASET_MNIST; id <= CNN_DATASET_PICTURES; id++)
        if (cnn_dataset_name(id) && strcmp(cnn_dataset_name(id), name) == 0)
            return id;
    return CNN_DATASET_NONE;
}

int main(int argc, char **argv)
{
    cnn_model *model;
    if (argc != 4)
        return 2;
    cnn_status status = cnn_model_create(argv[1], &model);
    if (status == CNN_OK) {
        cnn_model_init(model, 1);
        model->dataset = dataset_id(argv[2]);
        status = cnn_model_save(model, argv[3], NULL);
        cnn_model_free(model);
    }
    if (status != CNN_OK)
        fprintf(stderr, "cli_make_model: %s\n", cnn_last_error());
    return status != CNN_OK;
}
