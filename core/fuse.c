/* Fusion: element-wise ops and pooling move into the convolution or linear op that makes their input.
 *
 * An op is merged when it is the only reader of the value, directly computes the next one from it, and the backend
 * says that it has a kernel for the merged descriptor. */
#include "core/program.h"

#include <string.h>

static bool is_gemm(cnn_op op)
{
    return op == CNN_OP_CONV || op == CNN_OP_LINEAR;
}

/* The only instruction that reads `buffer`, or -1 when there are none or several. */
static int only_reader(const cnn_program *program, int buffer)
{
    int reader = -1;
    for (int i = 0; i < program->instruction_count; i++) {
        const cnn_op_info *info = cnn_op_info_get(program->instructions[i].desc.op);
        for (int role = 0; role < CNN_ARG_COUNT; role++) {
            if (program->instructions[i].arg[role] != buffer || !(info->use[role] & CNN_USE_READ))
                continue;
            if (reader >= 0)
                return -1;
            reader = i;
        }
    }
    return reader;
}

static cnn_epilogue_kind epilogue_of(const cnn_instruction *instruction)
{
    switch (instruction->desc.op) {
    case CNN_OP_RELU:
        return CNN_EPILOGUE_RELU;
    case CNN_OP_REQUANTIZE:
        return CNN_EPILOGUE_REQUANTIZE;
    case CNN_OP_DEQUANTIZE:
        return CNN_EPILOGUE_DEQUANTIZE;
    case CNN_OP_MAXPOOL:
        return instruction->arg[CNN_ARG_INDEX] < 0 ? CNN_EPILOGUE_MAXPOOL : CNN_EPILOGUE_NONE;
    default:
        return CNN_EPILOGUE_NONE;
    }
}

/* `first` with `second` appended as an epilogue. */
static cnn_instruction merge(const cnn_instruction *first, const cnn_instruction *second, cnn_epilogue_kind kind)
{
    static const cnn_arg moved[] = {CNN_ARG_BIAS, CNN_ARG_MULT, CNN_ARG_DST};
    cnn_instruction merged = *first;
    merged.node = second->node;
    merged.desc.epilogue[merged.desc.epilogue_count++] = kind;
    for (size_t i = 0; i < sizeof moved / sizeof moved[0]; i++)
        if (second->arg[moved[i]] >= 0) {
            merged.arg[moved[i]] = second->arg[moved[i]];
            merged.desc.arg[moved[i]] = second->desc.arg[moved[i]];
        }
    if (kind == CNN_EPILOGUE_REQUANTIZE) {
        merged.desc.lo = second->desc.lo;
        merged.desc.hi = second->desc.hi;
    }
    if (kind == CNN_EPILOGUE_MAXPOOL) {
        merged.desc.pool_kernel = second->desc.kernel;
        merged.desc.pool_stride = second->desc.stride;
    }
    return merged;
}

/* Merges one reader into instruction i; false when nothing more can be. */
static bool merge_next(cnn_program *program, int i, const cnn_backend *backend, cnn_device *device)
{
    cnn_instruction *first = &program->instructions[i];
    int value = first->arg[CNN_ARG_DST];
    int j = only_reader(program, value);
    if (j < 0 || first->desc.epilogue_count == CNN_MAX_EPILOGUE || program->buffers[value].place != CNN_PLACE_ARENA)
        return false;
    const cnn_instruction *second = &program->instructions[j];
    cnn_epilogue_kind kind = epilogue_of(second);
    if (kind == CNN_EPILOGUE_NONE || second->arg[CNN_ARG_SRC] != value)
        return false;
    cnn_instruction merged = merge(first, second, kind);
    if (backend->prepare(device, &merged.desc, NULL, NULL) != CNN_OK)
        return false;
    if (program->value[first->node] == value)
        program->value[first->node] = -1;
    *first = merged;
    memmove(&program->instructions[j], &program->instructions[j + 1],
            sizeof *program->instructions * (size_t)(program->instruction_count - j - 1));
    program->instruction_count--;
    return true;
}

cnn_status cnn_program_fuse(cnn_program *program, const cnn_backend *backend, cnn_device *device)
{
    for (int i = 0; i < program->instruction_count; i++)
        if (is_gemm(program->instructions[i].desc.op))
            while (merge_next(program, i, backend, device)) {
            }
    return CNN_OK;
}
