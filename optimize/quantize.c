/* Quantization to INT8 with the arithmetic of cnn/quant.h: weights i8 with a scale per output channel, biases i32,
 * one scale per activation from calibration. What cannot be exact in int32 or has no range is refused by name.
 *
 * The scale of a channel is that of cnn/quant.h; of fewer levels than 127 the step of least squared error; of weights
 * that training put on a grid its step, so that their whole numbers stay as they are. A bias that does not fit such a
 * step makes it larger, as in cnn/quant.h. */
#include "optimize/quantize.h"

#include "cnn/quant.h"
#include "core/error.h"
#include "core/layers.h"
#include "core/memory.h"
#include "optimize/channels.h"
#include "optimize/codebook.h"
#include "optimize/grid.h"
#include "optimize/precision.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COMPACT_BIAS = 31 }; /* levels on either side of 0 */

void cnn_quantize_options_init(cnn_quantize_options *options)
{
    *options = (cnn_quantize_options){.observer = CNN_OBSERVER_AUTO,
                                      .percentile = 99.99,
                                      .images = 512,
                                      .search_images = 256,
                                      .bias_correction = true,
                                      .levels = CNN_GRID_MOST_LEVELS,
                                      .seed = 1};
}

/* ---- What is refused ---- */

static cnn_status check_options(const cnn_quantize_options *options)
{
    cnn_status status = CNN_OK;
    if (!(options->percentile > 0 && options->percentile <= 100))
        CNN_FAIL(CNN_ERR_USAGE, "the percentile is %g; it must be above 0 and at most 100", options->percentile);
    if (options->images < 1)
        CNN_FAIL(CNN_ERR_USAGE, "%d calibration images were asked for; take at least 1", options->images);
    if (options->search_images < 0)
        CNN_FAIL(CNN_ERR_USAGE, "%d images to compare observers by were asked for; take 0 or more",
                 options->search_images);
    if (options->levels < 1 || options->levels > CNN_GRID_MOST_LEVELS)
        CNN_FAIL(CNN_ERR_USAGE, "%d levels of weights on either side of 0 were asked for; take 1 to %d",
                 options->levels, CNN_GRID_MOST_LEVELS);
    if (options->codebook < 0 || options->codebook > CNN_CODEBOOK_MOST_BITS)
        CNN_FAIL(CNN_ERR_USAGE, "a codebook of %d bits was asked for; take 1 to %d", options->codebook,
                 CNN_CODEBOOK_MOST_BITS);
    if (options->rounding != CNN_ROUNDING_NEAREST && options->rounding != CNN_ROUNDING_ADAPTIVE)
        CNN_FAIL(CNN_ERR_USAGE, "there is no way to round number %d", (int)options->rounding);
    if (!cnn_observer_name(options->observer))
        CNN_FAIL(CNN_ERR_USAGE, "there is no observer number %d", (int)options->observer);
out:
    return status;
}

cnn_status cnn_quantize_check_finite(const cnn_node *node)
{
    cnn_status status = CNN_OK;
    for (int role = CNN_PARAM_WEIGHT; role <= CNN_PARAM_BIAS; role++) {
        const cnn_param *param = &node->param[role];
        if (param->desc.dtype == CNN_NONE)
            continue;
        const float *values = param->data;
        for (int64_t i = 0; i < cnn_desc_elements(&param->desc); i++)
            if (!isfinite(values[i]))
                CNN_FAIL(CNN_ERR_NUMERIC,
                         "layer '%s': value %lld of its %s is not a finite number; train the model again with a "
                         "smaller learning rate",
                         node->name, (long long)i, cnn_param_role_name((cnn_param_role)role));
    }
out:
    return status;
}

