/* Fusion: element-wise ops, sums and pooling move into the convolution, linear op or batch norm of inference that makes
 * their input, the ReLU behind a sum of INT8 into that; in training, ReLU and max-pooling into the batch norm or the
 * convolution before them, the gradient of that pooling into the convolution's, a ReLU's gradient into the linear
 * layer's behind it, and running statistics into the op that finds overflows.
 *
 * An op is merged when it is the only reader of the value, directly computes the next one from it, and the backend
 * says that it has a kernel for the merged descriptor. */
#include "core/program.h"

#include <string.h>

static bool takes_epilogue(cnn_op op)
{
    return op == CNN_OP_CONV || op == CNN_OP_GROUP_CONV || op == CNN_OP_LINEAR || op == CNN_OP_BN_INFER;
}

/* How many arguments read `buffer`; the first `most` of their instructions go to reader[]. */
static int find_readers(const cnn_program *program, int buffer, int most, int *reader)
{
    int count = 0;
    for (int i = 0; i < program->instruction_count; i++) {
        const cnn_op_info *info = cnn_op_info_get(program->instructions[i].desc.op);
        for (int role = 0; role < CNN_ARG_COUNT; role++) {
            if (program->instructions[i].arg[role] != buffer || !(info->use[role] & CNN_USE_READ))
                continue;
            if (count < most)
                reader[count] = i;
            count++;
        }
    }
    return count;
}

/* The only instruction that reads `buffer`, or -1 when there are none or several. */
static int only_reader(const cnn_program *program, int buffer)
{
    int reader = -1;
    return find_readers(program, buffer, 1, &reader) == 1 ? reader : -1;
}

static void remove_instruction(cnn_program *program, int i)
{
    memmove(&program->instructions[i], &program->instructions[i + 1],
            sizeof *program->instructions * (size_t)(program->instruction_count - i - 1));
    program->instruction_count--;
}

/* `buffer` is not made any more: when it is the value of a node, or of those behind it that hand it on, they have none.
 */
static void forget_value(cnn_program *program, int node, int buffer)
{
    for (; node < program->node_count; node++)
        if (program->value[node] == buffer)
            program->value[node] = -1;
}

/* ---- Behind convolutions, linear ops, batch norms of inference ---- */

static cnn_epilogue_kind epilogue_of(const cnn_instruction *instruction)
{
    switch (instruction->desc.op) {
    case CNN_OP_RELU: /* of int8: the lower end of what requantizes, or an op of its own */
        return instruction->desc.arg[CNN_ARG_SRC].dtype == CNN_I8 ? CNN_EPILOGUE_NONE : CNN_EPILOGUE_RELU;
    case CNN_OP_CLIP:
        return instruction->desc.arg[CNN_ARG_SRC].dtype == CNN_I8 ? CNN_EPILOGUE_NONE : CNN_EPILOGUE_CLIP;
    case CNN_OP_REQUANTIZE:
        return CNN_EPILOGUE_REQUANTIZE;
    case CNN_OP_DEQUANTIZE:
        return CNN_EPILOGUE_DEQUANTIZE;
    case CNN_OP_MAXPOOL:
        return instruction->arg[CNN_ARG_INDEX] < 0 && instruction->desc.pad == 0 ? CNN_EPILOGUE_MAXPOOL
                                                                                 : CNN_EPILOGUE_NONE;
    default:
        return CNN_EPILOGUE_NONE;
    }
}

/* Whether a chain may go on with a step (cnn/ops.h): each kind of step comes once, in this order. Backends may rely on
 * it: some look for the kinds of a chain, not at how often they come. */
