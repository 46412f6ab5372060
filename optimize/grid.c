/* The step of a grid by least squared error, and quantization-aware training around it.
 *
 * The error as a function of the step has many minima. Steps from largest/levels down in eighths of an octave are
 * tried, and the best is improved by turns: with the points fixed the best step is sum(w q)/sum(q^2), and with the step
 * fixed the nearest points are best (Lloyd). Neither turn makes the error larger. */
#include "optimize/grid.h"

#include "cnn/optimize.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/model.h"
#include "core/round_scale.h"
#include "kernels/cpu/exp_log.h"
#include "optimize/channels.h"
#include "optimize/quantize.h"

#include <float.h>

static const double eighth_of_octave = 0x1.d5818dcfba487p-1; /* 2^(-1/8) */
enum { TRIED_STEPS = 8 * 6 + 1, MOST_TURNS = 30 };

/* ---- The step ---- */

/* The whole number of w's point: rint(clamp(w/step, -levels, levels)) as op GRID has it. Adding and taking away
 * 1.5*2^23 rounds so, and is quicker than a call. */
static float number_of(float w, float step, float levels)
{
    float v = w / step;
    v = v > levels ? levels : v;
    v = v < -levels ? -levels : v;
    return (v + 0x1.8p23f) - 0x1.8p23f;
}

/* Sums over the values with the points of a step. */
typedef struct fit {
    double error;  /* (w - q*step)^2 */
    double wq, qq; /* w*q, q^2 */
} fit;

static fit fit_of(const float *values, int64_t count, float step, float levels)
{
    fit sums = {0};
    for (int64_t i = 0; i < count; i++) {
        const double q = (double)number_of(values[i], step, levels), w = (double)values[i], off = w - q * (double)step;
        sums.error += off * off;
        sums.wq += w * q;
        sums.qq += q * q;
    }
    return sums;
}

static float normal_step(double step)
{
    return step > (double)FLT_MIN ? (float)step : FLT_MIN;
}

float cnn_grid_fit(const float *values, int64_t count, int32_t levels)
{
    const float ends = (float)levels;
    double largest = 0;
    for (int64_t i = 0; i < count; i++)
        largest = fmax(largest, fabs((double)values[i]));
    if (largest == 0)
        return 1.0f;
    float best = 0;
    fit sums = {.error = INFINITY};
    double tried = largest / levels;
    for (int i = 0; i < TRIED_STEPS; i++, tried *= eighth_of_octave) {
        const float step = normal_step(tried);
        const fit now = fit_of(values, count, step, ends);
        if (now.error < sums.error) {
            best = step;
            sums = now;
        }
    }
    for (int turn = 0; turn < MOST_TURNS; turn++) {
        const float step = sums.qq > 0 ? normal_step(sums.wq / sums.qq) : best;
        const fit now = fit_of(values, count, step, ends);
        if (!(now.error < sums.error))
            break;
        best = step;
        sums = now;
    }
    return best;
}

/* ---- Quantization-aware training ---- */

static cnn_status begin_node(cnn_node *node, int32_t levels)
{
    cnn_status status = CNN_OK;
    cnn_param *weight = &node->param[CNN_PARAM_WEIGHT], *step = &node->param[CNN_PARAM_STEP];
    CNN_TRY(cnn_quantize_check_finite(node));
    cnn_param_free(step);
    CNN_TRY(cnn_param_alloc(step, cnn_desc_vector(CNN_F32, 1)));
    cnn_aligned_free(weight->grid);
    weight->grid = NULL;
    weight->levels = levels;
    weight->step = cnn_grid_fit(weight->data, cnn_desc_elements(&weight->desc), levels);
out:
    return status;
}

cnn_status cnn_qat_begin(cnn_model *model, int levels)
{
    cnn_status status = CNN_OK;
    cnn_model *copy = NULL;
    if (levels < 1 || levels > CNN_GRID_MOST_LEVELS)
        CNN_FAIL(CNN_ERR_USAGE, "%d levels of weights on either side of 0 were asked for; take 1 to %d", levels,
                 CNN_GRID_MOST_LEVELS);
    if (cnn_model_is_quantized(model))
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "model '%s' is already INT8; start from the float model that it was made from",
                 model->name);
    CNN_TRY(cnn_model_clone(model, &copy));
    for (int i = 0; i < copy->node_count; i++)
        if (cnn_node_has_weights(&copy->nodes[i]))
            CNN_TRY(begin_node(&copy->nodes[i], copy->nodes[i].levels ? copy->nodes[i].levels : levels));
    cnn_model_swap(model, copy);