static cnn_status check_model(const cnn_model *model)
{
    cnn_status status = CNN_OK;
    if (cnn_model_is_quantized(model))
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "model '%s' is already INT8; start from the float model that it was made from",
                 model->name);
    for (int i = 0; i < model->node_count; i++) {
        const cnn_node *node = &model->nodes[i];
        if (node->type->id == CNN_LAYER_BN)
            CNN_FAIL(CNN_ERR_UNSUPPORTED,
                     "layer '%s' is a batch norm, which INT8 does not have; fold it into the layer before it first",
                     node->name);
        if (!(node->type->flags & CNN_LAYER_QUANTIZABLE))
            CNN_FAIL(CNN_ERR_UNSUPPORTED, "layer '%s': a layer of type %s does not run in INT8", node->name,
                     node->type->name);
        if (node->param[CNN_PARAM_STEP].desc.dtype != CNN_NONE)
            CNN_FAIL(CNN_ERR_UNSUPPORTED,
                     "layer '%s': its weights train on a grid; end quantization-aware training first", node->name);
        CNN_TRY(cnn_quantize_check_finite(node));
    }
    const cnn_node *last = &model->nodes[model->node_count - 1];
    if (!cnn_node_has_weights(last))
        CNN_FAIL(
            CNN_ERR_UNSUPPORTED,
            "the last layer, '%s', is a %s; INT8 needs a convolution or linear layer there, which makes the scores",
            last->name, last->type->name);
out:
    return status;
}

static cnn_status check_data(const cnn_model *model, const cnn_dataset *data)
{
    const cnn_tensor_desc *in = &model->nodes[0].out;
    if (data->height != in->h || data->width != in->w || data->channels != in->c)
        return cnn_error(
            CNN_ERR_SHAPE,
            "the calibration images are %dx%dx%d and the model reads %dx%dx%d; name the data it was trained on",
            data->height, data->width, data->channels, in->h, in->w, in->c);
    return CNN_OK;
}

/* ---- One layer ---- */

/* The scale that a layer's sums are requantized to; 0: they become logits. */
static float output_scale(const cnn_model *model, int index, const cnn_calibration *calibration)
{
    return index == model->node_count - 1 ? 0 : calibration->scale[index];
}

float cnn_weight_step(const float *w, int64_t count, int32_t levels)
{
    return levels == CNN_GRID_MOST_LEVELS ? cnn_quant_weight_scale(w, count, 0, 1) : cnn_grid_fit(w, count, levels);
}

/* What a layer's weights become: whole numbers within -levels..levels, or those of a book with steps of its own. */
typedef struct numbers {
    int32_t levels;
    const cnn_codebook *book; /* NULL: none */
    const float *step;        /* [K] of the book */
} numbers;

/* The scale of an output channel's weights w [count], number k of the layer. */
static float channel_scale(const cnn_param *weight, int32_t k, const float *w, int64_t count, float bias, float s_in,
                           const numbers *to)
{
    bool zero = true;
    for (int64_t i = 0; i < count && zero; i++)
        zero = w[i] == 0;
    if (zero)
        return cnn_quant_weight_scale(w, count, bias, s_in);
    const float step = weight->grid ? weight->grid[k] : to->book ? to->step[k] : cnn_weight_step(w, count, to->levels);
    return bias == 0 ? step : fmaxf(step, cnn_quant_weight_scale(NULL, 0, bias, s_in));
}

/* The whole number of a weight; pruned ones are 0. */
static int8_t number_of(const cnn_param *weight, int64_t i, float scale, const numbers *to)
{
    const float w = ((const float *)weight->data)[i];
    if (to->book)
        return (int8_t)(weight->mask && !weight->mask[i] ? 0 : cnn_codebook_nearest(to->book, w, scale));
    return (int8_t)cnn_weight_number(w, scale, to->levels);
}

