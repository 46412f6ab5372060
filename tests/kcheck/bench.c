/* kcheck --bench: the convnet's convolutions and its large linear layer, timed on each device.
 *
 * The first device (the portable level) gives the results that the others must agree with.
 * A time is the median of repeated runs. Shares are of the best instruction set of the machine, whatever the level. */
#include "tests/kcheck/kcheck.h"

#include "core/error.h"
#include "core/pool.h"
#include "tests/kcheck/tensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_RUNS = 50 };
static const double seconds_per_case = 0.5;

typedef struct layer {
    const char *name;
    int32_t h, w, c, k, r, stride, pad; /* r = 0: linear */
} layer;

static const layer layers[] = {
    {"conv1", 28, 28, 1, 128, 5, 1, 2},
    {"conv2", 14, 14, 128, 256, 5, 1, 2},
    {"fc1", 7, 7, 256, 512, 0, 1, 0},
};

typedef enum pass { FORWARD, DGRAD, WGRAD, PASS_COUNT } pass;

typedef struct bench {
    kc_device *devices;
    int device_count;
    uint64_t seed;
    double peak_f32, peak_i8;
    double peak_amx_bf16, peak_amx_i8; /* 0 without AMX */
    int above_peak;                    /* shares over 100 %: the peak was measured too low */
    int failed;
} bench;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- Descriptors ---- */

static cnn_op op_of(const layer *l, pass what)
{
    static const cnn_op conv[] = {CNN_OP_CONV, CNN_OP_CONV_DGRAD, CNN_OP_CONV_WGRAD};
    static const cnn_op linear[] = {CNN_OP_LINEAR, CNN_OP_LINEAR_DGRAD, CNN_OP_LINEAR_WGRAD};
    return l->r ? conv[what] : linear[what];
}

static void describe(kc_case *test, const layer *l, pass what, cnn_dtype dtype, int32_t batch)
{
    cnn_op_desc *desc = &test->desc;
    int32_t r = l->r ? l->r : l->h, s = l->r ? l->r : l->w, pad = l->r ? l->pad : 0;
    int32_t p = cnn_window_count(l->h, r, l->stride, pad), q = cnn_window_count(l->w, s, l->stride, pad);
    cnn_tensor_desc x = cnn_desc(dtype, batch, l->h, l->w, l->c), w = cnn_desc(dtype, l->k, r, s, l->c);
    cnn_tensor_desc y = cnn_desc(dtype, batch, p, q, l->k);
    desc->op = op_of(l, what);
    desc->stride = l->stride;
    desc->pad = pad;
    desc->arg[CNN_ARG_SRC] = what == DGRAD ? y : x;
    if (what == WGRAD)
        desc->arg[CNN_ARG_SRC2] = y;
    else
        desc->arg[CNN_ARG_WEIGHT] = w;
    desc->arg[CNN_ARG_DST] = what == FORWARD ? y : what == DGRAD ? x : w;
    if (what == WGRAD)
        desc->arg[CNN_ARG_DST].dtype = CNN_F32;
    test->pad_to[CNN_ARG_SRC] = test->pad_to[CNN_ARG_SRC2] = test->pad_to[CNN_ARG_DST] = 1;
    if (what == WGRAD)
        test->pad_to[CNN_ARG_DST] = 0;
    test->agreement = dtype != CNN_I8 && l->r > 1 && l->c > 1 ? KC_TRANSFORM : KC_EXACT;
    if (dtype == CNN_I8) {
        desc->constant_weights = true;
        desc->epilogue[desc->epilogue_count++] = CNN_EPILOGUE_REQUANTIZE;
        desc->arg[CNN_ARG_BIAS] = cnn_desc_vector(CNN_I32, l->k);
        desc->arg[CNN_ARG_MULT] = cnn_desc_vector(CNN_F32, l->k);
        desc->hi = 127;
    }
}

static cnn_status fill(kc_case *test, bool i8)
{
    kc_random random = {test->seed};
    for (int role = 0; role < CNN_ARG_DST; role++) {
        const cnn_tensor_desc *arg = &test->desc.arg[role];
        kc_fill values = i8 ? kc_ints(-127, 127) : kc_ints(-3, 3);
        if (role == CNN_ARG_MULT)
            values = kc_real(1e-4, 1e-3);
        if (arg->dtype != CNN_NONE)
            test->in[role] = kc_fill_values(&values, arg, &random);
        if (arg->dtype != CNN_NONE && !test->in[role])
            return cnn_error(CNN_ERR_MEMORY, "kcheck: out of memory");
    }
    return CNN_OK;
}

