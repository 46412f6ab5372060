/* The float twin of an INT8 model. */
#include "core/model.h"

#include "cnn/quant.h"
#include "core/error.h"

static cnn_status dequantize_weight(const cnn_param *from, cnn_param *to)
{
    cnn_tensor_desc desc = from->desc;
    desc.dtype = CNN_F32;
    const cnn_status status = cnn_param_alloc(to, desc);
    if (status != CNN_OK)
        return status;
    const int64_t each = cnn_desc_elements(&desc) / desc.n;
    for (int32_t k = 0; k < desc.n; k++)
        for (int64_t i = k * each; i < (k + 1) * each; i++)
            ((float *)to->data)[i] = from->scale[k] * (float)((const int8_t *)from->data)[i];
    return CNN_OK;
}

static cnn_status dequantize_bias(const cnn_param *from, const float *scale, float s_in, cnn_param *to)
{
    cnn_tensor_desc desc = from->desc;
    desc.dtype = CNN_F32;
    const cnn_status status = cnn_param_alloc(to, desc);
    for (int64_t k = 0; status == CNN_OK && k < cnn_desc_elements(&desc); k++)
        ((float *)to->data)[k] = cnn_quant_logit_multiplier(s_in, scale[k]) * (float)((const int32_t *)from->data)[k];
    return status;
}

static cnn_status dequantize_node(const cnn_model *model, const cnn_node *from, cnn_node *to)
{
    cnn_status status = CNN_OK;
    const cnn_param *weight = &from->param[CNN_PARAM_WEIGHT], *bias = &from->param[CNN_PARAM_BIAS];
    to->out_scale = 0.0f;
    if (weight->desc.dtype != CNN_I8)
        return CNN_OK;
    cnn_param_free(&to->param[CNN_PARAM_WEIGHT]);
    CNN_TRY(dequantize_weight(weight, &to->param[CNN_PARAM_WEIGHT]));
    if (bias->desc.dtype == CNN_NONE)
        return CNN_OK;
    cnn_param_free(&to->param[CNN_PARAM_BIAS]);
    CNN_TRY(dequantize_bias(bias, weight->scale, model->nodes[from->input[0]].out_scale, &to->param[CNN_PARAM_BIAS]));
out:
    return status;
}

cnn_status cnn_model_dequantize(const cnn_model *model, cnn_model **twin)
{
    cnn_status status = CNN_OK;
    cnn_model *made = NULL;
    CNN_TRY(cnn_model_clone(model, &made));
    for (int i = 0; i < model->node_count; i++)
        CNN_TRY(dequantize_node(model, &model->nodes[i], &made->nodes[i]));
    *twin = made;
    made = NULL;
out:
    cnn_model_free(made);
    return status;
}