/* Weights whose step training learned are whole multiples of it, but for rounding. */
static cnn_status check_on_grid(const cnn_node *node, int32_t k, const float *w, int64_t count)
{
    const cnn_param *weight = &node->param[CNN_PARAM_WEIGHT];
    for (int64_t i = 0; weight->grid && i < count; i++) {
        const float v = w[i] / weight->grid[k];
        if (w[i] != 0 && !(fabsf(v - rintf(v)) < 1e-3f && fabsf(v) < (float)weight->levels + 0.5f))
            return cnn_error(CNN_ERR_NUMERIC,
                             "layer '%s': weights of output channel %d have left the grid that training put them on; "
                             "begin quantization-aware training anew",
                             node->name, k);
    }
    return CNN_OK;
}

/* Quantizes output channel k. s_out = 0: logits. */
static cnn_status quantize_channel(const cnn_node *node, int32_t k, float s_in, float s_out, const numbers *to,
                                   cnn_param *weight, int32_t *bias_out)
{
    cnn_status status = CNN_OK;
    const cnn_param *from = &node->param[CNN_PARAM_WEIGHT], *from_bias = &node->param[CNN_PARAM_BIAS];
    int64_t count = cnn_desc_elements(&from->desc) / from->desc.n;
    const float *w = (const float *)from->data + (int64_t)k * count; /* [R,S,C] */
    float bias = from_bias->desc.dtype == CNN_NONE ? 0 : ((const float *)from_bias->data)[k];
    CNN_TRY(check_on_grid(node, k, w, count));
    float s_w = channel_scale(from, k, w, count, bias, s_in, to);
    float multiplier = s_out > 0 ? cnn_quant_multiplier(s_in, s_w, s_out) : cnn_quant_logit_multiplier(s_in, s_w);
    if (!isnormal(s_w) || !isnormal(multiplier))
        CNN_FAIL(CNN_ERR_NUMERIC,
                 "layer '%s': output channel %d has weights too large or too small for INT8 (scale %g, multiplier %g); "
                 "train the model again, with weight decay or a smaller learning rate",
                 node->name, k, (double)s_w, (double)multiplier);
    int8_t *q = (int8_t *)weight->data + (int64_t)k * count;
    for (int64_t i = 0; i < count; i++)
        q[i] = number_of(from, k * count + i, s_w, to);
    weight->scale[k] = s_w;
    *bias_out = cnn_quant_bias(bias, s_in, s_w);
    if (!cnn_quant_fits(count, *bias_out))
        CNN_FAIL(CNN_ERR_NUMERIC,
                 "layer '%s': output channel %d sums %lld products and a bias of %d, more than 32 bits hold; make the "
                 "layer narrower or prune the one before it",
                 node->name, k, (long long)count, (int)*bias_out);
out:
    return status;
}

/* Fits the book that the options ask for, unless the layer has a grid. */
static cnn_status fit_book(const cnn_param *weight, const cnn_quantize_options *options, cnn_codebook *book,
                           float **step, numbers *to)
{
    if (!options->codebook || weight->grid)
        return CNN_OK;
    *step = cnn_calloc((size_t)weight->desc.n, sizeof **step);
    cnn_status status = *step ? cnn_codebook_fit(weight, options->codebook, book, *step) : CNN_ERR_MEMORY;
    to->book = book;
    to->step = *step;
    return status;
}

