/* The optimizers: how one step moves parameters along their gradients. */
#ifndef CNN_CORE_OPTIMIZERS_H
#define CNN_CORE_OPTIMIZERS_H

#include "cnn/session.h"

typedef struct cnn_optimizer_info {
    cnn_op op;            /* the update: DST2 is the memory MOMENTUM */
    bool squares;         /* VAR is the memory SQUARES */
    bool decoupled_decay; /* attribute of the op */
} cnn_optimizer_info;

/* The optimizer must be one. */
const cnn_optimizer_info *cnn_optimizer_get(cnn_optimizer optimizer);

/* Names in the order of cnn_optimizer, NULL after the last. */
extern const char *const cnn_optimizer_names[];

#endif