/* Multiply-adds, two operations each. */
static double operations(const layer *l, int32_t batch)
{
    double taps = l->r ? (double)l->r * l->r * l->c : (double)l->h * l->w * l->c;
    double pixels =
        l->r ? (double)cnn_window_count(l->h, l->r, l->stride, l->pad) * cnn_window_count(l->w, l->r, l->stride, l->pad)
             : 1;
    return 2 * taps * pixels * l->k * batch;
}

/* ---- One device ---- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median of some runs, in seconds. */
static cnn_status time_kernel(cnn_kernel *kernel, void **args, void *workspace, kc_device *on, double *median)
{
    cnn_status status = CNN_OK;
    double times[MAX_RUNS];
    int count = 0;
    double start = seconds(), before = start;
    do {
        CNN_TRY(kernel->run(kernel, args, workspace));
        CNN_TRY(on->backend->sync(on->device));
        double now = seconds();
        times[count++] = now - before;
        before = now;
    } while (count < MAX_RUNS && (count < 3 || before - start < seconds_per_case));
    qsort(times, (size_t)count, sizeof *times, ascending);
    *median = times[count / 2];
out:
    return status;
}

/* Compares with what the first device gave, or becomes that. Whole numbers make float sums exact, but those of kernels
 * that transform are not: each may err by 1e-5 of the rms. */
static cnn_status compare(kc_case *test, kc_tensor *dst)
{
    const double rms_share = 2e-5;
    const cnn_tensor_desc *desc = &test->desc.arg[CNN_ARG_DST];
    cnn_status status = CNN_OK;
    double *got = kc_tensor_get(dst), *want = test->want[CNN_ARG_DST];
    const bool exact = test->agreement == KC_EXACT;
    double squares = 0, errors = 0, allowed = 0;
    if (!got)
        CNN_FAIL(CNN_ERR_MEMORY, "kcheck: out of memory");
    if (!want) {
        test->want[CNN_ARG_DST] = got;
        return CNN_OK;
    }
    for (int64_t i = 0; i < cnn_desc_elements(desc); i++) {
        const double rounding = 2 * kc_half_ulp(desc->dtype, fabs(want[i]));
        if (exact && got[i] != want[i])
            CNN_FAIL(CNN_ERR_NUMERIC, "element %lld is %g and %g on the first device", (long long)i, got[i], want[i]);
        squares += want[i] * want[i];
        errors += (got[i] - want[i]) * (got[i] - want[i]);
        allowed += rounding * rounding;
    }
    if (!(sqrt(errors) <= rms_share * sqrt(squares) + sqrt(allowed)))
        CNN_FAIL(CNN_ERR_NUMERIC, "the rms of the difference from the first device is %.2g of the values'",
                 sqrt(errors / squares));
out:
    free(got);
    return status;
}

/* What one device did. */
typedef struct result {
    double time, bytes; /* median in s; what its tensors hold */
    char kernel[64];
} result;

/* Checks and times one device. */
static cnn_status run_device(kc_case *test, kc_device *on, result *r)
{
    cnn_status status = CNN_OK;
    cnn_op_desc desc = kc_device_desc(test, on, false);
    kc_tensor tensor[CNN_ARG_COUNT] = {0}, workspace = {0};
    void *args[CNN_ARG_COUNT] = {0};
    cnn_kernel *kernel = NULL;
    cnn_tensor_desc none = {0};
    char why[CNN_REASON_BYTES] = "";

    if (on->backend->prepare(on->device, &desc, &kernel, why) != CNN_OK)
        CNN_FAIL(CNN_ERR_UNSUPPORTED, "refused: %s", why);
    for (int role = 0; role < CNN_ARG_COUNT; role++) {
        if (desc.arg[role].dtype == CNN_NONE)
            continue;
        CNN_TRY(
            kc_tensor_open(&tensor[role], &desc.arg[role], cnn_desc_bytes(&desc.arg[role]), on->backend, on->device));
        if (test->in[role])
            kc_tensor_set(&tensor[role], test->in[role]);
        CNN_TRY(kc_tensor_upload(&tensor[role], on->backend, on->device));
        args[role] = kc_pointer(&tensor[role]);
        r->bytes += (double)tensor[role].bytes;
    }
    CNN_TRY(kc_tensor_open(&workspace, &none, kernel->workspace_bytes, on->backend, on->device));
    if (desc.constant_weights && kernel->pack)
        CNN_TRY(kernel->pack(kernel, args[CNN_ARG_WEIGHT]));
    CNN_TRY(kernel->run(kernel, args, kc_pointer(&workspace)));
    CNN_TRY(kc_tensor_download(&tensor[CNN_ARG_DST], on->backend, on->device));
    CNN_TRY(compare(test, &tensor[CNN_ARG_DST]));
    CNN_TRY(time_kernel(kernel, args, kc_pointer(&workspace), on, &r->time));
    snprintf(r->kernel, sizeof r->kernel, "%s", kernel->name);
out:
    if (kernel)
        kernel->destroy(kernel);
    for (int role = 0; role < CNN_ARG_COUNT; role++)
        kc_tensor_close(&tensor[role], on->backend, on->device);
    kc_tensor_close(&workspace, on->backend, on->device);
    return status;
}

