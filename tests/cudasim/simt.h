/* CUDA C++ for the host compiler: what kernels see when they are built for the CPU (kernels/cuda/cuda.cuh includes it).
 *
 * Every CUDA thread is a fiber; the blocks of a grid run one after the other. A thread runs until it waits for others:
 * at __syncthreads, at a shuffle, vote, __syncwarp or mma of its warp. Which one goes on then is up to the schedule
 * (cudasim.h). Memory is sequentially consistent, so that fences are empty; a missing barrier shows as a result that
 * depends on the schedule.
 *
 *   __shared__      static variables in the section simt_shared: one block runs at a time, so a variable belongs to it.
 *                   Functions that declare some must have internal linkage (static or in an unnamed namespace): gcc
 *                   cannot put variables of inline functions into a section.
 *   poison          shared memory, static and dynamic, is 0xCD when a block starts
 *   caught          with one sentence that names the kernel, block and thread, then abort(): __syncthreads that not
 *                   every thread of the block reaches, or that threads reach in different places; masks that name
 *                   lanes which have exited, do not exist or do something else; shuffles from lanes outside the mask;
 *                   deadlocks; writes behind dynamic shared memory. Addresses out of bounds are for AddressSanitizer,
 *                   which knows fibers, and for the runtime's red zones around device memory.
 *   atomics         on integers only: the order of float sums must never depend on time */
#ifndef CNN_CUDASIM_SIMT_H
#define CNN_CUDASIM_SIMT_H

#include "tests/cudasim/cudasim.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <vector_functions.h>
#include <vector_types.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__SANITIZE_ADDRESS__)
#define SIMT_ASAN 1
#elif defined(__SANITIZE_THREAD__)
#define SIMT_TSAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIMT_ASAN 1
#elif __has_feature(thread_sanitizer)
#define SIMT_TSAN 1
#endif
#endif

#undef __global__
#undef __device__
#undef __host__
#undef __forceinline__
#undef __shared__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static __attribute__((section("simt_shared")))
#define __launch_bounds__(...)

/* ---- The layer: simt.cpp ---- */

/* Where the running thread is. */
struct simt_place {
    uint3 thread, block;
    dim3 block_dim, grid_dim;
    unsigned lane;
};
extern simt_place simt_now;
extern unsigned char *simt_dynamic; /* dynamic shared memory, 128-byte aligned */

/* A place in the source, for messages and to tell barriers apart. */
struct simt_site {
    const char *file;
    int line;
    const char *what;
};

/* cudaSuccess, or what a launch with this configuration fails with. */
cudaError_t simt_check_launch(const void *kernel, dim3 grid, dim3 block, size_t shared_bytes);
/* Lets a kernel have more than 48 KiB of dynamic shared memory, up to 227 KiB. */
cudaError_t simt_allow_shared(const void *kernel, size_t bytes);
/* Runs body once for each thread of the grid. */
void simt_run(const char *name, dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &body);

/* Waits for all threads of the block; returns how many gave a predicate that is not 0. */
int simt_barrier(int predicate, const simt_site &site);
/* Waits for the lanes in mask, which give operands; the last to come performs the operation on all of them. */
void simt_collective(uint32_t mask, void *operand, void (*perform)(void *const operand[32], uint32_t mask),
                     const simt_site &site);
[[noreturn]] void simt_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define SIMT_SITE(what) const simt_site site = {file, line, what}
#define SIMT_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

/* ---- Built-in variables ---- */

#define threadIdx (simt_now.thread)
#define blockIdx (simt_now.block)
#define blockDim (simt_now.block_dim)
#define gridDim (simt_now.grid_dim)
static constexpr int warpSize = 32;

/* ---- Barriers and fences ---- */

static inline void __syncthreads(SIMT_HERE)
{
    SIMT_SITE("__syncthreads");
    (void)simt_barrier(0, site);
}

static inline int __syncthreads_count(int predicate, SIMT_HERE)
{
    SIMT_SITE("__syncthreads_count");
    return simt_barrier(predicate, site);
}

static inline int __syncthreads_or(int predicate, SIMT_HERE)
{
    SIMT_SITE("__syncthreads_or");
    return simt_barrier(predicate, site) > 0;
}

static inline int __syncthreads_and(int predicate, SIMT_HERE)
{
    SIMT_SITE("__syncthreads_and");
    return simt_barrier(!predicate, site) == 0;
}

static inline void __syncwarp(unsigned mask = 0xffffffffu, SIMT_HERE)
{
    SIMT_SITE("__syncwarp");
    simt_collective(mask, nullptr, nullptr, site);
}

static inline void __threadfence()
{
}

static inline void __threadfence_block()
{
}

/* ---- Shuffles and votes ---- */

template <typename T> struct simt_shuffle {
    T value, result;
    int source;
};

template <typename T> static inline T simt_shuffled(unsigned mask, T value, int source, const simt_site &site)
{
    simt_shuffle<T> mine = {value, value, source};
    simt_collective(
        mask, &mine,
        [](void *const operand[32], uint32_t lanes) {
            for (int lane = 0; lane < 32; lane++) {
                if (!(lanes >> lane & 1))
                    continue;
                auto *to = static_cast<simt_shuffle<T> *>(operand[lane]);
                if (!(lanes >> to->source & 1))
                    simt_fail("lane %d reads lane %d, which is not in the mask 0x%08x", lane, to->source, lanes);
                to->result = static_cast<simt_shuffle<T> *>(operand[to->source])->value;
            }
        },
        site);
    return mine.result;
}

template <typename T> static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, SIMT_HERE)
{
    SIMT_SITE("__shfl_sync");
    int lane = static_cast<int>(simt_now.lane);
    return simt_shuffled(mask, value, (lane & -width) | (source & (width - 1)), site);
}