static bool may_follow(const cnn_op_desc *desc, cnn_epilogue_kind kind)
{
    static const int place[] = {
        [CNN_EPILOGUE_NONE] = 9,    [CNN_EPILOGUE_BIAS] = 1,       [CNN_EPILOGUE_ADD] = 2,
        [CNN_EPILOGUE_RELU] = 3,    [CNN_EPILOGUE_CLIP] = 3,       [CNN_EPILOGUE_REQUANTIZE] = 3,
        [CNN_EPILOGUE_MAXPOOL] = 4, [CNN_EPILOGUE_DEQUANTIZE] = 5, [CNN_EPILOGUE_RELU_GRAD] = 5,
    };
    return desc->epilogue_count == 0 || place[desc->epilogue[desc->epilogue_count - 1]] < place[kind];
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
    if (kind == CNN_EPILOGUE_REQUANTIZE || kind == CNN_EPILOGUE_CLIP) {
        merged.desc.lo = second->desc.lo;
        merged.desc.hi = second->desc.hi;
    }
    if (kind == CNN_EPILOGUE_MAXPOOL) {
        merged.desc.pool_kernel = second->desc.kernel;
        merged.desc.pool_stride = second->desc.stride;
    }
    return merged;
}

/* The other summand when `sum` adds `value` to something that was there before instruction i; else -1. */
static int other_summand(const cnn_program *program, const cnn_instruction *sum, int value, int i)
{
    const int a = sum->arg[CNN_ARG_SRC], b = sum->arg[CNN_ARG_SRC2], other = a == value ? b : a;
    if (sum->desc.op != CNN_OP_ADD || sum->desc.arg[CNN_ARG_SRC].dtype == CNN_I8 || a == b)
        return -1;
    for (int j = i; &program->instructions[j] < sum; j++)
        if (program->instructions[j].arg[CNN_ARG_DST] == other)
            return -1;
    return other;
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
    const int other = first->desc.op == CNN_OP_BN_INFER ? -1 : other_summand(program, second, value, i);
    cnn_epilogue_kind kind = other >= 0 ? CNN_EPILOGUE_ADD : epilogue_of(second);
    if (kind == CNN_EPILOGUE_NONE || !may_follow(&first->desc, kind) ||
        (other < 0 && second->arg[CNN_ARG_SRC] != value))
        return false;
    cnn_instruction merged = merge(first, second, kind);
    if (other >= 0) {
        merged.arg[CNN_ARG_SRC2] = other;
        merged.desc.arg[CNN_ARG_SRC2] = program->buffers[other].desc;
    }
    if (backend->prepare(device, &merged.desc, NULL, NULL) != CNN_OK)
        return false;
    forget_value(program, first->node, value);
    *first = merged;
    remove_instruction(program, j);
    return true;
}

/* ---- Batch norm, ReLU and max-pooling of a training step ---- */

/* Instructions by number, in the order in which they run. */
typedef struct pooled_bn {
    int bn, relu, pool, pool_grad, relu_grad, bn_grad;
} pooled_bn;

/* The instruction `op` that alone reads, as `role`, what instruction i writes as `from`, a temporary; or -1. */
static int follow(const cnn_program *program, int i, cnn_arg from, cnn_op op, cnn_arg role)
{
    int buffer = i < 0 ? -1 : program->instructions[i].arg[from];
    if (buffer < 0 || program->buffers[buffer].place != CNN_PLACE_ARENA)
        return -1;
    int reader = only_reader(program, buffer);
    return reader >= 0 && program->instructions[reader].desc.op == op &&
                   program->instructions[reader].arg[role] == buffer
               ? reader
               : -1;
}

/* The pooling and the gradient that read what the ReLU writes, and nobody else. */
static bool find_relu_readers(const cnn_program *program, pooled_bn *found)
{
    int reader[2], y = program->instructions[found->relu].arg[CNN_ARG_DST];
    if (program->buffers[y].place != CNN_PLACE_ARENA || find_readers(program, y, 2, reader) != 2)
        return false;
    found->pool = reader[0];
    found->relu_grad = reader[1];
    return program->instructions[reader[0]].desc.op == CNN_OP_MAXPOOL &&
           program->instructions[reader[0]].desc.pad == 0 &&
           program->instructions[reader[1]].desc.op == CNN_OP_RELU_GRAD &&
           program->instructions[reader[1]].arg[CNN_ARG_SRC] == y;
}

