/* What the values of a model must satisfy, checked before a file is written and after one was read. */
#include "cnn/quant.h"
#include "core/class_names.h"
#include "core/error.h"
#include "core/file.h"
#include "core/layers.h"
#include "core/picture.h"
#include "core/weight_blocks.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* True for a scale that arithmetic can use: positive, normal, finite. */
static bool is_scale(float value)
{
    return isnormal(value) && value > 0;
}

cnn_status cnn_normalization_check(const cnn_normalization *normalization)
{
    for (int c = 0; c < 4; c++)
        if (!isfinite(normalization->mean[c]) || !is_scale(normalization->std[c]))
            return cnn_error(CNN_ERR_NUMERIC, "the normalization of channel %d is (x - %g) / %g; it must be finite", c,
                             (double)normalization->mean[c], (double)normalization->std[c]);
    return CNN_OK;
}

enum { CHECK_STEP = 4096 }; /* values that are looked at together, which is quick where all is well */

static bool all_finite(const float *values, int64_t count, float lowest)
{
    int wrong = 0;
    for (int64_t i = 0; i < count; i++)
        wrong |= !(fabsf(values[i]) <= FLT_MAX) | (values[i] < lowest);
    return !wrong;
}

static cnn_status check_floats(const char *name, const float *values, int64_t count, float lowest)
{
    int64_t first = 0;
    while (first + CHECK_STEP <= count && all_finite(values + first, CHECK_STEP, lowest))
        first += CHECK_STEP;
    for (int64_t i = first; i < count; i++)
        if (!isfinite(values[i]) || values[i] < lowest)
            return cnn_error(CNN_ERR_NUMERIC, "%s holds %g at element %lld", name, (double)values[i], (long long)i);
    return CNN_OK;
}

bool cnn_param_is_zero(const cnn_param *param, int64_t i)
{
    switch (param->desc.dtype) {
    case CNN_F32:
        return ((const float *)param->data)[i] == 0.0f;
    case CNN_I8:
        return ((const int8_t *)param->data)[i] == 0;
    default:
        return ((const int32_t *)param->data)[i] == 0;
    }
}

static cnn_status check_mask(const char *name, const cnn_param *param)
{
    int64_t count = cnn_desc_elements(&param->desc);
    for (int64_t i = 0; param->mask && i < count; i++)
        if (!param->mask[i] && !cnn_param_is_zero(param, i))
            return cnn_error(CNN_ERR_NUMERIC, "%s has a nonzero value at element %lld, which its mask says is pruned",
                             name, (long long)i);
    return CNN_OK;
}

static cnn_status check_blocks(const char *name, const cnn_node *node)
{
    const cnn_block_grid grid = cnn_block_grid_of(node, CNN_BLOCK_OUTPUTS, CNN_BLOCK_INPUTS);
    const int64_t blocks = cnn_block_count(&grid), zeros = cnn_block_zeros(node, &grid);
    if (zeros * CNN_BLOCK_SHARE < blocks)
        return cnn_error(CNN_ERR_NUMERIC,
                         "%s is marked as block-sparse, but of its %lld blocks of %d outputs x %d inputs only %lld are "
                         "zero, less than one in %d",
                         name, (long long)blocks, CNN_BLOCK_OUTPUTS, CNN_BLOCK_INPUTS, (long long)zeros,
                         CNN_BLOCK_SHARE);
    return CNN_OK;
}

static cnn_status check_two_of_four(const char *name, const cnn_node *node)
{
    const cnn_param *weight = &node->param[CNN_PARAM_WEIGHT];
    const cnn_block_grid grid = cnn_block_grid_of(node, 1, CNN_GROUP_INPUTS);
    const int64_t rows = (int64_t)grid.outputs * grid.taps;
    for (int64_t row = 0; row < rows; row++)
        for (int32_t first = 0; first < grid.inputs; first += CNN_GROUP_INPUTS) {
            int nonzeros = 0;
            for (int32_t i = first; i < grid.inputs && i < first + CNN_GROUP_INPUTS; i++)
                nonzeros += !cnn_param_is_zero(weight, row * grid.inputs + i);
            if (nonzeros > CNN_GROUP_NONZEROS)
                return cnn_error(CNN_ERR_NUMERIC, "%s is marked 2:4 but has %d nonzeros in 4 inputs at element %lld",
                                 name, nonzeros, (long long)(row * grid.inputs + first));
        }
    return CNN_OK;
}

static cnn_status check_structure(const char *name, const cnn_node *node, cnn_param_role role)
{
    const cnn_param *param = &node->param[role];
    const bool blocks = param->desc.structure == CNN_BLOCK_16X4;
    if (!blocks && param->desc.structure != CNN_SPARSE_2_4)
        return CNN_OK;
    if (role != CNN_PARAM_WEIGHT)
        return cnn_error(CNN_ERR_FORMAT, "%s is marked as %s; only weights can be", name,
                         blocks ? "block-sparse" : "2:4");
    return blocks ? check_blocks(name, node) : check_two_of_four(name, node);
}

static bool any_lowest(const int8_t *values, int64_t count)
{
    uint8_t found = 0; /* as wide as the values: four times as many are compared at once as with an int */
    for (int64_t i = 0; i < count; i++)
        found |= (uint8_t)(values[i] == -128);
    return found;
}