static cnn_status quantize_layer(cnn_model *model, int index, const cnn_calibration *calibration,
                                 const cnn_quantize_options *options)
{
    cnn_status status = CNN_OK;
    cnn_codebook book;
    float *step = NULL;
    cnn_node *node = &model->nodes[index];
    cnn_param weight = {0}, bias = {0};
    cnn_tensor_desc desc = node->param[CNN_PARAM_WEIGHT].desc;
    desc.dtype = CNN_I8;
    CNN_TRY(cnn_param_alloc(&weight, desc));
    CNN_TRY(cnn_param_alloc(&bias, cnn_desc_vector(CNN_I32, desc.n)));
    if (node->param[CNN_PARAM_WEIGHT].mask) {
        weight.mask = cnn_aligned_alloc((size_t)cnn_desc_elements(&desc));
        if (!weight.mask) {
            status = CNN_ERR_MEMORY;
            goto out;
        }
    }
    weight.scale = cnn_aligned_alloc((size_t)desc.n * sizeof *weight.scale);
    if (!weight.scale) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    float s_in = calibration->scale[node->input[0]], s_out = output_scale(model, index, calibration);
    numbers to = {.levels = cnn_node_levels(node, options->levels)};
    CNN_TRY(fit_book(&node->param[CNN_PARAM_WEIGHT], options, &book, &step, &to));
    for (int32_t k = 0; k < desc.n; k++)
        CNN_TRY(quantize_channel(node, k, s_in, s_out, &to, &weight, (int32_t *)bias.data + k));
    /* Weights that rounding makes 0 count as pruned from here on: files then need no mask beside the values. */
    for (int64_t i = 0; weight.mask && i < cnn_desc_elements(&desc); i++)
        weight.mask[i] = ((const int8_t *)weight.data)[i] != 0;
    cnn_param_free(&node->param[CNN_PARAM_WEIGHT]);
    cnn_param_free(&node->param[CNN_PARAM_BIAS]);
    node->param[CNN_PARAM_WEIGHT] = weight;
    node->param[CNN_PARAM_BIAS] = bias;
    memset(&weight, 0, sizeof weight);
    memset(&bias, 0, sizeof bias);
    cnn_node_set_attr(node, "bias", 1);
out:
    free(step);
    cnn_param_free(&weight);
    cnn_param_free(&bias);
    return status;
}

cnn_status cnn_quantize_make(const cnn_model *model, const cnn_calibration *calibration,
                             const cnn_quantize_options *options, cnn_model **made)
{
    cnn_status status = CNN_OK;
    cnn_model *copy = NULL;
    CNN_TRY(cnn_model_clone(model, &copy));
    for (int i = 0; i < copy->node_count; i++) {
        copy->nodes[i].out_scale = calibration->scale[i];
        if (cnn_node_has_weights(&copy->nodes[i]))
            CNN_TRY(quantize_layer(copy, i, calibration, options));
    }
    *made = copy;
    copy = NULL;
out:
    cnn_model_free(copy);
    return status;
}

/* ---- Images ---- */

/* Picks the calibration images and, with observer auto, others for the search. When there are too few for both, a
 * third of them serves the search. */
static cnn_status pick_images(const cnn_model *model, const cnn_dataset *data, const cnn_quantize_options *options,
                              int32_t **index, int32_t count[2])
{
    cnn_status status = CNN_OK;
    int32_t all = 0, search = options->observer == CNN_OBSERVER_AUTO ? options->search_images : 0;
    CNN_TRY(cnn_calibration_pick(model, data, 0, INT32_MAX, options->seed, &index[0], &all));
    free(index[0]);
    index[0] = NULL;
    int32_t spare = all - options->images > all / 3 ? all - options->images : all / 3;
    search = search < spare ? search : spare;
    int32_t images = options->images < all - search ? options->images : all - search;
    CNN_TRY(cnn_calibration_pick(model, data, 0, images, options->seed, &index[0], &count[0]));
    CNN_TRY(cnn_calibration_pick(model, data, images, search, options->seed, &index[1], &count[1]));
out:
    return status;
}

/* True when every pixel of the image is the same. */
static bool is_blank(const uint8_t *image, int64_t pixels, int32_t channels)
{
    for (int64_t i = channels; i < pixels * channels; i++)
        if (image[i] != image[i - channels])
            return false;
    return true;
}

static cnn_status check_images(const cnn_image_list *images)
{
    const cnn_dataset *data = images->data;
    int64_t pixels = (int64_t)data->height * data->width;
    for (int32_t i = 0; i < images->count; i++)
        if (!is_blank(data->images + images->index[i] * pixels * data->channels, pixels, data->channels))
            return CNN_OK;
    return cnn_error(CNN_ERR_NUMERIC,
                     "all %d calibration images are blank, which tells nothing about the ranges of the layers; check "
                     "the data",
                     (int)images->count);
}