/* ---- All ---- */

static double peak_of(const bench *b, cnn_dtype dtype, const char *kernel)
{
    if (strstr(kernel, "_amx"))
        return dtype == CNN_I8 ? b->peak_amx_i8 : b->peak_amx_bf16;
    return dtype == CNN_I8 ? b->peak_i8 : b->peak_f32;
}

static void run_case(bench *b, const layer *l, pass what, cnn_dtype dtype, int32_t batch)
{
    static const char *const names[] = {"", "_dgrad", "_wgrad"};
    kc_case test = {.seed = b->seed};
    double first = 0;
    describe(&test, l, what, dtype, batch);
    if (fill(&test, dtype == CNN_I8) != CNN_OK) {
        printf("FAILED %s\n", cnn_last_error());
        b->failed++;
        b->device_count = 0;
    }
    for (int i = 0; i < b->device_count; i++) {
        result r = {0};
        char label[KC_LABEL_BYTES];
        snprintf(label, sizeof label, "%s%s %s x%d", l->name, names[what], cnn_dtype_name(dtype), batch);
        printf("%-22s %-15s", label, b->devices[i].label);
        if (run_device(&test, &b->devices[i], &r) != CNN_OK) {
            printf(" FAILED %s\n", cnn_last_error());
            b->failed++;
            continue;
        }
        double rate = operations(l, batch) / r.time * 1e-9, peak = peak_of(b, dtype, r.kernel);
        /* does fewer operations than are counted */
        bool transforms = strstr(r.kernel, "winograd") || strstr(r.kernel, "_direct_");
        first = i == 0 ? r.time : first;
        b->above_peak += peak > 0 && rate > peak && !transforms;
        printf(" %9.3f ms %8.1f GFLOP/s %6.2f GB/s %5.1f %% of peak %6.1fx  %s\n", r.time * 1e3, rate,
               r.bytes / r.time * 1e-9, peak > 0 ? 100 * rate / peak : 0, first > 0 ? first / r.time : 0, r.kernel);
        fflush(stdout);
    }
    kc_case_free(&test);
}

int kc_bench(kc_device *devices, int device_count, uint64_t seed)
{
    static const cnn_dtype floats[] = {CNN_F32, CNN_F16, CNN_BF16};
    bench b = {.devices = devices, .device_count = device_count, .seed = seed};
    int threads = cnn_get_threads();
    b.peak_f32 = kc_peak_f32() * threads;
    b.peak_i8 = kc_peak_i8() * threads;
    for (int i = 0; i < device_count; i++)
        if (strcmp(devices[i].label, "cpu/amx") == 0) {
            b.peak_amx_bf16 = kc_peak_amx(CNN_BF16) * threads;
            b.peak_amx_i8 = kc_peak_amx(CNN_I8) * threads;
        }
    printf("%d threads; peak = one thread's measured peak x threads: %.0f GFLOP/s f32, %.0f GOP/s i8", threads,
           b.peak_f32, b.peak_i8);
    if (b.peak_amx_i8 > 0)
        printf("; amx %.0f GFLOP/s bf16, %.0f GOP/s i8", b.peak_amx_bf16, b.peak_amx_i8);
    printf("\n");
    printf("x: over %s; counted are all operations of the direct sum: winograd and direct, which skips padding, do "
           "fewer\n",
           devices[0].label);
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++)
        for (int32_t batch = 64; batch >= 1; batch -= 63) {
            for (size_t d = 0; d < sizeof floats / sizeof floats[0]; d++)
                for (int what = FORWARD; what < (batch == 1 ? DGRAD : PASS_COUNT); what++)
                    run_case(&b, &layers[i], (pass)what, floats[d], batch);
            run_case(&b, &layers[i], FORWARD, CNN_I8, batch);
        }
    if (b.above_peak > 0)
        printf(
            "%d shares are over 100 %%: the peak was measured too low, so no share above can be trusted; the machine "
            "may have been busy\n",
            b.above_peak);
    return b.failed;
}
