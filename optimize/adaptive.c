/* Adaptive rounding of an INT8 model: layer by layer in topological order, each output channel on its own.
 *
 * What a layer is to give comes from the float model; what it reads is what the layers before, already rounded, give in
 * INT8. Samples are values of a linear layer's input, or patches that a convolution reads at positions drawn by seed,
 * one after the other from images of the training part. */
#include "optimize/adaround.h"
#include "optimize/grid.h"
#include "optimize/precision.h"
#include "optimize/quantize.h"

#include "cnn/session.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/layers.h"
#include "core/memory.h"
#include "core/pool.h"
#include "core/quantized.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH = CNN_ADAROUND_BATCH, SAMPLES = 2048, MOST_BYTES = 64 << 20, WAVE = 32 };

/* One layer's samples. */
typedef struct sampler {
    const cnn_quantize_job *job;
    const cnn_node *node;
    int number; /* of it */
    int32_t samples;
    int64_t count;                              /* inputs of an output channel */
    int32_t groups;                             /* of a convolution */
    float *x;                                   /* [groups][blocks][count][BATCH] */
    float *wanted;                              /* [channels][samples] */
    int32_t *index;                             /* of images */
    int32_t images;                             /* sample i is of image i % images */
    int32_t seen;                               /* images so far */
    float *scratch;                             /* [WAVE][ARRAYS][count] */
    int32_t channel;                            /* first of the wave */
    int8_t value[2 * CNN_GRID_MOST_LEVELS + 1]; /* that weights can become */
    int values;
} sampler;

/* ---- Samples ---- */

/* Where in the layer's output sample `number` is. */
static int32_t position_of(const sampler *s, int32_t number)
{
    const int32_t positions = s->node->out.h * s->node->out.w;
    const uint64_t hash =
        cnn_hash(s->job->options->seed, CNN_PURPOSE_CALIBRATION, (uint64_t)number, (uint64_t)s->number + 1);
    return (int32_t)(hash % (uint64_t)positions);
}

/* values: [h,w,c] of an image, the layer's output. */
static void keep_wanted(const sampler *s, int32_t number, const float *values)
{
    const float *from = values + (int64_t)position_of(s, number) * s->node->out.c;
    for (int32_t k = 0; k < s->node->out.c; k++)
        s->wanted[(int64_t)k * s->samples + number] = from[k];
}

/* values: [h,w,c] of an image, the layer's input. */
static void keep_patch(const sampler *s, int32_t number, const cnn_tensor_desc *in, const float *values)
{
    const cnn_tensor_desc *w = &s->node->param[CNN_PARAM_WEIGHT].desc;
    const bool conv = s->node->type->id == CNN_LAYER_CONV;
    const int32_t position = position_of(s, number), stride = conv ? cnn_node_int(s->node, "stride") : 1;
    const int32_t pad = conv ? cnn_node_int(s->node, "pad") : 0;
    const int32_t top = position / s->node->out.w * stride - pad, left = position % s->node->out.w * stride - pad;
    for (int32_t g = 0; g < s->groups; g++) {
        float *to = s->x + (g * (int64_t)s->samples + number / BATCH * BATCH) * s->count + number % BATCH;
        for (int32_t r = top; r < top + w->h; r++)
            for (int32_t q = left; q < left + w->w; q++)
                for (int32_t c = g * w->c; c < (g + 1) * w->c; c++, to += BATCH) {
                    const bool inside = r >= 0 && r < in->h && q >= 0 && q < in->w;
                    *to = inside ? values[((int64_t)r * in->w + q) * in->c + c] : 0;
                }
    }
}

static cnn_status observe(sampler *s, const cnn_tensor_desc *desc, const float *values, bool input)
{
    for (int32_t n = 0; n < desc->n; n++, s->seen++)
        for (int32_t number = s->seen; number < s->samples; number += s->images) {
            const float *image = values + (int64_t)n * desc->h * desc->w * desc->c;
            if (input)
                keep_patch(s, number, desc, image);
            else
                keep_wanted(s, number, image);
        }
    return CNN_OK;
}

static cnn_status observe_output(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    sampler *s = context;
    return node == s->number ? observe(s, desc, values, false) : CNN_OK;
}

static cnn_status observe_input(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    sampler *s = context;
    return node == s->node->input[0] ? observe(s, desc, values, true) : CNN_OK;
}

static cnn_status run(sampler *s, cnn_model *model, cnn_observe_fn see)
{
    cnn_status status = CNN_OK;
    cnn_session *session = NULL;
    s->seen = 0;
    CNN_TRY(cnn_session_open(model, &(cnn_session_options){.device = s->job->options->device}, &session));
    CNN_TRY(cnn_session_observe(session, s->job->images.data, s->index, s->images, see, s));
out:
    cnn_session_close(session);
    return status;
}

/* Whole batches, fewer where a sample is large. */
static int32_t samples_of(const cnn_node *node)
{
    const cnn_tensor_desc *desc = &node->param[CNN_PARAM_WEIGHT].desc;
    const int64_t inputs = cnn_desc_elements(desc) / desc->n * cnn_node_groups(node);
    const int64_t room = MOST_BYTES / (int64_t)sizeof(float) / inputs;
    const int32_t samples = room < SAMPLES ? (int32_t)room / BATCH * BATCH : SAMPLES;
    return samples < BATCH ? BATCH : samples;
}

