/* Shapes of what each layer type makes and of its parameters, and its MACs. */
#include "core/layer_parts.h"

#include "core/error.h"

static void set_param(cnn_node *node, cnn_param_role role, cnn_tensor_desc desc)
{
    node->param[role].desc = desc;
}

/* Sets the height and width of what a window gives. */
static cnn_status set_sides(const cnn_tensor_desc *in, int32_t kernel, int32_t stride, int32_t pad,
                            cnn_tensor_desc *out)
{
    out->h = cnn_window_count(in->h, kernel, stride, pad);
    out->w = cnn_window_count(in->w, kernel, stride, pad);
    if (out->h < 1 || out->w < 1)
        return cnn_error(CNN_ERR_SHAPE, "a %dx%d window does not fit its input of %dx%d (pad %d); use a smaller kernel",
                         kernel, kernel, in->h, in->w, pad);
    return CNN_OK;
}

cnn_status cnn_layer_infer_input(cnn_node *node, const cnn_tensor_desc *in)
{
    (void)in;
    node->out =
        cnn_desc(CNN_F32, 1, cnn_node_int(node, "height"), cnn_node_int(node, "width"), cnn_node_int(node, "channels"));
    return CNN_OK;
}

static void set_gemm_params(cnn_node *node, int32_t out, int32_t h, int32_t w, int32_t c)
{
    bool quantized = node->param[CNN_PARAM_WEIGHT].desc.dtype == CNN_I8;
    set_param(node, CNN_PARAM_WEIGHT, cnn_desc(quantized ? CNN_I8 : CNN_F32, out, h, w, c));
    if (cnn_node_int(node, "bias"))
        set_param(node, CNN_PARAM_BIAS, cnn_desc_vector(quantized ? CNN_I32 : CNN_F32, out));
    if (node->param[CNN_PARAM_STEP].data)
        set_param(node, CNN_PARAM_STEP, cnn_desc_vector(CNN_F32, 1));
}

cnn_status cnn_layer_infer_conv(cnn_node *node, const cnn_tensor_desc *in)
{
    int32_t out = cnn_node_int(node, "out"), kernel = cnn_node_int(node, "kernel"), groups = cnn_node_groups(node);
    if (in->c % groups != 0 || out % groups != 0)
        return cnn_error(CNN_ERR_SHAPE, "its %d groups do not divide %d input channels and %d outputs", groups, in->c,
                         out);
    node->out = cnn_desc(CNN_F32, 1, 0, 0, out);
    cnn_status status = set_sides(in, kernel, cnn_node_int(node, "stride"), cnn_node_int(node, "pad"), &node->out);
    if (status == CNN_OK)
        set_gemm_params(node, out, kernel, kernel, in->c / groups);
    return status;
}

cnn_status cnn_layer_infer_linear(cnn_node *node, const cnn_tensor_desc *in)
{
    int32_t out = cnn_node_int(node, "out");
    node->out = cnn_desc(CNN_F32, 1, 1, 1, out);
    set_gemm_params(node, out, in->h, in->w, in->c);
    return CNN_OK;
}

cnn_status cnn_layer_infer_bn(cnn_node *node, const cnn_tensor_desc *in)
{
    node->out = *in;
    for (int role = CNN_PARAM_GAMMA; role <= CNN_PARAM_RUNNING_VAR; role++)
        set_param(node, (cnn_param_role)role, cnn_desc_vector(CNN_F32, in->c));
    return CNN_OK;
}

cnn_status cnn_layer_infer_same(cnn_node *node, const cnn_tensor_desc *in)
{
    node->out = *in;
    return CNN_OK;
}

int32_t cnn_layer_pool_stride(const cnn_node *node)
{
    int32_t stride = cnn_node_int(node, "stride");
    return stride ? stride : cnn_node_int(node, "kernel");
}

cnn_status cnn_layer_infer_maxpool(cnn_node *node, const cnn_tensor_desc *in)
{
    const int32_t kernel = cnn_node_int(node, "kernel"), pad = cnn_node_int(node, "pad");
    if (pad >= kernel)
        return cnn_error(CNN_ERR_SHAPE, "its pad of %d leaves no pixel in a window of %d; it must be smaller", pad,
                         kernel);
    node->out = *in;
    return set_sides(in, kernel, cnn_layer_pool_stride(node), pad, &node->out);
}

cnn_status cnn_layer_infer_pool(cnn_node *node, const cnn_tensor_desc *in)
{
    node->out = *in;
    return set_sides(in, cnn_node_int(node, "kernel"), cnn_layer_pool_stride(node), 0, &node->out);
}

/* The sum of a window's int8 values and the count of its pixels fit 32 bits, and a float holds the count. */
enum { MOST_AVERAGED = 1 << 24 };

cnn_status cnn_layer_infer_globalavgpool(cnn_node *node, const cnn_tensor_desc *in)
{
    if ((int64_t)in->h * in->w > MOST_AVERAGED)
        return cnn_error(CNN_ERR_SHAPE, "its input of %dx%d has more than %d pixels to average; pool it before", in->h,
                         in->w, MOST_AVERAGED);
    node->out = *in;
    node->out.h = node->out.w = 1;
    return CNN_OK;
}

cnn_status cnn_layer_infer_add(cnn_node *node, const cnn_tensor_desc *in)
{
    if (in[0].h != in[1].h || in[0].w != in[1].w || in[0].c != in[1].c)
        return cnn_error(CNN_ERR_SHAPE, "its inputs are %dx%dx%d and %dx%dx%d; an add needs equal shapes", in[0].h,
                         in[0].w, in[0].c, in[1].h, in[1].w, in[1].c);
    node->out = in[0];
    return CNN_OK;
}

cnn_status cnn_layer_infer_concat(cnn_node *node, const cnn_tensor_desc *in)
{
    int64_t channels = 0;
    for (int i = 0; i < node->input_count; i++) {
        if (in[i].h != in[0].h || in[i].w != in[0].w)
            return cnn_error(CNN_ERR_SHAPE, "its inputs have %dx%d and %dx%d pixels; a concat needs as many of each",
                             in[0].h, in[0].w, in[i].h, in[i].w);
        channels += in[i].c;
    }
    if (channels > CNN_MAX_CHANNELS)
        return cnn_error(CNN_ERR_SHAPE, "its inputs have %lld channels together; at most %d can", (long long)channels,
                         CNN_MAX_CHANNELS);
    node->out = in[0];
    node->out.c = node->out.c_pad = (int32_t)channels;
    return CNN_OK;
}

int64_t cnn_layer_macs_gemm(const cnn_node *node, const cnn_tensor_desc *in)
{
    (void)in;
    return cnn_desc_elements(&node->param[CNN_PARAM_WEIGHT].desc) * node->out.h * node->out.w;
}
