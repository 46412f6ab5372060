/* Planted bugs: backends that wrap the reference and do one thing wrong, to show that kcheck sees it. */
#include "tests/kcheck/kcheck.h"

#include "core/pool.h"
#include "kernels/ref/ref.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct planted {
    cnn_kernel base;
    cnn_kernel *inner;
    void *scratch; /* what a plant needs beside the tensors */
    int runs;
} planted;

typedef void *const *args_t;

typedef struct plant {
    const char *name;
    /* Changes the descriptor that the reference gets, and says how many bytes of scratch run needs. */
    size_t (*setup)(cnn_op_desc *inner);
    cnn_status (*run)(planted *kernel, args_t args, void *workspace);
} plant;

static const plant *active;

/* ---- Helpers ---- */

static cnn_status run_inner(planted *kernel, args_t args, void *workspace)
{
    return kernel->inner->run(kernel->inner, args, workspace);
}

static const cnn_tensor_desc *dst_desc(const planted *kernel)
{
    return &kernel->base.desc.arg[CNN_ARG_DST];
}

static bool is_half(cnn_dtype dtype)
{
    return dtype == CNN_F16 || dtype == CNN_BF16;
}

/* Flips the lowest bit of the first element of an f32 DST. */
static void flip_low_bit(const planted *kernel, args_t args)
{
    if (dst_desc(kernel)->dtype == CNN_F32 && args[CNN_ARG_DST])
        *(uint32_t *)args[CNN_ARG_DST] ^= 1;
}

/* ---- The bugs ---- */

/* A convolution with padding is wrong in its first pixel. */
static cnn_status run_border(planted *kernel, args_t args, void *workspace)
{
    cnn_status status = run_inner(kernel, args, workspace);
    if (status == CNN_OK && kernel->base.desc.pad > 0) {
        double value = cnn_ref_get(dst_desc(kernel), args[CNN_ARG_DST], 0, 0);
        cnn_ref_put(dst_desc(kernel), args[CNN_ARG_DST], 0, 0, value > 100 ? value - 1 : value + 1);
    }
    return status;
}

static size_t setup_tail(cnn_op_desc *inner)
{
    return cnn_desc_bytes(&inner->arg[CNN_ARG_DST]);
}

/* Channels past the last multiple of 8 are not written. */
static cnn_status run_tail(planted *kernel, args_t args, void *workspace)
{
    const cnn_tensor_desc *dst = dst_desc(kernel);
    size_t bytes = cnn_desc_bytes(dst), element = cnn_dtype_bytes(dst->dtype);
    if (bytes > 0)
        memcpy(kernel->scratch, args[CNN_ARG_DST], bytes);
    cnn_status status = run_inner(kernel, args, workspace);
    size_t first = (size_t)(dst->c - dst->c % 8) * element, last = (size_t)dst->c * element;
    for (int64_t pixel = 0; bytes > 0 && pixel < cnn_desc_pixels(dst); pixel++) {
        size_t at = (size_t)(pixel * dst->c_pad) * element;
        memcpy((char *)args[CNN_ARG_DST] + at + first, (char *)kernel->scratch + at + first, last - first);
    }
    return status;
}

static size_t setup_bias(cnn_op_desc *inner)
{
    return cnn_desc_bytes(&inner->arg[CNN_ARG_BIAS]);
}

/* The bias is taken as 0. */
static cnn_status run_bias(planted *kernel, args_t args, void *workspace)
{
    void *changed[CNN_ARG_COUNT];
    memcpy(changed, args, sizeof changed);
    if (changed[CNN_ARG_BIAS])
        changed[CNN_ARG_BIAS] = kernel->scratch;
    return run_inner(kernel, changed, workspace);
}

/* One byte past the end of DST. */
static cnn_status run_overrun(planted *kernel, args_t args, void *workspace)
{
    cnn_status status = run_inner(kernel, args, workspace);
    if (args[CNN_ARG_DST])
        ((uint8_t *)args[CNN_ARG_DST])[cnn_desc_bytes(dst_desc(kernel))] = 0;
    return status;
}

/* One bit of SRC changes. */
static cnn_status run_input_write(planted *kernel, args_t args, void *workspace)
{
    cnn_status status = run_inner(kernel, args, workspace);
    if (args[CNN_ARG_SRC])
        *(uint8_t *)args[CNN_ARG_SRC] ^= 1;
    return status;
}

/* Has the reference write f32 into scratch where it may. */
static size_t setup_rounding(cnn_op_desc *inner)
{
    cnn_tensor_desc *dst = &inner->arg[CNN_ARG_DST];
    cnn_op_desc changed = *inner;
    if (!is_half(dst->dtype))
        return 0;
    changed.arg[CNN_ARG_DST].dtype = CNN_F32;
    if (!cnn_ref_check(&changed, NULL))
        return 0;
    *inner = changed;
    return cnn_desc_bytes(dst);
}

