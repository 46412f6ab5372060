/* One case on one device: prepares, runs three times, and looks at every byte.
 *
 * Runs 1 and 2 share a kernel; outputs and workspace hold 0xFF before the first and 0x5A before the second, so an
 * element that is not written, or scratch that is read before it is written, shows as a difference. Run 3 prepares
 * anew with another number of threads. */
#include "tests/kcheck/kcheck.h"

#include "core/error.h"
#include "core/pool.h"
#include "tests/kcheck/tensors.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS = 3, MANY_THREADS = 3 };
static const uint8_t prefill[RUNS] = {0xFF, 0x5A, 0xFF};

/* All that one check needs. */
typedef struct trial {
    const kc_case *test;
    kc_device *on;
    cnn_op_desc desc;
    kc_tensor tensor[CNN_ARG_COUNT];
    kc_tensor workspace;
    uint8_t *first[CNN_ARG_COUNT]; /* bytes of outputs after run 1 */
    char *text;
    size_t text_bytes;
    bool failed;
} trial;

/* Notes the first failure. */
static void fail(trial *t, const char *format, ...) CNN_PRINTF(2, 3);

static void fail(trial *t, const char *format, ...)
{
    if (t->failed)
        return;
    t->failed = true;
    va_list args;
    va_start(args, format);
    vsnprintf(t->text, t->text_bytes, format, args);
    va_end(args);
    size_t length = strlen(t->text);
    snprintf(t->text + length, t->text_bytes - length, "\n    ");
    length = strlen(t->text);
    cnn_op_desc_print(&t->desc, t->text + length, t->text_bytes - length);
}

static uint8_t use_of(const trial *t, int role)
{
    return t->desc.arg[role].dtype == CNN_NONE ? 0 : cnn_op_info_get(t->desc.op)->use[role];
}

static const char *role_name(int role)
{
    return cnn_arg_name((cnn_arg)role);
}

cnn_op_desc kc_device_desc(const kc_case *test, const kc_device *device, bool natural)
{
    cnn_op_desc desc = test->desc;
    for (int role = 0; role < CNN_ARG_COUNT; role++) {
        cnn_tensor_desc *arg = &desc.arg[role];
        if (arg->dtype == CNN_NONE || test->pad_to[role] == 0 || (natural && role == CNN_ARG_WEIGHT))
            continue;
        int32_t multiple = natural ? 1 : test->pad_to[role];
        int32_t align = device->backend->channel_align(device->device, arg->dtype);
        if (role != CNN_ARG_WEIGHT && multiple % align != 0)
            multiple *= align;
        arg->c_pad = (arg->c + multiple - 1) / multiple * multiple;
    }
    /* The index of a max-pooling is laid out as its small image is. */
    if (desc.op == CNN_OP_MAXPOOL && desc.arg[CNN_ARG_INDEX].dtype != CNN_NONE)
        desc.arg[CNN_ARG_INDEX].c_pad = desc.arg[CNN_ARG_DST].c_pad;
    if (desc.op == CNN_OP_MAXPOOL_GRAD)
        desc.arg[CNN_ARG_INDEX].c_pad = desc.arg[CNN_ARG_SRC2].c_pad;
    return desc;
}

/* ---- Memory ---- */

static cnn_status trial_open(trial *t)
{
    cnn_status status = CNN_OK;
    for (int role = 0; role < CNN_ARG_COUNT; role++) {
        const cnn_tensor_desc *arg = &t->desc.arg[role];
        if (arg->dtype == CNN_NONE)
            continue;
        kc_tensor *tensor = &t->tensor[role];
        CNN_TRY(kc_tensor_open(tensor, arg, cnn_desc_bytes(arg), t->on->backend, t->on->device));
        if (role == CNN_ARG_STATE)
            memcpy(kc_image(tensor), &t->test->state, sizeof t->test->state);
        else if (use_of(t, role) & CNN_USE_READ)
            kc_tensor_set(tensor, t->test->in[role]);
    }
out:
    return status;
}

static void trial_close(trial *t)
{
    for (int role = 0; role < CNN_ARG_COUNT; role++) {
        kc_tensor_close(&t->tensor[role], t->on->backend, t->on->device);
        free(t->first[role]);
    }
    kc_tensor_close(&t->workspace, t->on->backend, t->on->device);
}