/* ---- The account ---- */

static double share_clipped(const cnn_calibration *calibration, int node)
{
    const cnn_range *range = calibration->range[node];
    return range ? cnn_range_clipped(range, calibration->limit[node][calibration->observer[node]]) : 0;
}

static int bits_of(const cnn_quantize_job *job, int index)
{
    const cnn_node *node = &job->model->nodes[index];
    const bool book = job->options->codebook > 0 && !node->param[CNN_PARAM_WEIGHT].grid;
    return book ? job->options->codebook : cnn_bits_of_levels(cnn_node_levels(node, job->options->levels));
}

static cnn_status list_rows(cnn_quantize_job *job, cnn_quantize_row **rows, int *row_count)
{
    cnn_status status = CNN_OK;
    const cnn_model *model = job->int8;
    const cnn_calibration *calibration = &job->calibration;
    int count = 0;
    cnn_quantize_row *list = cnn_calloc((size_t)model->node_count, sizeof *list);
    cnn_distortion *distortion = cnn_calloc((size_t)model->node_count, sizeof *distortion);
    if (!list || !distortion)
        CNN_TRY(CNN_ERR_MEMORY);
    CNN_TRY(cnn_quantize_measure(job, distortion));
    for (int i = 0; i < model->node_count; i++) {
        if (!cnn_node_has_weights(&model->nodes[i]))
            continue;
        int node = cnn_calibration_target(model, i);
        const cnn_distortion *sums = &distortion[node];
        cnn_quantize_row *row = &list[count++];
        memcpy(row->layer, model->nodes[i].name, sizeof row->layer);
        row->bits = bits_of(job, i);
        row->observer = calibration->range[node] ? cnn_observer_name(calibration->observer[node]) : NULL;
        row->scale = output_scale(model, i, calibration);
        row->clipped = share_clipped(calibration, node);
        row->dead = sums->signal == 0;
        row->sqnr_db = row->dead ? NAN : 10 * log10(sums->signal / sums->noise);
        row->cosine = sums->both / sqrt(sums->signal * sums->other); /* 0/0 where it means nothing */
    }
    *rows = list;
    *row_count = count;
    list = NULL;
out:
    free(list);
    free(distortion);
    return status;
}

/* ---- The pass ---- */

cnn_status cnn_quantize_advance(cnn_quantize_job *job, int64_t images)
{
    const cnn_quantize_options *options = job->options;
    job->done += images;
    if (options->progress && !options->progress(options->progress_context, job->done, job->all))
        return cnn_error(CNN_ERR_CANCELLED, "quantization was stopped");
    return CNN_OK;
}

/* Images that will go through the network, as cnn_quantize_advance counts them. */
static int64_t count_work(const cnn_quantize_job *job, bool rows)
{
    int64_t layers = 0, observed = 0;
    for (int i = 0; i < job->model->node_count; i++) {
        layers += cnn_node_has_weights(&job->model->nodes[i]);
        observed += job->calibration.range[i] != NULL;
    }
    int64_t tries = job->validation.count > 0 ? 1 + CNN_OBSERVER_AUTO : 0;
    int64_t passes = 1 + (job->options->bias_correction ? (1 + tries) * layers : 0) + (rows ? 2 : 0);
    const int64_t rounding = job->options->rounding == CNN_ROUNDING_ADAPTIVE ? cnn_quantize_round_work(job->model) : 0;
    return rounding + passes * job->images.count + (2 + observed * (CNN_OBSERVER_AUTO - 1)) * job->search.count +
           tries * job->validation.count;
}