static cnn_status begin(sampler *s)
{
    const cnn_tensor_desc *desc = &s->node->param[CNN_PARAM_WEIGHT].desc;
    s->count = cnn_desc_elements(desc) / desc->n;
    s->groups = cnn_node_groups(s->node);
    s->samples = samples_of(s->node);
    s->x = cnn_calloc((size_t)s->groups * (size_t)s->samples * (size_t)s->count, sizeof *s->x);
    s->wanted = cnn_calloc((size_t)s->samples * (size_t)desc->n, sizeof *s->wanted);
    s->scratch = cnn_calloc((size_t)s->count * WAVE * CNN_ADAROUND_ARRAYS, sizeof *s->scratch);
    if (!s->x || !s->wanted || !s->scratch)
        return CNN_ERR_MEMORY;
    return cnn_calibration_pick(s->job->model, s->job->images.data, 0, s->samples, s->job->options->seed, &s->index,
                                &s->images);
}

/* ---- One layer ---- */

static void round_channel(void *context, int task, int worker)
{
    const sampler *s = context;
    const cnn_node *int8 = &s->job->int8->nodes[s->number];
    const cnn_param *weight = &int8->param[CNN_PARAM_WEIGHT], *from = &s->node->param[CNN_PARAM_WEIGHT];
    const int32_t k = s->channel + task;
    (void)worker;
    const float step = weight->scale[k];
    const int32_t group = k / (weight->desc.n / s->groups);
    const cnn_adaround channel = {.x = s->x + group * (int64_t)s->samples * s->count,
                                  .wanted = s->wanted + (int64_t)k * s->samples,
                                  .blocks = s->samples / BATCH,
                                  .count = s->count,
                                  .w = (const float *)from->data + k * s->count,
                                  .mask = from->mask ? from->mask + k * s->count : NULL,
                                  .step = step,
                                  .bias = (float)((const int32_t *)int8->param[CNN_PARAM_BIAS].data)[k] *
                                          (s->job->int8->nodes[s->node->input[0]].out_scale * step),
                                  .number = s->value,
                                  .numbers = s->values,
                                  .relu = cnn_int8_relu(s->job->model, s->number) >= 0,
                                  .q = (int8_t *)weight->data + k * s->count,
                                  .scratch = s->scratch + (int64_t)task * CNN_ADAROUND_ARRAYS * s->count};
    cnn_adaround_channel(&channel);
}

/* The numbers of a grid, or those of a codebook, which the weights have. */
static void list_numbers(sampler *s)
{
    const cnn_param *weight = &s->job->int8->nodes[s->number].param[CNN_PARAM_WEIGHT];
    const int32_t levels = cnn_node_levels(s->node, s->job->options->levels);
    bool had[2 * CNN_GRID_MOST_LEVELS + 1] = {false};
    for (int64_t i = 0; i < cnn_desc_elements(&weight->desc); i++)
        had[((const int8_t *)weight->data)[i] + CNN_GRID_MOST_LEVELS] = true;
    for (int n = -CNN_GRID_MOST_LEVELS; n <= CNN_GRID_MOST_LEVELS; n++)
        if (s->job->options->codebook ? had[n + CNN_GRID_MOST_LEVELS] : abs(n) <= levels)
            s->value[s->values++] = (int8_t)n;
}

static cnn_status round_layer(cnn_quantize_job *job, int number)
{
    cnn_status status = CNN_OK;
    sampler s = {.job = job, .node = &job->model->nodes[number], .number = number};
    const cnn_param *weight = &job->int8->nodes[number].param[CNN_PARAM_WEIGHT];
    const int32_t channels = weight->desc.n;
    list_numbers(&s);
    CNN_TRY(begin(&s));
    CNN_TRY(run(&s, job->model, observe_output));
    CNN_TRY(run(&s, job->int8, observe_input));
    for (; s.channel < channels; s.channel += WAVE)
        cnn_parallel(channels - s.channel < WAVE ? channels - s.channel : WAVE, round_channel, &s);
    for (int64_t i = 0; weight->mask && i < cnn_desc_elements(&weight->desc); i++)
        weight->mask[i] = ((const int8_t *)weight->data)[i] != 0;
    CNN_TRY(cnn_quantize_advance(job, 2 * (int64_t)s.samples));
out:
    free(s.x);
    free(s.wanted);
    free(s.scratch);
    free(s.index);
    return status;
}

/* Weights that training put on a grid are whole numbers already. */
static bool is_rounded(const cnn_node *node)
{
    return cnn_node_has_weights(node) && !node->param[CNN_PARAM_WEIGHT].grid;
}

cnn_status cnn_quantize_round(cnn_quantize_job *job)
{
    cnn_status status = CNN_OK;
    for (int i = 0; i < job->model->node_count && status == CNN_OK; i++)
        if (is_rounded(&job->model->nodes[i]))
            status = round_layer(job, i);
    return status;
}

int64_t cnn_quantize_round_work(const cnn_model *model)
{
    int64_t images = 0;
    for (int i = 0; i < model->node_count; i++)
        if (is_rounded(&model->nodes[i]))
            images += 2 * samples_of(&model->nodes[i]);
    return images;
}