static bool find_pooled_bn(const cnn_program *program, int bn, pooled_bn *found)
{
    const cnn_instruction *list = program->instructions;
    found->bn = bn;
    found->relu = follow(program, bn, CNN_ARG_DST, CNN_OP_RELU, CNN_ARG_SRC);
    if (list[bn].desc.op != CNN_OP_BN_TRAIN || found->relu < 0 || !find_relu_readers(program, found))
        return false;
    found->pool_grad = follow(program, found->pool, CNN_ARG_INDEX, CNN_OP_MAXPOOL_GRAD, CNN_ARG_INDEX);
    found->bn_grad = follow(program, found->relu_grad, CNN_ARG_DST, CNN_OP_BN_GRAD, CNN_ARG_SRC2);
    return found->bn_grad >= 0 && found->pool_grad >= 0 &&
           follow(program, found->pool_grad, CNN_ARG_DST, CNN_OP_RELU_GRAD, CNN_ARG_SRC2) == found->relu_grad &&
           list[found->bn_grad].arg[CNN_ARG_INVSTD] == list[bn].arg[CNN_ARG_INVSTD];
}

/* `into` takes an argument of `from`. */
static void take(cnn_instruction *into, const cnn_instruction *from, cnn_arg role)
{
    into->arg[role] = from->arg[role];
    into->desc.arg[role] = from->desc.arg[role];
}

/* Batch norm i, its ReLU and pooling become one op, and the three gradients another. Both or none: the index that the
 * first leaves behind tells what the ReLU cut off too. */
static void merge_pooled_bn(cnn_program *program, int i, const cnn_backend *backend, cnn_device *device)
{
    pooled_bn found;
    if (!find_pooled_bn(program, i, &found))
        return;
    cnn_instruction *list = program->instructions;
    const cnn_instruction *pool = &list[found.pool], *pool_grad = &list[found.pool_grad];
    cnn_instruction forward = list[found.bn], backward = list[found.bn_grad];
    forward.node = pool->node;
    take(&forward, pool, CNN_ARG_DST);
    take(&forward, pool, CNN_ARG_INDEX);
    take(&backward, pool_grad, CNN_ARG_INDEX);
    take(&backward, pool_grad, CNN_ARG_SRC2);
    forward.desc.epilogue[forward.desc.epilogue_count++] = CNN_EPILOGUE_RELU;
    forward.desc.epilogue[forward.desc.epilogue_count++] = CNN_EPILOGUE_MAXPOOL;
    forward.desc.pool_kernel = backward.desc.pool_kernel = pool->desc.kernel;
    forward.desc.pool_stride = backward.desc.pool_stride = pool->desc.stride;
    if (backend->prepare(device, &forward.desc, NULL, NULL) != CNN_OK ||
        backend->prepare(device, &backward.desc, NULL, NULL) != CNN_OK)
        return;
    forget_value(program, list[found.bn].node, list[found.bn].arg[CNN_ARG_DST]);
    forget_value(program, list[found.relu].node, list[found.relu].arg[CNN_ARG_DST]);
    list[found.bn] = forward;
    list[found.bn_grad] = backward;
    remove_instruction(program, found.relu_grad);
    remove_instruction(program, found.pool_grad);
    remove_instruction(program, found.pool);
    remove_instruction(program, found.relu);
}

/* ---- Convolution, ReLU and max-pooling of a training step ---- */

/* The gradients of a convolution take that of the pooling i before them, so that the wide gradient, most of it 0, is
 * never written: all that read it, or none. */
