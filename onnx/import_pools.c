/* Reading windows, and what pools with them: maxima and averages. */
#include "core/error.h"
#include "onnx/layers.h"

#include <string.h>

enum { MOST_WINDOW = 1 << 20 };

/* ---- Windows ---- */

/* Padding that keeps in/stride outputs, as far as it is the same on both sides. */
static bool same_padding(int64_t in, const cnn_onnx_window *w, int64_t *pad)
{
    const int64_t out = (in + w->stride - 1) / w->stride, all = (out - 1) * w->stride + w->kernel - in;
    *pad = all > 0 ? all / 2 : 0;
    return all <= 0 || all % 2 == 0;
}

static cnn_status read_padding(const cnn_onnx_node *node, const cnn_tensor_desc *in, cnn_onnx_window *w)
{
    const cnn_onnx_attribute *attribute = cnn_onnx_attribute_of(node, "auto_pad");
    char mode[16] = "NOTSET", shown[96];
    int64_t pads[4], vertical, horizontal;
    if (attribute && attribute->has_text && attribute->text.len > 0 && attribute->text.len < sizeof mode) {
        memcpy(mode, attribute->text.data, attribute->text.len);
        mode[attribute->text.len] = '\0';
    }
    cnn_status status = cnn_onnx_get_ints(node, "pads", 4, 0, pads);
    if (status != CNN_OK)
        return status;
    if (strncmp(mode, "SAME", 4) == 0) {
        if (!same_padding(in->h, w, &vertical) || !same_padding(in->w, w, &horizontal) || vertical != horizontal)
            return cnn_error(CNN_ERR_UNSUPPORTED,
                             "its auto_pad %s pads the sides unequally here; cnnkit pads all four "
                             "alike",
                             cnn_onnx_shown(mode, shown));
        w->pad = vertical;
        return CNN_OK;
    }
    w->pad = strcmp(mode, "VALID") == 0 ? 0 : pads[0];
    for (int i = 1; i < 4 && strcmp(mode, "VALID") != 0; i++)
        if (pads[i] != pads[0])
            return cnn_error(CNN_ERR_UNSUPPORTED,
                             "its pads are %lld, %lld, %lld, %lld; cnnkit pads all four sides alike",
                             (long long)pads[0], (long long)pads[1], (long long)pads[2], (long long)pads[3]);
    return CNN_OK;
}

cnn_status cnn_onnx_read_window(const cnn_onnx_node *node, const cnn_tensor_desc *in, const int64_t kernel[2],
                                cnn_onnx_window *w)
{
    cnn_status status = CNN_OK;
    int64_t sides[2], strides[2], dilations[2];
    CNN_TRY(cnn_onnx_get_ints(node, "kernel_shape", 2, 0, sides));
    for (int i = 0; i < 2; i++) {
        if (sides[i] == 0)
            sides[i] = kernel[i];
        if (kernel[i] != 0 && sides[i] != kernel[i])
            CNN_FAIL(CNN_ERR_FORMAT, "its kernel_shape is %lldx%lld, but its weights are %lldx%lld",
                     (long long)sides[0], (long long)sides[1], (long long)kernel[0], (long long)kernel[1]);
    }
    CNN_TRY(cnn_onnx_get_ints(node, "strides", 2, 1, strides));
    CNN_TRY(cnn_onnx_get_ints(node, "dilations", 2, 1, dilations));
    if (sides[0] != sides[1] || strides[0] != strides[1])
        CNN_FAIL(CNN_ERR_UNSUPPORTED,
                 "its kernel is %lldx%lld and its strides are %lldx%lld; cnnkit has square ones only",
                 (long long)sides[0], (long long)sides[1], (long long)strides[0], (long long)strides[1]);
    if (dilations[0] != 1 || dilations[1] != 1)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "its dilations are %lldx%lld; cnnkit has none", (long long)dilations[0],
                 (long long)dilations[1]);
    *w = (cnn_onnx_window){.kernel = sides[0], .stride = strides[0]};
    if (w->kernel < 1 || w->kernel > MOST_WINDOW || w->stride < 1 || w->stride > MOST_WINDOW)
        CNN_FAIL(CNN_ERR_FORMAT, "its kernel is %lld and its stride %lld; both must be from 1 to %d",
                 (long long)w->kernel, (long long)w->stride, MOST_WINDOW);
    CNN_TRY(read_padding(node, in, w));