/* Everything into device memory, outputs and workspace prefilled. */
static cnn_status upload(trial *t, int run)
{
    cnn_status status = CNN_OK;
    for (int role = 0; role < CNN_ARG_COUNT; role++) {
        if (!use_of(t, role))
            continue;
        if (use_of(t, role) == CNN_USE_WRITE)
            kc_tensor_prefill(&t->tensor[role], prefill[run]);
        CNN_TRY(kc_tensor_upload(&t->tensor[role], t->on->backend, t->on->device));
    }
    kc_tensor_prefill(&t->workspace, prefill[run]);
    CNN_TRY(kc_tensor_upload(&t->workspace, t->on->backend, t->on->device));
out:
    return status;
}

static cnn_status download(trial *t)
{
    cnn_status status = CNN_OK;
    for (int role = 0; role < CNN_ARG_COUNT; role++)
        if (use_of(t, role))
            CNN_TRY(kc_tensor_download(&t->tensor[role], t->on->backend, t->on->device));
    CNN_TRY(kc_tensor_download_guards(&t->workspace, t->on->backend, t->on->device));
out:
    return status;
}

/* ---- What must hold after each run ---- */

static void check_guards(trial *t, const kc_tensor *tensor, const char *name)
{
    int64_t at;
    if (kc_tensor_guard_hit(tensor, &at))
        fail(t, "wrote outside %s: byte %lld of %zu", name, (long long)at, tensor->bytes);
}

static void check_memory(trial *t)
{
    for (int role = 0; role < CNN_ARG_COUNT; role++) {
        const kc_tensor *tensor = &t->tensor[role];
        if (!use_of(t, role))
            continue;
        check_guards(t, tensor, role_name(role));
        if (use_of(t, role) == CNN_USE_READ && memcmp(kc_image(tensor), kc_after(tensor), tensor->bytes) != 0)
            fail(t, "changed its input %s", role_name(role));
    }
    check_guards(t, &t->workspace, "the workspace");
}

/* Padding channels of outputs hold 0. */
static void check_padding(trial *t, const kc_tensor *tensor, int role)
{
    const cnn_tensor_desc *desc = &tensor->desc;
    size_t element = cnn_dtype_bytes(desc->dtype);
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(desc); pixel++)
        for (size_t i = (size_t)desc->c * element; i < (size_t)desc->c_pad * element; i++)
            if (kc_after(tensor)[(size_t)(pixel * desc->c_pad) * element + i] != 0) {
                fail(t, "padding channels of %s are not 0 at pixel %lld", role_name(role), (long long)pixel);
                return;
            }
}

/* Bytes of outputs equal those of run 1. */
static void check_same(trial *t, const char *what)
{
    for (int role = 0; role < CNN_ARG_COUNT; role++) {
        if (!(use_of(t, role) & CNN_USE_WRITE))
            continue;
        const kc_tensor *tensor = &t->tensor[role];
        for (size_t i = 0; i < tensor->bytes; i++)
            if (kc_after(tensor)[i] != t->first[role][i]) {
                fail(t, "%s: %s differs in byte %zu (element %zu)", what, role_name(role), i,
                     i / cnn_dtype_bytes(tensor->desc.dtype));
                return;
            }
    }
}

static cnn_status keep_first(trial *t)
{
    for (int role = 0; role < CNN_ARG_COUNT; role++) {
        if (!(use_of(t, role) & CNN_USE_WRITE))
            continue;
        t->first[role] = malloc(t->tensor[role].bytes);
        if (!t->first[role])
            return CNN_ERR_MEMORY;
        memcpy(t->first[role], kc_after(&t->tensor[role]), t->tensor[role].bytes);
    }
    return CNN_OK;
}

/* ---- Values ---- */

/* Values from here on are rounded to infinity. */
static double overflow_limit(cnn_dtype dtype)
{
    return dtype == CNN_F16 ? 65520 : dtype == CNN_BF16 ? 0x1.FFp127 : INFINITY;
}

static bool agrees(double got, double want, double tolerance, cnn_dtype dtype)
{
    if (isnan(want) || isnan(got))
        return isnan(want) && isnan(got);
    if (isinf(got) && fabs(want) + tolerance >= overflow_limit(dtype))
        return signbit(got) == signbit(want);
    return got == want || fabs(got - want) <= tolerance;
}

