/* Which training options make sense. */
#ifndef CNN_TRAIN_CHECK_H
#define CNN_TRAIN_CHECK_H

#include "cnn/train.h"

/* CNN_ERR_USAGE with a sentence about the first option that does not. */
cnn_status cnn_train_check_options(const cnn_train_options *options);

#endif
