/* Inside the CPU's CUDA runtime: what memory, streams, cuDNN and cuBLASLt share. C++17.
 *
 * Device memory is inaccessible (PROT_NONE) unless the device works: a host that touches it dies as it would with a
 * GPU. Each block ends, rounded up to 256 bytes, where an inaccessible page begins; what is left around it in its pages
 * is filled and checked. Freed blocks stay inaccessible, at addresses that are not used again.
 *
 * New device memory is filled with 8-byte words made from their address. A word that still holds its fill has never
 * been written, whoever could have: copies to the host and reads of the libraries report it. */
#ifndef CNN_CUDASIM_RUNTIME_H
#define CNN_CUDASIM_RUNTIME_H

#include "tests/cudasim/control.h"
#include "tests/cudasim/cudasim.h"

#include <mutex>

/* Ends the process with a sentence. */
[[noreturn]] void cudasim_report(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* One lock for all of the runtime; every call takes it. */
std::recursive_mutex &cudasim_lock();
#define CUDASIM_LOCKED std::lock_guard<std::recursive_mutex> cudasim_guard(cudasim_lock())

/* ---- Objects: objects.cpp ---- */

/* A live object of a kind; `call` asks for it, in reports. */
void cudasim_add(cudasim_kind kind, const void *object, int device);
bool cudasim_is_live(cudasim_kind kind, const void *object);
void cudasim_need(cudasim_kind kind, const void *object, const char *call);
void cudasim_remove(cudasim_kind kind, const void *object, const char *call);
/* Counts a request for a resource; true when this one has to fail. */
bool cudasim_refuse();
/* Reports objects of a device (-1: of all devices) that are left. False when there are none and nothing was said. */
bool cudasim_leaks(int device);

/* ---- Memory: memory.cpp ---- */

enum cudasim_place { CUDASIM_PAGEABLE, CUDASIM_PINNED, CUDASIM_ON_DEVICE };

/* Where bytes lie. Reports freed memory and ranges that do not lie wholly in a block. */
cudasim_place cudasim_find(const void *memory, size_t bytes, const char *call);
/* Reports what is not device or pinned memory: an operand of a kernel or library call. NULL is allowed with 0 bytes. */
void cudasim_need_device(const void *memory, size_t bytes, const char *call);
/* Reports device memory that was never written. Only while the device works. */
void cudasim_need_written(const void *memory, size_t bytes, const char *call);
/* Fills as new memory is filled. Only while the device works. */
void cudasim_unwrite(void *memory, size_t bytes);
/* While one lives, the device works: its memory is accessible. */
class cudasim_working
{
  public:
    cudasim_working();
    ~cudasim_working();
    cudasim_working(const cudasim_working &) = delete;
    cudasim_working &operator=(const cudasim_working &) = delete;
};

/* ---- Devices and errors: cudart.cpp ---- */

int cudasim_device(); /* of this thread */
/* Records the last error, as cudaGetLastError() tells it. */
cudaError_t cudasim_fail(cudaError_t error);
/* The error that the device is broken with, or cudaSuccess. */
cudaError_t cudasim_broken();
/* Counts a piece of work; breaks the device when it is the one. */
void cudasim_count_work();

/* ---- Streams: stream.cpp ---- */

/* Reports streams that are none or the default stream. */
void cudasim_need_stream(cudaStream_t stream, const char *call);
/* A call that waits or allocates while a stream of this thread captures: the capture is spoilt. True if there is one.
 */
bool cudasim_spoil_capture();
bool cudasim_captures(cudaStream_t stream);
/* Does all the work there is. */
void cudasim_drain();
bool cudasim_early();

#endif