/* The rms of DST's error, where the case bounds it. */
static void check_rms(trial *t, int role, const double *got)
{
    const double *want = t->test->want[role];
    const int64_t count = cnn_desc_elements(&t->test->desc.arg[role]);
    double squares = 0;
    if (role != CNN_ARG_DST || t->test->rms_tolerance <= 0)
        return;
    for (int64_t i = 0; i < count; i++)
        squares += (got[i] - want[i]) * (got[i] - want[i]);
    const double rms = sqrt(squares / (double)count);
    if (!(rms <= t->test->rms_tolerance))
        fail(t, "%s: the error's rms is %.3g, allowed %.3g", role_name(role), rms, t->test->rms_tolerance);
}

static void check_values(trial *t, int role)
{
    const cnn_tensor_desc *desc = &t->test->desc.arg[role];
    const double *want = t->test->want[role], *tolerance = t->test->tolerance[role];
    double *got = kc_tensor_get(&t->tensor[role]);
    if (!got) {
        fail(t, "kcheck: out of memory");
        return;
    }
    for (int64_t i = 0; i < cnn_desc_elements(desc) && !t->failed; i++) {
        double allowed = tolerance ? tolerance[i] : 0;
        if (agrees(got[i], want[i], allowed, desc->dtype))
            continue;
        int32_t c = (int32_t)(i % desc->c), w = (int32_t)(i / desc->c % desc->w);
        int32_t h = (int32_t)(i / desc->c / desc->w % desc->h), n = (int32_t)(i / desc->c / desc->w / desc->h);
        fail(t, "%s[%d,%d,%d,%d]: got %.9g, want %.9g, |difference| %.3g, allowed %.3g", role_name(role), n, h, w, c,
             got[i], want[i], fabs(got[i] - want[i]), allowed);
    }
    check_rms(t, role, got);
    free(got);
}

static void check_state(trial *t)
{
    cnn_train_state got, want = t->test->want_state;
    memcpy(&got, kc_after(&t->tensor[CNN_ARG_STATE]), sizeof got);
    bool sum_agrees = isfinite(want.grad_sumsq)
                          ? fabs(got.grad_sumsq - want.grad_sumsq) <= t->test->sumsq_tolerance * want.grad_sumsq
                          : !isfinite(got.grad_sumsq);
    if (!sum_agrees)
        fail(t, "state.grad_sumsq: got %.17g, want %.17g", got.grad_sumsq, want.grad_sumsq);
    got.grad_sumsq = want.grad_sumsq;
    if (memcmp(&got, &want, sizeof got) != 0)
        fail(t,
             "state: got step %d scale %g nonfinite %d clean %d in a row %d skipped %d first %d last %d range %g..%g, "
             "want step %d scale %g nonfinite %d clean %d in a row %d skipped %d first %d last %d range %g..%g",
             got.step, (double)got.loss_scale, got.found_nonfinite, got.clean_steps, got.overflows_in_row, got.skipped,
             got.first_overflow, got.last_overflow, (double)got.scale_min, (double)got.scale_max, want.step,
             (double)want.loss_scale, want.found_nonfinite, want.clean_steps, want.overflows_in_row, want.skipped,
             want.first_overflow, want.last_overflow, (double)want.scale_min, (double)want.scale_max);
}

static void check_outputs(trial *t)
{
    for (int role = 0; role < CNN_ARG_COUNT && !t->failed; role++) {
        if (!(use_of(t, role) & CNN_USE_WRITE))
            continue;
        if (role == CNN_ARG_STATE) {
            check_state(t);
            continue;
        }
        check_values(t, role);
        check_padding(t, &t->tensor[role], role);
    }
}

/* ---- Running ---- */

/* Prepares a kernel; packs its weights where it wants that and then spoils them, since they must not be read again. */
static cnn_status prepare(trial *t, cnn_kernel **kernel, char *why)
{
    cnn_status status = CNN_OK;
    cnn_tensor_desc none = {0};
    kc_tensor *weight = &t->tensor[CNN_ARG_WEIGHT];
    CNN_TRY(t->on->backend->prepare(t->on->device, &t->desc, kernel, why));
    kc_tensor_close(&t->workspace, t->on->backend, t->on->device);
    CNN_TRY(kc_tensor_open(&t->workspace, &none, (*kernel)->workspace_bytes, t->on->backend, t->on->device));
    if (t->desc.constant_weights && (*kernel)->pack) {
        kc_tensor_set(weight, t->test->in[CNN_ARG_WEIGHT]);
        CNN_TRY(kc_tensor_upload(weight, t->on->backend, t->on->device));
        CNN_TRY((*kernel)->pack(*kernel, kc_pointer(weight)));
        kc_tensor_prefill(weight, 0xFF);
    }
out:
    return status;
}

