/* The table of optimizers. */
#include "core/optimizers.h"

#define OPTIMIZERS(ROW)                         \
    ROW(SGD, "sgd", CNN_OP_SGD, false, false)   \
    ROW(ADAM, "adam", CNN_OP_ADAM, true, false) \
    ROW(ADAMW, "adamw", CNN_OP_ADAM, true, true)

#define NAME_ROW(id, name, op, squares, decoupled) [CNN_OPTIMIZER_##id] = (name),
const char *const cnn_optimizer_names[] = {OPTIMIZERS(NAME_ROW) NULL};

#define INFO_ROW(id, name, op, squares, decoupled) [CNN_OPTIMIZER_##id] = {op, squares, decoupled},
static const cnn_optimizer_info infos[CNN_OPTIMIZER_COUNT] = {OPTIMIZERS(INFO_ROW)};

const cnn_optimizer_info *cnn_optimizer_get(cnn_optimizer optimizer)
{
    return &infos[optimizer];
}