out:
    return status;
}

/* ---- Pooling ---- */

/* A layer of square windows. */
static cnn_status read_pool(cnn_onnx_import *import, const cnn_onnx_node *node, int layer)
{
    cnn_status status = CNN_OK;
    cnn_onnx_value *value;
    cnn_onnx_window w;
    int64_t rounds_up;
    int made;
    CNN_TRY(cnn_onnx_spatial_of(import, node, 0, &value));
    CNN_TRY(cnn_onnx_get_int(node, "ceil_mode", 0, &rounds_up));
    const cnn_tensor_desc in = import->model->nodes[value->node].out;
    CNN_TRY(cnn_onnx_read_window(node, &in, (const int64_t[2]){0, 0}, &w));
    if (w.pad != 0 && layer != CNN_LAYER_MAXPOOL)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "its padding is %lld; cnnkit does not pad before it averages", (long long)w.pad);
    if (!import->ours && w.kernel == 1 && w.stride == 1 &&
        w.pad == 0) { /* as adaptive pooling to the size that is there */
        cnn_onnx_pass(import, node, value);
        goto out;
    }
    if (rounds_up && ((in.h + 2 * w.pad - w.kernel) % w.stride != 0 || (in.w + 2 * w.pad - w.kernel) % w.stride != 0))
        CNN_FAIL(CNN_ERR_UNSUPPORTED,
                 "its ceil_mode pools windows that its input of %dx%d cuts off; cnnkit leaves them out", in.h, in.w);
    cnn_node draft = cnn_onnx_draft(layer);
    cnn_node_set_attr(&draft, "kernel", (double)w.kernel);
    cnn_node_set_attr(&draft, "stride", w.stride == w.kernel ? 0.0 : (double)w.stride);
    if (layer == CNN_LAYER_MAXPOOL)
        cnn_node_set_attr(&draft, "pad", (double)w.pad);
    CNN_TRY(cnn_onnx_put_layer(import, node, &draft, &value, NULL, &made));
out:
    return status;
}

cnn_status cnn_onnx_read_maxpool(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    return read_pool(import, node, CNN_LAYER_MAXPOOL);
}

cnn_status cnn_onnx_read_avgpool(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    return read_pool(import, node, CNN_LAYER_AVGPOOL);
}

static cnn_status put_global(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    cnn_onnx_value *value;
    int made;
    const cnn_node draft = cnn_onnx_draft(CNN_LAYER_GLOBALAVGPOOL);
    cnn_status status = cnn_onnx_spatial_of(import, node, 0, &value);
    return status == CNN_OK ? cnn_onnx_put_layer(import, node, &draft, &value, NULL, &made) : status;
}

cnn_status cnn_onnx_read_globalavgpool(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    return put_global(import, node);
}

/* Over height and width: what PyTorch makes of an adaptive pooling to 1x1. */
cnn_status cnn_onnx_read_mean(cnn_onnx_import *import, const cnn_onnx_node *node)
{
    cnn_status status = CNN_OK;
    int64_t axes[CNN_ONNX_MAX_RANK] = {0}, keeps;
    int count;
    CNN_TRY(cnn_onnx_get_int(node, "keepdims", 1, &keeps));
    CNN_TRY(cnn_onnx_read_axes(import, node, axes, &count));
    if (!cnn_onnx_axes_of_pixels(axes, count))
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "takes the mean along other axes than 2 and 3, height and width");
    CNN_TRY(put_global(import, node));
    cnn_onnx_output_of(import, node)->flat = keeps == 0;
out:
    return status;
}
