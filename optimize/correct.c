/* Bias correction (Nagel et al., "Data-free quantization through weight equalization and bias correction", ICCV 2019,
 * section 4.2, the empirical form).
 *
 * Rounding weights and clipping inputs shifts the mean of a layer's sums. Layer by layer in topological order, with the
 * INT8 inputs as the corrected layers before make them, each channel's bias is shifted by the difference between the
 * float model's mean and the INT8 program's over the calibration images:
 *     bias[k] += rint((mean[k] - mean_int8[k]) / (s_in * s_w[k])),
 * no further than int32 sums stay exact. */
#include "optimize/quantize.h"

#include "cnn/session.h"
#include "core/error.h"
#include "core/memory.h"
#include "core/session.h"

#include <math.h>
#include <stdlib.h>

static cnn_status add_sums(void *context, int node, const cnn_tensor_desc *desc, const float *values)
{
    double *sum = context;
    (void)node;
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(desc); pixel++)
        for (int32_t k = 0; k < desc->c; k++)
            sum[k] += (double)values[pixel * desc->c + k];
    return CNN_OK;
}

/* Moves a bias, at most to where products of `count` weights cannot overflow (cnn_quant_fits). */
static int32_t shifted(int32_t bias, double shift, int64_t count)
{
    double most = (double)((INT64_C(1) << 31) - 1 - count * 127 * 127);
    return (int32_t)fmax(-most, fmin(most, bias + rint(shift)));
}

static cnn_status correct_layer(cnn_quantize_job *job, int index, double *sum)
{
    cnn_status status = CNN_OK;
    cnn_node *node = &job->int8->nodes[index];
    const cnn_param *weight = &node->param[CNN_PARAM_WEIGHT];
    const cnn_image_list *images = &job->images;
    int32_t *bias = node->param[CNN_PARAM_BIAS].data;
    cnn_session *session = NULL;
    /* Opened anew for each layer: a session may have copied the biases that were just changed. */
    CNN_TRY(cnn_session_open(job->int8, &(cnn_session_options){.device = job->options->device}, &session));
    CNN_TRY(cnn_session_observe_sums(session, images->data, images->index, images->count, index, add_sums, sum));
    CNN_TRY(cnn_quantize_advance(job, images->count));
    double values = (double)images->count * node->out.h * node->out.w;
    double s_in = (double)job->int8->nodes[node->input[0]].out_scale;
    for (int32_t k = 0; k < node->out.c; k++) {
        double error = sum[k] / values - job->calibration.mean[index][k];
        bias[k] = shifted(bias[k], -error / (s_in * (double)weight->scale[k]),
                          cnn_desc_elements(&weight->desc) / weight->desc.n);
    }
out:
    cnn_session_close(session);
    return status;
}

cnn_status cnn_quantize_correct_bias(cnn_quantize_job *job)
{
    cnn_status status = CNN_OK;
    for (int i = 0; i < job->int8->node_count && status == CNN_OK; i++) {
        if (!cnn_node_has_weights(&job->int8->nodes[i]))
            continue;
        double *sum = cnn_calloc((size_t)job->int8->nodes[i].out.c, sizeof *sum);
        status = sum ? correct_layer(job, i, sum) : CNN_ERR_MEMORY;
        free(sum);
    }
    return status;
}
