/* Sessions: showing what each instruction did. */
#include "core/session.h"

void cnn_session_trace(cnn_session *session, cnn_trace_fn trace, void *context, bool values)
{
    session->trace = trace;
    session->trace_context = context;
    session->trace_values = values;
}

static const char *node_name(const cnn_session *session, int node)
{
    return node >= 0 ? session->model->nodes[node].name : "-";
}

/* Multiply-accumulates of a product: elements of the product before pooling, times the filter's length. */
static int64_t count_macs(const cnn_op_desc *desc)
{
    const cnn_tensor_desc *src = &desc->arg[CNN_ARG_SRC], *weight = &desc->arg[CNN_ARG_WEIGHT];
    if (desc->op != CNN_OP_CONV && desc->op != CNN_OP_GROUP_CONV && desc->op != CNN_OP_LINEAR)
        return 0;
    int32_t p = cnn_window_count(src->h, weight->h, desc->stride, desc->pad);
    int32_t q = cnn_window_count(src->w, weight->w, desc->stride, desc->pad);
    return (int64_t)src->n * p * q * cnn_desc_elements(weight);
}

/* An instruction's result, brought to the host where the device has memory of its own. */
static cnn_status fetch_result(cnn_session *session, const cnn_program *program, int buffer, const void **values)
{
    size_t bytes = cnn_desc_bytes(&program->buffers[buffer].desc);
    const void *source = cnn_session_pointer(session, program, buffer);
    if (session->backend->host_memory) {
        *values = source;
        return CNN_OK;
    }
    if (bytes > session->traced_bytes) {
        cnn_aligned_free(session->traced);
        session->traced_bytes = 0;
        session->traced = cnn_aligned_alloc(bytes);
        if (!session->traced)
            return CNN_ERR_MEMORY;
        session->traced_bytes = bytes;
    }
    *values = session->traced;
    return cnn_session_download(session, session->traced, source, bytes);
}

cnn_status cnn_session_show(cnn_session *session, const cnn_program *program, int number, double seconds)
{
    const cnn_instruction *instruction = &program->instructions[number];
    const int weight = instruction->arg[CNN_ARG_WEIGHT], dst = instruction->arg[CNN_ARG_DST], node = instruction->node;
    cnn_trace trace = {.instruction = number,
                       .instructions = program->instruction_count,
                       .node = node,
                       .whole = node >= 0 && dst >= 0 && program->value[node] == dst,
                       .layer = node_name(session, weight >= 0 ? program->buffers[weight].node : node),
                       .ends_in = node_name(session, node),
                       .desc = &instruction->desc,
                       .kernel = instruction->kernel->name,
                       .macs = count_macs(&instruction->desc),
                       .seconds = seconds};
    if (session->trace_values && dst >= 0) {
        cnn_status status = fetch_result(session, program, dst, &trace.dst);
        if (status != CNN_OK)
            return status;
    }
    return session->trace(session->trace_context, &trace);
}