/* f16 and bf16 results are rounded towards zero. */
static cnn_status run_rounding(planted *kernel, args_t args, void *workspace)
{
    const cnn_tensor_desc *dst = dst_desc(kernel), *wide = &kernel->inner->desc.arg[CNN_ARG_DST];
    if (dst->dtype == wide->dtype)
        return run_inner(kernel, args, workspace);
    void *changed[CNN_ARG_COUNT];
    memcpy(changed, args, sizeof changed);
    changed[CNN_ARG_DST] = kernel->scratch;
    cnn_status status = run_inner(kernel, changed, workspace);
    for (int64_t pixel = 0; pixel < cnn_desc_pixels(dst); pixel++)
        for (int32_t c = 0; c < dst->c; c++) {
            double exact = cnn_ref_get(wide, kernel->scratch, pixel, c);
            cnn_ref_put(dst, args[CNN_ARG_DST], pixel, c, exact);
            double rounded = cnn_ref_get(dst, args[CNN_ARG_DST], pixel, c);
            if (fabs(rounded) > fabs(exact)) /* away from zero: the neighbour's code is one less */
                ((uint16_t *)args[CNN_ARG_DST])[pixel * dst->c_pad + c]--;
        }
    cnn_ref_clear_padding(dst, args[CNN_ARG_DST]);
    return status;
}

/* Every f32 result is 1e-4 too large. */
static cnn_status run_scale(planted *kernel, args_t args, void *workspace)
{
    const cnn_tensor_desc *dst = dst_desc(kernel);
    cnn_status status = run_inner(kernel, args, workspace);
    for (int64_t pixel = 0; dst->dtype == CNN_F32 && pixel < cnn_desc_pixels(dst); pixel++)
        for (int32_t c = 0; c < dst->c; c++) {
            double value = cnn_ref_get(dst, args[CNN_ARG_DST], pixel, c);
            cnn_ref_put(dst, args[CNN_ARG_DST], pixel, c, value * 1.0001);
        }
    return status;
}

/* Every second run of a kernel differs in one bit. */
static cnn_status run_nondeterministic(planted *kernel, args_t args, void *workspace)
{
    cnn_status status = run_inner(kernel, args, workspace);
    if (kernel->runs++ % 2)
        flip_low_bit(kernel, args);
    return status;
}

/* One bit depends on the number of threads. */
static cnn_status run_threads(planted *kernel, args_t args, void *workspace)
{
    cnn_status status = run_inner(kernel, args, workspace);
    if (cnn_get_threads() != 1)
        flip_low_bit(kernel, args);
    return status;
}

/* One byte past the end of the workspace. */
static cnn_status run_workspace(planted *kernel, args_t args, void *workspace)
{
    cnn_status status = run_inner(kernel, args, workspace);
    if (workspace)
        ((uint8_t *)workspace)[kernel->base.workspace_bytes] = 0;
    return status;
}

/* Padding channels are left as they were. */
static cnn_status run_padding(planted *kernel, args_t args, void *workspace)
{
    const cnn_tensor_desc *dst = dst_desc(kernel);
    cnn_status status = run_inner(kernel, args, workspace);
    if (dst->dtype != CNN_NONE && dst->c_pad > dst->c)
        cnn_ref_put(dst, args[CNN_ARG_DST], 0, dst->c, 1);
    return status;
}

static const plant plants[] = {
    {"border", NULL, run_border},           {"tail", setup_tail, run_tail},
    {"bias", setup_bias, run_bias},         {"overrun", NULL, run_overrun},
    {"input-write", NULL, run_input_write}, {"rounding", setup_rounding, run_rounding},
    {"scale-1e-4", NULL, run_scale},        {"nondeterministic", NULL, run_nondeterministic},
    {"threads", NULL, run_threads},         {"workspace", NULL, run_workspace},
    {"padding", NULL, run_padding},
};
enum { PLANT_COUNT = sizeof plants / sizeof plants[0] };

const char *const kc_plants[] = {"border",      "tail",      "bias",       "overrun",
                                 "input-write", "rounding",  "scale-1e-4", "nondeterministic",
                                 "threads",     "workspace", "padding",    NULL};
_Static_assert(sizeof kc_plants / sizeof kc_plants[0] == PLANT_COUNT + 1, "name every plant");

/* ---- The backend ---- */

static cnn_status planted_run(cnn_kernel *kernel, void *const args[CNN_ARG_COUNT], void *workspace)
{
    return active->run((planted *)kernel, args, workspace);
}

static void planted_destroy(cnn_kernel *kernel)
{
    planted *made = (planted *)kernel;
    made->inner->destroy(made->inner);
    free(made->scratch);
    free(made);
}

static cnn_status planted_prepare(cnn_device *device, const cnn_op_desc *desc, cnn_kernel **kernel, char *why)
{
    if (!kernel)
        return cnn_backend_ref.prepare(device, desc, NULL, why);
    planted *made = calloc(1, sizeof *made);
    if (!made)
        return CNN_ERR_MEMORY;
    cnn_op_desc inner = *desc;
    size_t bytes = active->setup ? active->setup(&inner) : 0;
    made->scratch = calloc(bytes + 8, 2); /* twice: f16 results wait as f32 */
    cnn_status status = made->scratch ? cnn_backend_ref.prepare(device, &inner, &made->inner, why) : CNN_ERR_MEMORY;
    if (status != CNN_OK) {
        free(made->scratch);
        free(made);
        return status;
    }
    made->base.desc = *desc;
    made->base.name = active->name;
    made->base.workspace_bytes = made->inner->workspace_bytes;
    made->base.run = planted_run;
    made->base.destroy = planted_destroy;
    *kernel = &made->base;
    return CNN_OK;
}

const cnn_backend *kc_plant(const char *name)
{
    static cnn_backend backend;
    for (int i = 0; i < PLANT_COUNT; i++)
        if (strcmp(plants[i].name, name) == 0) {
            active = &plants[i];
            backend = cnn_backend_ref;
            backend.name = "planted";
            backend.prepare = planted_prepare;
            return &backend;
        }
    return NULL;
}