/* Rounds the biases of a layer to multiples of a power of 2, so that COMPACT_BIAS of them reach the largest. */
static void round_biases(cnn_node *node)
{
    const int32_t count = node->param[CNN_PARAM_BIAS].desc.c;
    int32_t *bias = node->param[CNN_PARAM_BIAS].data;
    int64_t most = 0, step = 1;
    for (int32_t k = 0; k < count; k++) {
        const int64_t magnitude = bias[k] < 0 ? -(int64_t)bias[k] : bias[k];
        most = magnitude > most ? magnitude : most;
    }
    while (most > COMPACT_BIAS * step)
        step *= 2;
    for (int32_t k = 0; k < count; k++) {
        const int64_t magnitude = bias[k] < 0 ? -(int64_t)bias[k] : bias[k];
        const int64_t rounded = (magnitude + step / 2) / step * step;
        bias[k] = (int32_t)(bias[k] < 0 ? -rounded : rounded);
    }
}

cnn_status cnn_quantize_build(cnn_quantize_job *job, cnn_rounding rounding)
{
    cnn_status status = CNN_OK;
    cnn_model_free(job->int8);
    job->int8 = NULL;
    CNN_TRY(cnn_calibration_set_scales(job->model, &job->calibration));
    CNN_TRY(cnn_quantize_make(job->model, &job->calibration, job->options, &job->int8));
    if (rounding == CNN_ROUNDING_ADAPTIVE)
        CNN_TRY(cnn_quantize_round(job));
    if (job->options->bias_correction)
        CNN_TRY(cnn_quantize_correct_bias(job));
    for (int i = 0; job->options->compact && i < job->int8->node_count; i++)
        if (cnn_node_has_weights(&job->int8->nodes[i]))
            round_biases(&job->int8->nodes[i]);
out:
    return status;
}

static cnn_status run(cnn_quantize_job *job, cnn_quantize_row **rows, int *row_count)
{
    cnn_status status = CNN_OK;
    const cnn_quantize_options *options = job->options;
    CNN_TRY(check_images(&job->images));
    CNN_TRY(cnn_calibrate(job->model, &job->images, options->observer, options->percentile, options->device,
                          &job->calibration));
    job->calibration.round = options->compact;
    job->all = count_work(job, rows != NULL);
    CNN_TRY(cnn_quantize_advance(job, job->images.count));
    for (int i = 0; i < job->model->node_count; i++)
        job->calibration.observer[i] = options->observer;
    if (options->observer == CNN_OBSERVER_AUTO) {
        CNN_TRY(cnn_quantize_search(job));
        CNN_TRY(cnn_quantize_challenge(job));
    }
    CNN_TRY(cnn_quantize_build(job, options->rounding));
    if (rows)
        CNN_TRY(list_rows(job, rows, row_count));
out:
    return status;
}

cnn_status cnn_quantize(cnn_model *model, const cnn_dataset *data, const cnn_quantize_options *options,
                        cnn_quantize_row **rows, int *row_count)
{
    cnn_status status = CNN_OK;
    int32_t *index[2] = {NULL, NULL}, count[2] = {0, 0};
    cnn_split split = {0};
    cnn_quantize_job job = {.model = model, .options = options};
    CNN_TRY(check_options(options));
    CNN_TRY(check_model(model));
    CNN_TRY(check_data(model, data));
    CNN_TRY(pick_images(model, data, options, index, count));
    job.images = (cnn_image_list){data, index[0], count[0]};
    job.search = (cnn_image_list){data, index[1], count[1]};
    if (options->observer == CNN_OBSERVER_AUTO && count[1] > 0) {
        CNN_TRY(cnn_dataset_split(data, model->split_seed, &split));
        job.validation = (cnn_image_list){data, split.validation, split.validation_count};
    }
    CNN_TRY(run(&job, rows, row_count));
    cnn_model_swap(model, job.int8);
out:
    free(index[0]);
    free(index[1]);
    cnn_split_free(&split);
    cnn_calibration_free(&job.calibration);
    cnn_model_free(job.int8);
    return status;
}
