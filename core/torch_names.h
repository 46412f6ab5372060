/* What PyTorch calls the parameters of a layer, and their shapes there. */
#ifndef CNN_CORE_TORCH_NAMES_H
#define CNN_CORE_TORCH_NAMES_H

#include "core/model.h"

/* "weight" for a layer's weights and a batch norm's gamma, "bias", "running_mean", "running_var". */
const char *cnn_torch_role_name(cnn_param_role role);

/* The dimensions of a parameter of `node` there; returns how many, 1 to 4. Values are channels first. */
int cnn_torch_dims(const cnn_node *node, cnn_param_role role, int64_t dims[4]);

#endif
