/* A small INT8 network, bytes to logits, through every instruction set level that this CPU has, with 1 and 2 threads
 * and batches of 1 and 5: each tensor is identical to the reference's, bit for bit. */
#include "cnn/backend.h"
#include "core/hash.h"
#include "core/pool.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 6, MOST_BATCH = 5, SIDE = 13, CLASSES = 10 };

static const char *const levels[] = {"portable", "avx2", "avxvnni", "avx512", "avx512vnni", "amx"};
enum { LEVELS = sizeof levels / sizeof levels[0] };

/* One op of the network; its SRC is the DST of the one before. */
typedef struct step {
    cnn_op_desc desc;
    void *arg[CNN_ARG_COUNT]; /* all but SRC and DST */
} step;

static uint64_t random_state;

static int random_int(int lo, int hi)
{
    return lo + (int)(cnn_splitmix64(random_state++) % (uint64_t)(hi - lo + 1));
}

static void *allocate(size_t bytes)
{
    void *memory = cnn_host_get()->alloc(bytes);
    ck_assert_ptr_nonnull(memory);
    memset(memory, 0x5A, bytes);
    return memory;
}

static void *random_bytes(int64_t count)
{
    int8_t *bytes = allocate((size_t)count);
    for (int64_t i = 0; i < count; i++) {
        int value = random_int(-127, 127);
        /* Many extreme values: sums of their products leave int16. */
        bytes[i] = (int8_t)(random_int(0, 3) ? value : value < 0 ? -127 : 127);
    }
    return bytes;
}

static void add_tensor(step *to, cnn_arg role, cnn_tensor_desc desc, void *data)
{
    to->desc.arg[role] = desc;
    to->arg[role] = data;
}

/* Weights, biases and multipliers for outputs of `depth` products: outputs then fill the int8 range and partly leave
 * it. */
static void add_parameters(step *to, cnn_tensor_desc weight)
{
    const int64_t depth = (int64_t)weight.h * weight.w * weight.c;
    int32_t *bias = allocate((size_t)weight.n * sizeof *bias);
    float *mult = allocate((size_t)weight.n * sizeof *mult);
    for (int32_t k = 0; k < weight.n; k++) {
        bias[k] = random_int(-20000, 20000);
        mult[k] = (float)random_int(500, 1500) / (90000.0f * sqrtf((float)depth));
    }
    add_tensor(to, CNN_ARG_WEIGHT, weight, random_bytes(depth * weight.n));
    add_tensor(to, CNN_ARG_BIAS, cnn_desc_vector(CNN_I32, weight.n), bias);
    add_tensor(to, CNN_ARG_MULT, cnn_desc_vector(CNN_F32, weight.n), mult);
}

static void set_epilogue(cnn_op_desc *desc, cnn_epilogue_kind kind, float lo)
{
    desc->epilogue[desc->epilogue_count++] = kind;
    desc->lo = lo;
    desc->hi = 127;
}

/* input -> conv 5x5 + pool 2 -> conv 3x3, signed -> pool 3, stride 2 -> linear -> linear to logits. Sizes are odd on
 * purpose. */
static void make_network(step net[STEPS], int batch)
{
    memset(net, 0, STEPS * sizeof *net);
    random_state = 7;
    const cnn_op ops[STEPS] = {CNN_OP_INPUT, CNN_OP_CONV, CNN_OP_CONV, CNN_OP_MAXPOOL, CNN_OP_LINEAR, CNN_OP_LINEAR};
    const cnn_tensor_desc dst[STEPS] = {
        cnn_desc(CNN_I8, batch, SIDE, SIDE, 1), cnn_desc(CNN_I8, batch, 6, 6, 37),
        cnn_desc(CNN_I8, batch, 6, 6, 50),      cnn_desc(CNN_I8, batch, 2, 2, 50),
        cnn_desc(CNN_I8, batch, 1, 1, 83),      cnn_desc(CNN_F32, batch, 1, 1, CLASSES),
    };
    for (int i = 0; i < STEPS; i++) {
        net[i].desc.op = ops[i];
        net[i].desc.stride = 1;
        net[i].desc.constant_weights = true;
        net[i].desc.arg[CNN_ARG_DST] = dst[i];
        if (i > 0)
            net[i].desc.arg[CNN_ARG_SRC] = dst[i - 1];
    }
    net[0].desc.arg[CNN_ARG_SRC] = cnn_desc(CNN_U8, batch, SIDE, SIDE, 1);
    add_tensor(&net[0], CNN_ARG_TABLE, cnn_desc(CNN_I8, 1, 1, 1, 256), random_bytes(256));

    net[1].desc.pad = 2;
    add_parameters(&net[1], cnn_desc(CNN_I8, 37, 5, 5, 1));
    set_epilogue(&net[1].desc, CNN_EPILOGUE_REQUANTIZE, 0);
    set_epilogue(&net[1].desc, CNN_EPILOGUE_MAXPOOL, 0);
    net[1].desc.pool_kernel = net[1].desc.pool_stride = 2;

    net[2].desc.pad = 1;
    add_parameters(&net[2], cnn_desc(CNN_I8, 50, 3, 3, 37));
    set_epilogue(&net[2].desc, CNN_EPILOGUE_REQUANTIZE, -127);

    net[3].desc.kernel = 3;
    net[3].desc.stride = 2;

    add_parameters(&net[4], cnn_desc(CNN_I8, 83, 2, 2, 50));
    set_epilogue(&net[4].desc, CNN_EPILOGUE_REQUANTIZE, 0);
    add_parameters(&net[5], cnn_desc(CNN_I8, CLASSES, 1, 1, 83));
    set_epilogue(&net[5].desc, CNN_EPILOGUE_DEQUANTIZE, 0);
}