out:
    cnn_model_free(copy);
    return status;
}

/* With the arithmetic of op GRID. */
static float step_of(const cnn_node *node)
{
    const float theta = *(const float *)node->param[CNN_PARAM_STEP].data;
    return (float)((double)node->param[CNN_PARAM_WEIGHT].step * cnn_exp((double)theta));
}

void cnn_grid_numbers(const cnn_node *node, int8_t *numbers)
{
    const cnn_param *weight = &node->param[CNN_PARAM_WEIGHT];
    const float *values = weight->data, step = step_of(node);
    for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++)
        numbers[i] = (int8_t)number_of(values[i], step, (float)weight->levels);
}

/* The values of a node become points. */
static cnn_status end_node(cnn_node *node)
{
    cnn_status status = CNN_OK;
    cnn_param *weight = &node->param[CNN_PARAM_WEIGHT];
    const float step = step_of(node);
    float *values = weight->data;
    CNN_TRY(cnn_quantize_check_finite(node));
    if (!isnormal(step))
        CNN_FAIL(CNN_ERR_NUMERIC,
                 "layer '%s': the step of its weights became %g; train the model again with a smaller learning rate",
                 node->name, (double)step);
    weight->grid = cnn_aligned_alloc((size_t)weight->desc.n * sizeof *weight->grid);
    if (!weight->grid)
        CNN_TRY(CNN_ERR_MEMORY);
    for (int32_t k = 0; k < weight->desc.n; k++)
        weight->grid[k] = step;
    for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++)
        values[i] = number_of(values[i], step, (float)weight->levels) * step;
    cnn_param_free(&node->param[CNN_PARAM_STEP]);
out:
    return status;
}

cnn_status cnn_qat_end(cnn_model *model)
{
    cnn_status status = CNN_OK;
    cnn_model *copy = NULL;
    CNN_TRY(cnn_model_clone(model, &copy));
    for (int i = 0; i < copy->node_count; i++)
        if (copy->nodes[i].param[CNN_PARAM_STEP].desc.dtype != CNN_NONE)
            CNN_TRY(end_node(&copy->nodes[i]));
    cnn_model_swap(model, copy);
out:
    cnn_model_free(copy);
    return status;
}

/* ---- Round steps ---- */

/* The nearest scale of the grid of powers of 2^(1/16). */
static float nearest_round(float step)
{
    const float above = cnn_round_scale_above(step);
    int number;
    if (!cnn_round_scale_find(above, &number) || number == CNN_ROUND_LEAST)
        return above;
    const float below = cnn_round_scale(number - 1);
    return above / step <= step / below ? above : below;
}

static bool is_even(const cnn_param *weight)
{
    for (int32_t k = 1; k < weight->desc.n; k++)
        if (weight->grid[k] != weight->grid[0])
            return false;
    return true;
}

static void round_weights(cnn_param *weight)
{
    const int64_t row = cnn_desc_elements(&weight->desc) / weight->desc.n;
    for (int32_t k = 0; k < weight->desc.n; k++) {
        float *w = (float *)weight->data + (int64_t)k * row;
        const float old = weight->grid[k], step = nearest_round(old);
        for (int64_t i = 0; i < row; i++)
            w[i] = number_of(w[i], old, (float)weight->levels) * step;
        weight->grid[k] = step;
    }
}

cnn_status cnn_qat_round(cnn_model *model)
{
    cnn_status status = CNN_OK;
    cnn_model *copy = NULL;
    CNN_TRY(cnn_model_clone(model, &copy));
    for (int i = 0; i < copy->node_count; i++) {
        cnn_param *weight = &copy->nodes[i].param[CNN_PARAM_WEIGHT];
        if (weight->grid && !is_even(weight))
            round_weights(weight);
    }
    cnn_model_swap(model, copy);
out:
    cnn_model_free(copy);
    return status;
}
