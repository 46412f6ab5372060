/* Sessions: observation, which shows the value of every node.
 *
 * A quantized model runs its INT8 program; its integers are shown as the numbers they stand for, with the formulas of
 * cnn/quant.h. */
#include "core/session.h"

#include "cnn/quant.h"
#include "core/error.h"

#include <stdlib.h>
#include <string.h>

enum { EVERY_NODE = -1 };

/* What showing needs, made with the first batch, which is the largest. */
typedef struct showing {
    cnn_observe_fn observe;
    void *context;
    float *values; /* the largest value of any node, without padding */
    void *raw;     /* the same as it lies on a device with memory of its own, with padding */
} showing;

static bool is_gemm(cnn_op op)
{
    return op == CNN_OP_CONV || op == CNN_OP_GROUP_CONV || op == CNN_OP_LINEAR;
}

/* The instruction that makes the sums of a convolution or linear layer. */
static int gemm_of(const cnn_program *program, int node)
{
    for (int i = 0; i < program->instruction_count; i++)
        if (program->instructions[i].node == node && is_gemm(program->instructions[i].desc.op))
            return i;
    return -1;
}

static cnn_status make_room(const cnn_session *session, const cnn_program *program, showing *view)
{
    size_t floats = 1, bytes = 1;
    if (view->values)
        return CNN_OK;
    for (int i = 0; i < program->buffer_count; i++) {
        const cnn_buffer *buffer = &program->buffers[i];
        if (buffer->place != CNN_PLACE_ARENA && buffer->place != CNN_PLACE_LOGITS)
            continue;
        size_t count = (size_t)cnn_desc_elements(&buffer->desc), size = cnn_desc_bytes(&buffer->desc);
        floats = count > floats ? count : floats;
        bytes = size > bytes ? size : bytes;
    }
    view->values = cnn_calloc(floats, sizeof *view->values);
    if (!session->backend->host_memory)
        view->raw = cnn_calloc(bytes, 1);
    return view->values && (view->raw || session->backend->host_memory) ? CNN_OK : CNN_ERR_MEMORY;
}

/* ---- What integers stand for ---- */

static void from_i8(const cnn_tensor_desc *desc, const int8_t *source, float scale, float *values)
{
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(desc); pixel++)
        for (int32_t c = 0; c < desc->c; c++)
            values[pixel * desc->c + c] = scale * (float)source[pixel * desc->c_pad + c];
}

static void from_sums(const cnn_model *model, int index, const cnn_tensor_desc *desc, const int32_t *source,
                      float *values)
{
    const cnn_node *node = &model->nodes[index];
    const cnn_param *bias = &node->param[CNN_PARAM_BIAS];
    float s_in = model->nodes[node->input[0]].out_scale;
    for (int32_t k = 0; k < desc->c; k++) {
        int32_t b = bias->desc.dtype == CNN_NONE ? 0 : ((const int32_t *)bias->data)[k];
        float multiplier = cnn_quant_logit_multiplier(s_in, node->param[CNN_PARAM_WEIGHT].scale[k]);
        for (int64_t pixel = 0; pixel < cnn_desc_pixels(desc); pixel++)
            values[pixel * desc->c + k] = (float)(source[pixel * desc->c_pad + k] + b) * multiplier;
    }
}

static void from_f32(const cnn_tensor_desc *desc, const float *source, float *values)
{
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(desc); pixel++)
        memcpy(values + pixel * desc->c, source + pixel * desc->c_pad, (size_t)desc->c * sizeof *values);
}

/* ---- Showing ---- */

static cnn_status show(cnn_session *session, const cnn_program *program, int node, int buffer, showing *view)
{
    const cnn_model *model = session->model;
    cnn_tensor_desc desc = program->buffers[buffer].desc;
    const void *source = cnn_session_pointer(session, program, buffer);
    if (!session->backend->host_memory) {
        cnn_status status = cnn_session_download(session, view->raw, source, cnn_desc_bytes(&desc));
        if (status != CNN_OK)
            return status;
        source = view->raw;
    }
    if (desc.dtype == CNN_F32 && desc.c == desc.c_pad)
        return view->observe(view->context, node, &desc, source);
    if (desc.dtype == CNN_I8)
        from_i8(&desc, source, model->nodes[node].out_scale, view->values);
    else if (desc.dtype == CNN_I32)
        from_sums(model, node, &desc, source, view->values);
    else
        from_f32(&desc, source, view->values);
    desc.dtype = CNN_F32;
    desc.c_pad = desc.c;
    return view->observe(view->context, node, &desc, view->values);
}

static cnn_status show_batch(cnn_session *session, const uint8_t *images, int count, float *logits, int node,
                             showing *view)
{
    cnn_status status = CNN_OK;
    cnn_program *program;
    CNN_TRY(cnn_session_program(session, CNN_GOAL_OBSERVE, count, &program));
    CNN_TRY(make_room(session, program, view));
    CNN_TRY(cnn_session_bind(session, images, count, logits));
    if (node != EVERY_NODE) {
        int gemm = gemm_of(program, node);
        CNN_TRY(cnn_session_run_to(session, program, gemm));
        CNN_TRY(show(session, program, node, program->instructions[gemm].arg[CNN_ARG_DST], view));
        return CNN_OK;
    }
    CNN_TRY(cnn_session_run(session, program));
    for (int i = 0; i < session->model->node_count; i++)
        CNN_TRY(show(session, program, i, program->value[i], view));
out:
    return status;
}

static cnn_status observe_nodes(cnn_session *session, const cnn_dataset *data, const int32_t *index, int64_t count,
                                int node, showing *view)
{
    cnn_status status = CNN_OK;
    uint8_t *images = cnn_calloc((size_t)session->batch, cnn_session_image_bytes(session));
    float *logits = cnn_calloc((size_t)session->batch * (size_t)cnn_session_classes(session), sizeof *logits);
    if (!images || !logits) {
        status = CNN_ERR_MEMORY;
        goto out;
    }
    CNN_TRY(cnn_session_check_data(session, data));
    for (int64_t begin = 0; begin < count; begin += session->batch) {
        int batch = cnn_session_batch_at(session, begin, count);
        cnn_session_gather(session, data, index, begin, batch, images);
        CNN_TRY(show_batch(session, images, batch, logits, node, view));
    }
out:
    free(view->values);
    free(view->raw);
    free(images);
    free(logits);
    return status;
}

cnn_status cnn_session_observe(cnn_session *session, const cnn_dataset *data, const int32_t *index, int64_t count,
                               cnn_observe_fn observe, void *context)
{
    return observe_nodes(session, data, index, count, EVERY_NODE, &(showing){.observe = observe, .context = context});
}

cnn_status cnn_session_observe_sums(cnn_session *session, const cnn_dataset *data, const int32_t *index, int64_t count,
                                    int node, cnn_observe_fn observe, void *context)
{
    return observe_nodes(session, data, index, count, node, &(showing){.observe = observe, .context = context});
}
