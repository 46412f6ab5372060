/* The CPU backend with one thread. */
#include "tests/cudasim/cpu_conv.h"

#include "cnn/backend.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static int one(void)
{
    return 1;
}

static void in_turn(int tasks, cnn_task_fn run, void *context)
{
    for (int task = 0; task < tasks; task++)
        run(context, task, 0);
}

static void *aligned(size_t bytes)
{
    return aligned_alloc(CNN_ALIGN, (bytes + CNN_ALIGN - 1) / CNN_ALIGN * CNN_ALIGN);
}

static cnn_status fail(cnn_status status, const char *format, ...) CNN_PRINTF(2, 3);

static cnn_status fail(cnn_status status, const char *format, ...)
{
    va_list args;
    (void)status;
    va_start(args, format);
    fputs("cudasim: a convolution on the CPU: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}

static const cnn_host host = {CNN_BACKEND_VERSION, one, in_turn, aligned, free, fail};

void cudasim_cpu_conv(const cnn_op_desc *desc, void *const args[CNN_ARG_COUNT])
{
    static cnn_device *device; /* opened once, never closed */
    cnn_kernel *kernel = NULL;
    if (!device)
        (void)cnn_backend_cpu.open(&host, NULL, &device);
    (void)cnn_backend_cpu.prepare(device, desc, &kernel, NULL);
    if (kernel->pack && desc->constant_weights)
        (void)kernel->pack(kernel, args[CNN_ARG_WEIGHT]);
    void *workspace = kernel->workspace_bytes ? aligned(kernel->workspace_bytes) : NULL;
    (void)kernel->run(kernel, args, workspace);
    free(workspace);
    kernel->destroy(kernel);
}