/* A planted bug writes into the guards on purpose: there the guards' bytes tell, and not ASan. */
static void lock(const trial *t, bool on)
{
    const cnn_backend *backend = t->on->backend;
    bool here = backend->host_memory || strcmp(backend->name, "cudasim") == 0;
    if (!here || strcmp(backend->name, "planted") == 0)
        return;
    for (int role = 0; role <= CNN_ARG_COUNT; role++) {
        const kc_tensor *tensor = role == CNN_ARG_COUNT ? &t->workspace : &t->tensor[role];
        if (on)
            kc_tensor_lock(tensor);
        else
            kc_tensor_unlock(tensor);
    }
}

static cnn_status run_once(trial *t, cnn_kernel *kernel, int run)
{
    cnn_status status = CNN_OK;
    void *args[CNN_ARG_COUNT];
    for (int role = 0; role < CNN_ARG_COUNT; role++)
        args[role] = kc_pointer(&t->tensor[role]);
    CNN_TRY(upload(t, run));
    CNN_TRY(t->on->backend->sync(t->on->device));
    lock(t, true);
    status = kernel->run(kernel, args, kernel->workspace_bytes ? kc_pointer(&t->workspace) : NULL);
    if (status == CNN_OK)
        status = t->on->backend->sync(t->on->device);
    lock(t, false);
    CNN_TRY(status);
    CNN_TRY(download(t));
    check_memory(t);
out:
    return status;
}

/* The three runs. Odd cases start with many threads, even ones with one. */
static cnn_status run_all(trial *t, cnn_kernel **kernel, char *why)
{
    cnn_status status = CNN_OK;
    int threads = t->test->number % 2 ? MANY_THREADS : 1;
    CNN_TRY(cnn_get_threads() == threads ? CNN_OK : cnn_set_threads(threads));
    CNN_TRY(prepare(t, kernel, why));
    CNN_TRY(run_once(t, *kernel, 0));
    CNN_TRY(keep_first(t));
    check_outputs(t);
    CNN_TRY(run_once(t, *kernel, 1));
    check_same(t, "a second run, or an element that is not written");
    (*kernel)->destroy(*kernel);
    *kernel = NULL;

    CNN_TRY(cnn_set_threads(threads == 1 ? MANY_THREADS : 1));
    CNN_TRY(prepare(t, kernel, why));
    CNN_TRY(run_once(t, *kernel, 2));
    check_same(t, threads == 1 ? "3 threads instead of 1" : "1 thread instead of 3");
out:
    return status;
}

/* Whether the device makes a kernel for t->desc; counts and keeps the first reason why not. */
static cnn_status ask(trial *t)
{
    char why[CNN_REASON_BYTES] = "";
    cnn_op op = t->desc.op;
    cnn_status status = t->on->backend->prepare(t->on->device, &t->desc, NULL, why);
    if (status == CNN_ERR_UNSUPPORTED && t->on->refused[op]++ == 0)
        memcpy(t->on->reason[op], why, sizeof why);
    return status;
}

kc_verdict kc_check(const kc_case *test, kc_device *device, char *text, size_t text_bytes)
{
    char why[CNN_REASON_BYTES] = "";
    cnn_kernel *kernel = NULL;
    trial t = {.test = test, .on = device, .text = text, .text_bytes = text_bytes};
    t.desc = kc_device_desc(test, device, false);

    cnn_status status = ask(&t);
    if (status == CNN_ERR_UNSUPPORTED) {
        cnn_op_desc natural = kc_device_desc(test, device, true);
        if (memcmp(&natural, &t.desc, sizeof natural) == 0)
            return KC_REFUSED;
        t.desc = natural;
        status = ask(&t);
        if (status == CNN_ERR_UNSUPPORTED)
            return KC_REFUSED;
    }
    device->ran[test->desc.op]++;
    if (status == CNN_OK)
        status = trial_open(&t);
    if (status == CNN_OK)
        status = run_all(&t, &kernel, why);
    if (status != CNN_OK)
        fail(&t, "%s: %s", cnn_status_name(status), why[0] ? why : cnn_last_error());
    if (kernel)
        kernel->destroy(kernel);
    trial_close(&t);
    return t.failed ? KC_FAILED : KC_PASSED;
}