static void free_network(step net[STEPS])
{
    for (int i = 0; i < STEPS; i++)
        for (int role = 0; role < CNN_ARG_COUNT; role++)
            cnn_host_get()->free(net[i].arg[role]);
}

static void run_step(const cnn_backend *backend, cnn_device *device, const step *from, void *src, void *dst)
{
    cnn_kernel *kernel = NULL;
    ck_assert_msg(backend->prepare(device, &from->desc, &kernel, NULL) == CNN_OK, "%s", cnn_last_error());
    void *workspace = allocate(kernel->workspace_bytes);
    void *args[CNN_ARG_COUNT];
    memcpy(args, from->arg, sizeof args);
    args[CNN_ARG_SRC] = src;
    args[CNN_ARG_DST] = dst;
    if (kernel->pack && args[CNN_ARG_WEIGHT]) {
        ck_assert_int_eq(kernel->pack(kernel, args[CNN_ARG_WEIGHT]), CNN_OK);
        args[CNN_ARG_WEIGHT] = NULL;
    }
    ck_assert_int_eq(kernel->run(kernel, args, workspace), CNN_OK);
    cnn_host_get()->free(workspace);
    kernel->destroy(kernel);
}

/* Runs the network; values[i] gets the output of step i. */
static void run_network(const cnn_backend *backend, const step net[STEPS], uint8_t *images, void *values[STEPS])
{
    cnn_device *device = NULL;
    ck_assert_msg(backend->open(cnn_host_get(), NULL, &device) == CNN_OK, "%s", cnn_last_error());
    void *src = images;
    for (int i = 0; i < STEPS; i++) {
        values[i] = allocate(cnn_desc_bytes(&net[i].desc.arg[CNN_ARG_DST]));
        run_step(backend, device, &net[i], src, values[i]);
        src = values[i];
    }
    backend->close(device);
}

static void free_values(void *values[STEPS])
{
    for (int i = 0; i < STEPS; i++)
        cnn_host_get()->free(values[i]);
}

/* False when this CPU or build lacks the level. */
static bool choose_level(const char *level)
{
    cnn_device *device = NULL;
    setenv("CNN_CPU_ISA", level, 1);
    cnn_status status = cnn_backend_cpu.open(cnn_host_get(), NULL, &device);
    ck_assert_msg(status == CNN_OK || status == CNN_ERR_UNSUPPORTED, "%s", cnn_last_error());
    if (status == CNN_OK)
        cnn_backend_cpu.close(device);
    return status == CNN_OK;
}

/* The reference is not trivial: its outputs take many values, and both ends of the range. */
static void check_spread(const step net[STEPS], void *const values[STEPS])
{
    for (int i = 1; i < STEPS - 1; i++) {
        const int8_t *value = values[i];
        bool seen[256] = {false};
        int different = 0;
        for (int64_t j = 0; j < cnn_desc_elements(&net[i].desc.arg[CNN_ARG_DST]); j++) {
            different += !seen[value[j] + 128];
            seen[value[j] + 128] = true;
        }
        ck_assert_int_ge(different, 30);
        ck_assert(seen[127 + 128]);
    }
}

static void check_batch(const char *level, int batch)
{
    step net[STEPS];
    void *expected[STEPS], *got[STEPS];
    uint8_t images[MOST_BATCH * SIDE * SIDE];
    make_network(net, batch);
    for (size_t i = 0; i < sizeof images; i++)
        images[i] = (uint8_t)random_int(0, 255);
    run_network(&cnn_backend_ref, net, images, expected);
    check_spread(net, expected);
    for (int threads = 1; threads <= 2; threads++) {
        ck_assert_int_eq(cnn_set_threads(threads), CNN_OK);
        run_network(&cnn_backend_cpu, net, images, got);
        for (int i = 0; i < STEPS; i++)
            ck_assert_msg(memcmp(expected[i], got[i], cnn_desc_bytes(&net[i].desc.arg[CNN_ARG_DST])) == 0,
                          "level %s, batch %d, %d threads: step %d differs from the reference", level, batch, threads,
                          i);
        free_values(got);
    }
    free_values(expected);
    free_network(net);
}

START_TEST(test_level)
{
    if (!choose_level(levels[_i]))
        return;
    check_batch(levels[_i], 1);
    check_batch(levels[_i], MOST_BATCH);
}
END_TEST

START_TEST(test_portable_is_everywhere)
{
    ck_assert(choose_level("portable"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("int8_isa");
    TCase *tests = tcase_create("int8_isa");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, test_portable_is_everywhere);
    tcase_add_loop_test(tests, test_level, 0, LEVELS);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