static void merge_pool_grad(cnn_program *program, int i, const cnn_backend *backend, cnn_device *device)
{
    cnn_instruction *list = program->instructions, merged[2];
    const cnn_instruction *pool_grad = &list[i];
    int reader[2];
    const int count = find_readers(program, pool_grad->arg[CNN_ARG_DST], 2, reader);
    if (count < 1 || count > 2 || program->buffers[pool_grad->arg[CNN_ARG_DST]].place != CNN_PLACE_ARENA)
        return;
    for (int j = 0; j < count; j++) {
        const cnn_arg role = list[reader[j]].desc.op == CNN_OP_CONV_DGRAD ? CNN_ARG_SRC : CNN_ARG_SRC2;
        merged[j] = list[reader[j]];
        if ((merged[j].desc.op != CNN_OP_CONV_DGRAD && merged[j].desc.op != CNN_OP_CONV_WGRAD) ||
            merged[j].arg[role] != pool_grad->arg[CNN_ARG_DST])
            return;
        merged[j].arg[role] = pool_grad->arg[CNN_ARG_SRC2];
        merged[j].desc.arg[role] = pool_grad->desc.arg[CNN_ARG_SRC2];
        take(&merged[j], pool_grad, CNN_ARG_INDEX);
        merged[j].desc.pool_kernel = pool_grad->desc.kernel;
        merged[j].desc.pool_stride = pool_grad->desc.stride;
        if (backend->prepare(device, &merged[j].desc, NULL, NULL) != CNN_OK)
            return;
    }
    for (int j = 0; j < count; j++)
        list[reader[j]] = merged[j];
    remove_instruction(program, i);
}

/* A convolution that ends in a ReLU takes the pooling behind it; the index it leaves tells what the ReLU cut off, so
 * that the gradient of the pooling is that of the ReLU too. */
static void merge_pooled_conv(cnn_program *program, int i, const cnn_backend *backend, cnn_device *device)
{
    cnn_instruction *list = program->instructions;
    pooled_bn found = {.relu = i};
    const int steps = list[i].desc.epilogue_count;
    if (list[i].desc.op != CNN_OP_CONV || steps == 0 || steps == CNN_MAX_EPILOGUE ||
        list[i].desc.epilogue[steps - 1] != CNN_EPILOGUE_RELU || !find_relu_readers(program, &found))
        return;
    found.pool_grad = follow(program, found.pool, CNN_ARG_INDEX, CNN_OP_MAXPOOL_GRAD, CNN_ARG_INDEX);
    if (found.pool_grad < 0 ||
        follow(program, found.pool_grad, CNN_ARG_DST, CNN_OP_RELU_GRAD, CNN_ARG_SRC2) != found.relu_grad)
        return;
    const cnn_instruction *pool = &list[found.pool];
    cnn_instruction forward = list[i], backward = list[found.pool_grad];
    forward.node = pool->node;
    take(&forward, pool, CNN_ARG_DST);
    take(&forward, pool, CNN_ARG_INDEX);
    forward.desc.epilogue[forward.desc.epilogue_count++] = CNN_EPILOGUE_MAXPOOL;
    forward.desc.pool_kernel = pool->desc.kernel;
    forward.desc.pool_stride = pool->desc.stride;
    backward.node = list[found.relu_grad].node;
    take(&backward, &list[found.relu_grad], CNN_ARG_DST);
    if (backend->prepare(device, &forward.desc, NULL, NULL) != CNN_OK)
        return;
    forget_value(program, list[i].node, list[i].arg[CNN_ARG_DST]);
    list[i] = forward;
    list[found.pool_grad] = backward;
    remove_instruction(program, found.relu_grad);
    merge_pool_grad(program, found.pool_grad, backend, device);
    remove_instruction(program, found.pool);
}

/* ---- Sums of INT8 and the ReLU behind them ---- */