template <typename T> static inline T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, SIMT_HERE)
{
    SIMT_SITE("__shfl_xor_sync");
    int lane = static_cast<int>(simt_now.lane), source = lane ^ lane_mask;
    return simt_shuffled(mask, value, source >= (lane & -width) + width ? lane : source, site);
}

template <typename T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_HERE)
{
    SIMT_SITE("__shfl_down_sync");
    int lane = static_cast<int>(simt_now.lane), source = lane + static_cast<int>(delta);
    return simt_shuffled(mask, value, source >= (lane & -width) + width ? lane : source, site);
}

template <typename T> static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_HERE)
{
    SIMT_SITE("__shfl_up_sync");
    int lane = static_cast<int>(simt_now.lane), source = lane - static_cast<int>(delta);
    return simt_shuffled(mask, value, source < (lane & -width) ? lane : source, site);
}

static inline unsigned __ballot_sync(unsigned mask, int predicate, SIMT_HERE)
{
    SIMT_SITE("__ballot_sync");
    struct vote {
        bool yes;
        unsigned result;
    } mine = {predicate != 0, 0};
    simt_collective(
        mask, &mine,
        [](void *const operand[32], uint32_t lanes) {
            unsigned result = 0;
            for (int lane = 0; lane < 32; lane++)
                if (lanes >> lane & 1 && static_cast<vote *>(operand[lane])->yes)
                    result |= 1u << lane;
            for (int lane = 0; lane < 32; lane++)
                if (lanes >> lane & 1)
                    static_cast<vote *>(operand[lane])->result = result;
        },
        site);
    return mine.result;
}

static inline int __any_sync(unsigned mask, int predicate, SIMT_HERE)
{
    return __ballot_sync(mask, predicate, file, line) != 0;
}

static inline int __all_sync(unsigned mask, int predicate, SIMT_HERE)
{
    return __ballot_sync(mask, !predicate, file, line) == 0;
}

static inline unsigned __activemask() = delete; /* which lanes run together is not defined */

/* ---- Atomics: threads never run at the same time ---- */

template <typename T> using simt_integer = std::enable_if_t<std::is_integral<T>::value && sizeof(T) >= 4, T>;

template <typename T, typename V> static inline simt_integer<T> atomicAdd(T *address, V value)
{
    T old = *address;
    *address = static_cast<T>(static_cast<std::make_unsigned_t<T>>(old) + static_cast<std::make_unsigned_t<T>>(value));
    return old;
}

/* Counts up to `most`, then begins at 0 again. */
static inline unsigned atomicInc(unsigned *address, unsigned most)
{
    unsigned old = *address;
    *address = old >= most ? 0 : old + 1;
    return old;
}

template <typename T, typename V> static inline simt_integer<T> atomicMax(T *address, V value)
{
    T old = *address;
    *address = std::max(old, static_cast<T>(value));
    return old;
}

template <typename T, typename V> static inline simt_integer<T> atomicMin(T *address, V value)
{
    T old = *address;
    *address = std::min(old, static_cast<T>(value));
    return old;
}

template <typename T, typename V> static inline simt_integer<T> atomicOr(T *address, V value)
{
    T old = *address;
    *address = old | static_cast<T>(value);
    return old;
}

template <typename T, typename V> static inline simt_integer<T> atomicAnd(T *address, V value)
{
    T old = *address;
    *address = old & static_cast<T>(value);
    return old;
}

template <typename T, typename V> static inline simt_integer<T> atomicExch(T *address, V value)
{
    T old = *address;
    *address = static_cast<T>(value);
    return old;
}

template <typename T, typename U, typename V> static inline simt_integer<T> atomicCAS(T *address, U compare, V value)
{
    T old = *address;
    if (old == static_cast<T>(compare))
        *address = static_cast<T>(value);
    return old;
}

/* ---- Intrinsics ---- */

using std::max;
using std::min;

template <typename T> static inline T __ldg(const T *address)
{
    return *address;
}

static inline int __dp4a(int a, int b, int c)
{
    unsigned sum = static_cast<unsigned>(c); /* wraps as the GPU's does */
    for (int i = 0; i < 32; i += 8)
        sum += static_cast<unsigned>(static_cast<int8_t>(a >> i) * static_cast<int8_t>(b >> i));
    return static_cast<int>(sum);
}

static inline int __popc(unsigned x)
{
    return __builtin_popcount(x);
}

static inline int __clz(int x)
{
    return x ? __builtin_clz(static_cast<unsigned>(x)) : 32;
}

static inline int __ffs(int x)
{
    return __builtin_ffs(x);
}

static inline int __float2int_rn(float x) /* saturates, NaN gives 0 */
{
    if (!(x == x))
        return 0;
    float rounded = std::nearbyintf(x);
    return rounded >= 0x1p31f ? INT32_MAX : rounded <= -0x1p31f ? INT32_MIN : static_cast<int>(rounded);
}

template <typename To, typename From> static inline To simt_bits(From from)
{
    static_assert(sizeof(To) == sizeof(From), "a reinterpretation keeps the size");
    To to;
    memcpy(static_cast<void *>(&to), &from, sizeof to);
    return to;
}

static inline float __int_as_float(int x)
{
    return simt_bits<float>(x);
}

static inline float __uint_as_float(unsigned x)
{
    return simt_bits<float>(x);
}

static inline int __float_as_int(float x)
{
    return simt_bits<int>(x);
}

static inline unsigned __float_as_uint(float x)
{
    return simt_bits<unsigned>(x);
}

static inline float rsqrtf(float x)
{
    return 1.0f / sqrtf(x);
}

#endif