/* i8 weights: in [-127,127], usable scales, and sums that int32 can hold. */
static cnn_status check_quantized(const char *name, const cnn_node *node)
{
    const cnn_param *weight = &node->param[CNN_PARAM_WEIGHT], *bias = &node->param[CNN_PARAM_BIAS];
    const int8_t *values = weight->data;
    int64_t count = cnn_desc_elements(&weight->desc), depth = count / weight->desc.n;
    int64_t first = 0;
    while (first + CHECK_STEP <= count && !any_lowest(values + first, CHECK_STEP))
        first += CHECK_STEP;
    for (int64_t i = first; i < count; i++)
        if (values[i] == -128)
            return cnn_error(CNN_ERR_NUMERIC, "%s holds -128 at element %lld; INT8 weights lie in [-127,127]", name,
                             (long long)i);
    for (int32_t k = 0; k < weight->desc.n; k++) {
        if (!weight->scale || !is_scale(weight->scale[k]))
            return cnn_error(CNN_ERR_NUMERIC, "%s has the scale %g in channel %d; it must be a normal positive number",
                             name, weight->scale ? (double)weight->scale[k] : 0.0, k);
        int32_t b = bias->data ? ((const int32_t *)bias->data)[k] : 0;
        if (!cnn_quant_fits(depth, b))
            return cnn_error(CNN_ERR_NUMERIC,
                             "%s: channel %d sums %lld products and a bias of %d, which can overflow 32 bits", name, k,
                             (long long)depth, b);
    }
    return CNN_OK;
}

static cnn_status check_param(const cnn_node *node, cnn_param_role role)
{
    cnn_status status = CNN_OK;
    const cnn_param *param = &node->param[role];
    bool quantized = node->param[CNN_PARAM_WEIGHT].desc.dtype == CNN_I8;
    cnn_dtype want = !quantized ? CNN_F32 : role == CNN_PARAM_WEIGHT ? CNN_I8 : CNN_I32;
    char name[CNN_NAME_BYTES + 32];
    snprintf(name, sizeof name, "%s.%s", node->name, cnn_param_role_name(role));
    if (!param->data)
        return cnn_error(CNN_ERR_FORMAT, "%s has no values", name);
    if (param->desc.dtype != want)
        return cnn_error(CNN_ERR_FORMAT, "%s is %s, but beside %s weights it must be %s", name,
                         cnn_dtype_name(param->desc.dtype), quantized ? "i8" : "f32", cnn_dtype_name(want));
    if (want == CNN_F32)
        CNN_TRY(check_floats(name, param->data, cnn_desc_elements(&param->desc),
                             role == CNN_PARAM_RUNNING_VAR ? 0.0f : -INFINITY));
    if (want == CNN_I8)
        CNN_TRY(check_quantized(name, node));
    CNN_TRY(check_mask(name, param));
    CNN_TRY(check_structure(name, node, role));
out:
    return status;
}

/* Every value but the logits has a scale, or none has. */
static cnn_status check_scales(const cnn_model *model)
{
    bool quantized = cnn_model_is_quantized(model);
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i];
        bool logits = i == model->node_count - 1;
        if (quantized && node->param[CNN_PARAM_WEIGHT].desc.dtype == CNN_F32)
            return cnn_error(CNN_ERR_FORMAT,
                             "layer '%s' has f32 weights in a model with i8 weights; quantize all or none", node->name);
        if (quantized && !logits ? !is_scale(node->out_scale) : node->out_scale != 0.0f)
            return cnn_error(CNN_ERR_NUMERIC, "layer '%s' has the output scale %g; it must be %s", node->name,
                             (double)node->out_scale,
                             quantized && !logits ? "a normal positive number" : "0 (logits, or a float model)");
    }
    return cnn_normalization_check(&model->normalization);
}

/* Names of classes are fit to be shown and differ; pictures are prepared for the input that the model has. */
static cnn_status check_metadata(const cnn_model *model)
{
    cnn_tensor_desc in = cnn_model_input(model);
    int32_t classes = cnn_model_output(model).c;
    if (model->class_names && classes > CNN_MAX_CLASSES)
        return cnn_error(CNN_ERR_SHAPE, "%d classes have names; at most %d can", classes, CNN_MAX_CLASSES);
    for (int32_t i = 0; model->class_names && i < classes; i++) {
        const char *problem = cnn_class_name_problem(model->class_names[i]);
        if (problem)
            return cnn_error(CNN_ERR_FORMAT, "the name of class %d %s", i, problem);
        for (int32_t k = 0; k < i; k++)
            if (strcmp(model->class_names[i], model->class_names[k]) == 0)
                return cnn_error(CNN_ERR_FORMAT, "classes %d and %d are both called '%s'", k, i, model->class_names[i]);
    }
    if (model->preparation == CNN_PREPARE_DIGIT && (in.h != CNN_DIGIT_SIDE || in.w != CNN_DIGIT_SIDE || in.c != 1))
        return cnn_error(CNN_ERR_SHAPE, "pictures are prepared as digits of %dx%dx1, but the input is %dx%dx%d",
                         CNN_DIGIT_SIDE, CNN_DIGIT_SIDE, in.h, in.w, in.c);
    return CNN_OK;
}

cnn_status cnn_model_check(const cnn_model *model)
{
    cnn_status status = CNN_OK;
    CNN_TRY(check_metadata(model));
    CNN_TRY(check_scales(model));
    for (int i = 0; i < model->node_count; i++)
        for (int role = 0; role < CNN_PARAM_COUNT; role++)
            if (model->nodes[i].param[role].desc.dtype != CNN_NONE)
                CNN_TRY(check_param(&model->nodes[i], (cnn_param_role)role));
out:
    return status;
}