/* A sum and its ReLU have one scale, so what is cut off at -127 and then at 0 is cut off at 0; so is the other end. */
static void merge_add_relu(cnn_program *program, int i, const cnn_backend *backend, cnn_device *device)
{
    cnn_instruction *list = program->instructions;
    const bool sum = list[i].desc.op == CNN_OP_ADD && list[i].desc.arg[CNN_ARG_SRC].dtype == CNN_I8;
    int relu = sum ? follow(program, i, CNN_ARG_DST, CNN_OP_RELU, CNN_ARG_SRC) : -1;
    if (sum && relu < 0)
        relu = follow(program, i, CNN_ARG_DST, CNN_OP_CLIP, CNN_ARG_SRC);
    if (relu < 0)
        return;
    cnn_instruction merged = list[i];
    merged.node = list[relu].node;
    take(&merged, &list[relu], CNN_ARG_DST);
    merged.desc.lo = 0.0f;
    if (list[relu].desc.op == CNN_OP_CLIP)
        merged.desc.hi = list[relu].desc.hi;
    if (backend->prepare(device, &merged.desc, NULL, NULL) != CNN_OK)
        return;
    forget_value(program, list[i].node, list[i].arg[CNN_ARG_DST]);
    list[i] = merged;
    remove_instruction(program, relu);
}

/* ---- The gradient of a ReLU and of the linear layer that reads it ---- */

static void merge_relu_grad(cnn_program *program, int i, const cnn_backend *backend, cnn_device *device)
{
    cnn_instruction *list = program->instructions;
    int relu =
        list[i].desc.op == CNN_OP_LINEAR_DGRAD ? follow(program, i, CNN_ARG_DST, CNN_OP_RELU_GRAD, CNN_ARG_SRC2) : -1;
    if (relu < 0)
        return;
    cnn_instruction merged = list[i];
    merged.node = list[relu].node;
    merged.arg[CNN_ARG_SRC2] = list[relu].arg[CNN_ARG_SRC];
    merged.desc.arg[CNN_ARG_SRC2] = list[relu].desc.arg[CNN_ARG_SRC];
    take(&merged, &list[relu], CNN_ARG_DST);
    merged.desc.epilogue[merged.desc.epilogue_count++] = CNN_EPILOGUE_RELU_GRAD;
    if (backend->prepare(device, &merged.desc, NULL, NULL) != CNN_OK)
        return;
    list[relu] = merged;
    remove_instruction(program, i);
}

/* ---- The end of a step ---- */

/* Running statistics are updated where it is found out whether the step counts. */
static void merge_bn_update(cnn_program *program, int i, const cnn_backend *backend, cnn_device *device)
{
    cnn_instruction *list = program->instructions;
    int update = i + 1;
    if (list[i].desc.op != CNN_OP_GRAD_STATS)
        return;
    while (update < program->instruction_count && list[update].desc.op != CNN_OP_BN_UPDATE)
        update++;
    if (update == program->instruction_count)
        return;
    cnn_instruction merged = list[i];
    merged.arg[CNN_ARG_SRC2] = list[update].arg[CNN_ARG_SRC];
    merged.arg[CNN_ARG_DST2] = list[update].arg[CNN_ARG_DST];
    merged.desc.arg[CNN_ARG_SRC2] = list[update].desc.arg[CNN_ARG_SRC];
    merged.desc.arg[CNN_ARG_DST2] = list[update].desc.arg[CNN_ARG_DST];
    merged.desc.momentum = list[update].desc.momentum;
    if (backend->prepare(device, &merged.desc, NULL, NULL) != CNN_OK)
        return;
    list[i] = merged;
    remove_instruction(program, update);
}

cnn_status cnn_program_fuse(cnn_program *program, const cnn_backend *backend, cnn_device *device)
{
    for (int i = 0; i < program->instruction_count; i++)
        if (takes_epilogue(program->instructions[i].desc.op))
            while (merge_next(program, i, backend, device)) {
            }
    for (int i = 0; i < program->instruction_count; i++) {
        merge_pooled_bn(program, i, backend, device);
        merge_pooled_conv(program, i, backend, device);
        merge_add_relu(program, i, backend, device);
    }
    for (int i = program->instruction_count - 1; i >= 0; i--) { /* what goes moves only what was looked at */
        merge_bn_update(program, i, backend, device);
        merge_relu_grad(program, i, backend, device);
    }
    return CNN_OK;
}
