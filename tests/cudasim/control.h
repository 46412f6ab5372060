/* What tests can ask of the CPU's CUDA runtime, as functions and as environment variables. C and C++.
 *
 *   CNN_CUDASIM_FAIL=N       the N-th request (from 1) for a resource fails: memory, streams, events, graphs, handles,
 *                            descriptors, plans. There are fewer than N: nothing fails.
 *   CNN_CUDASIM_MEMORY=BYTES size of a device's memory (default 16 GB)
 *   CNN_CUDASIM_FILL=nan     what new device memory holds (default): in f32, f16 and bf16 numbers that are NaN
 *   CNN_CUDASIM_FILL=tame    small numbers. A program whose results are the same with both reads nothing that it has
 *                            not written.
 *   CNN_CUDASIM_TIMING=late  the device does its work when the host waits for it, and no sooner (default)
 *   CNN_CUDASIM_TIMING=early the device does its work at once. A program whose results are the same with both waits
 *                            where it must and leaves alone what the device still reads.
 *   CNN_CUDASIM_SHOW=1       says of each graph how many kernels and library calls it holds
 *   CNN_CUDASIM_BREAK=N      the device breaks down at the N-th piece of work: all calls fail from then on, as after
 *                            a kernel's access to an illegal address
 *
 * A wrong use that a GPU would answer with an error code that ends the program, or with undefined behaviour, ends it
 * here: one sentence on standard error that begins with "cudasim: ", then abort(). When the last stream of a device is
 * destroyed, nothing of that device may be left; when the process ends, nothing at all (exit code CUDASIM_EXIT_LEAK).
 */
#ifndef CNN_CUDASIM_CONTROL_H
#define CNN_CUDASIM_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CUDASIM_API __attribute__((visibility("default")))

enum { CUDASIM_EXIT_LEAK = 86 };

typedef enum cudasim_kind {
    CUDASIM_DEVICE_MEMORY,
    CUDASIM_PINNED_MEMORY,
    CUDASIM_STREAM,
    CUDASIM_EVENT,
    CUDASIM_GRAPH,
    CUDASIM_GRAPH_EXEC,
    CUDASIM_CUDNN_HANDLE,
    CUDASIM_CUDNN_DESCRIPTOR,
    CUDASIM_BLAS_HANDLE,
    CUDASIM_BLAS_DESCRIPTOR,
    CUDASIM_KINDS
} cudasim_kind;

/* How many of a kind are there now. */
CUDASIM_API int64_t cudasim_live(cudasim_kind kind);
/* Requests for resources since the last cudasim_fail_request(). */
CUDASIM_API int64_t cudasim_requests(void);
/* As CNN_CUDASIM_FAIL, counted from now; 0: none fails. */
CUDASIM_API void cudasim_fail_request(int64_t number);
/* As CNN_CUDASIM_MEMORY; 0: the default. */
CUDASIM_API void cudasim_set_memory(size_t bytes);
/* As CNN_CUDASIM_FILL and CNN_CUDASIM_TIMING. */
CUDASIM_API void cudasim_set_tame(int tame);
CUDASIM_API void cudasim_set_early(int early);

#ifdef __cplusplus
}
#endif
#endif
