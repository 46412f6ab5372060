/* Names and shapes of parameters as PyTorch has them. */
#include "core/torch_names.h"

#include "core/layers.h"

const char *cnn_torch_role_name(cnn_param_role role)
{
    static const char *const names[CNN_PARAM_STORED] = {"weight", "bias",         "weight",
                                                        "bias",   "running_mean", "running_var"};
    return names[role];
}

int cnn_torch_dims(const cnn_node *node, cnn_param_role role, int64_t dims[4])
{
    const cnn_tensor_desc *desc = &node->param[role].desc;
    if (role != CNN_PARAM_WEIGHT) {
        dims[0] = desc->c;
        return 1;
    }
    dims[0] = desc->n;
    dims[1] = desc->c;
    dims[2] = desc->h;
    dims[3] = desc->w;
    if (node->type->id != CNN_LAYER_LINEAR)
        return 4;
    dims[1] *= dims[2] * dims[3];
    return 2;
}
