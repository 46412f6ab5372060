/* What a training run is: everything that its result depends on, as names and values. Two runs with the same facts
 * give the same bits. */
#ifndef CNN_TRAIN_FACTS_H
#define CNN_TRAIN_FACTS_H

#include "train/checkpoint.h"

/* The facts of a run that trains `model`, which nothing was changed in yet, in `session` with `options`. */
cnn_status cnn_facts_of_run(const cnn_model *model, const cnn_dataset *data, const cnn_train_options *options,
                            const cnn_session *session, cnn_facts *facts);

/* Refuses to go on when the facts of the checkpoint `path` are not those of the run: CNN_ERR_SHAPE, with a sentence
 * that names the first difference, both values, and what to do. */
cnn_status cnn_facts_compare(const cnn_facts *checkpoint, const cnn_facts *run, const char *path);

/* The same for the description of the network, by the first line that differs. */
cnn_status cnn_facts_compare_models(const cnn_model *checkpoint, const cnn_model *run, const char *path);

#endif
