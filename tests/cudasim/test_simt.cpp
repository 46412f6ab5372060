/* The layer that runs kernels on the CPU: it computes what a GPU would, under every schedule, and planted faults are
 * noticed. A fault that is caught ends its process with a sentence; a race shows as a wrong result. */
#include "kernels/cuda/last_block.cuh"

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

cudaError_t cudasim_enqueue(cudaStream_t, std::function<void()> work)
{
    work();
    return cudaSuccess;
}

cudaError_t cudasim_fail(cudaError_t error)
{
    return error;
}

namespace
{

int failures;

void check(bool good, const char *what, int schedule)
{
    if (good)
        return;
    printf("FAILED under schedule %d: %s\n", schedule, what);
    failures++;
}

/* ---- Kernels; FAULT: what is wrong with them ---- */

enum fault { NONE, NO_BARRIER, NO_SECOND_BARRIER, NO_TICKET };

constexpr int THREADS = 96; /* 3 warps */

/* dst = the tiles of src, each reversed. Needs both barriers: without the first a tile is read before it is whole,
 * without the second it is overwritten while it is read. */
template <fault FAULT> __global__ void k_reverse(const int *src, int *dst, int tiles)
{
    __shared__ int tile[THREADS];
    for (int t = 0; t < tiles; t++) {
        tile[threadIdx.x] = src[t * THREADS + static_cast<int>(threadIdx.x)];
        if (FAULT != NO_BARRIER)
            __syncthreads();
        dst[t * THREADS + static_cast<int>(threadIdx.x)] = tile[THREADS - 1 - threadIdx.x];
        if (FAULT != NO_SECOND_BARRIER)
            __syncthreads();
    }
}

/* A sum over the block, by shuffles in each warp, then over warps. The race: warps add to one word of shared memory
 * without waiting for the one that clears it. Threads in rounds happen to come in time; a warp that runs ahead does
 * not. */
template <bool RACE> __global__ void k_block_sum(const int *src, int *dst)
{
    __shared__ int sum;
    int value = src[threadIdx.x];
    for (int lanes = 16; lanes > 0; lanes /= 2)
        value += __shfl_down_sync(0xffffffffu, value, static_cast<unsigned>(lanes));
    if (threadIdx.x == blockDim.x - 1)
        sum = 0;
    if (RACE)
        __syncwarp();
    else
        __syncthreads();
    if (threadIdx.x % 32 == 0)
        atomicAdd(&sum, value);
    __syncthreads();
    if (threadIdx.x == 0)
        *dst = sum;
}

__global__ void k_early_exit(int *dst)
{
    if (threadIdx.x == 40)
        return;
    __syncthreads();
    dst[threadIdx.x] = 1;
}

__global__ void k_two_barriers(int *dst)
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
    dst[threadIdx.x] = 1;
}

__global__ void k_exited_lane(int *dst)
{
    if (threadIdx.x % 32 == 31)
        return;
    dst[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);
}

__global__ void k_foreign_lane(int *dst)
{
    if (threadIdx.x % 32 < 16)
        dst[threadIdx.x] = __shfl_sync(0x0000ffffu, 1, 20);
}

__global__ void k_not_in_mask(int *dst)
{
    dst[threadIdx.x] = __shfl_sync(0x0000ffffu, 1, 0);
}

/* Half of the warp waits at the barrier, half for all lanes. */
__global__ void k_deadlock(int *dst)
{
    if (threadIdx.x % 2)
        __syncthreads();
    else
        dst[threadIdx.x] = __any_sync(0x55555555u, 1);
    if (threadIdx.x % 2)
        __syncwarp();
}

__global__ void k_overrun_shared(int *dst, int past)
{
    CNN_DYNAMIC_SHARED(int, memory);
    memory[static_cast<int>(threadIdx.x) + past] = 1;
    __syncthreads();
    dst[threadIdx.x] = memory[threadIdx.x];
}

__global__ void k_overrun_device(int *dst, int past)
{
    dst[static_cast<int>(threadIdx.x) + past] = 1;
}

/* Shared memory that nobody wrote. */
__global__ void k_poison(int *dst)
{
    __shared__ int fixed[4];
    CNN_DYNAMIC_SHARED(int, dynamic);
    if (threadIdx.x == 0)
        dst[blockIdx.x] = fixed[1] == static_cast<int>(0xCDCDCDCDu) && dynamic[1] == fixed[1];
    __syncthreads();
    fixed[threadIdx.x % 4] = 1;
    dynamic[threadIdx.x % 4] = 1;
}

/* ---- What must work ---- */

void test_reverse(int schedule)
{
    const int tiles = 5;
    std::vector<int> src(THREADS * tiles), dst(src.size());
    for (size_t i = 0; i < src.size(); i++)
        src[i] = static_cast<int>(i * 7);
    check(CNN_LAUNCH(k_reverse<NONE>, 1, THREADS, 0, nullptr, src.data(), dst.data(), tiles) == cudaSuccess, "launch",
          schedule);
    for (size_t i = 0; i < src.size(); i++)
        check(dst[i] == src[i / THREADS * THREADS + THREADS - 1 - i % THREADS], "reverse", schedule);
}

void test_block_sum(int schedule)
{
    std::vector<int> src(THREADS);
    int sum = 0, got = 0;
    for (int i = 0; i < THREADS; i++)
        sum += src[static_cast<size_t>(i)] = i * i;
    check(CNN_LAUNCH(k_block_sum<false>, 1, THREADS, 0, nullptr, src.data(), &got) == cudaSuccess, "launch", schedule);
    check(got == sum, "block sum", schedule);
}

void test_poison(int schedule)
{
    int clean[7] = {};
    check(CNN_LAUNCH(k_poison, 7, 64, 16, nullptr, clean) == cudaSuccess, "launch", schedule);
    for (int i = 0; i < 7; i++)
        check(clean[i], "poison of shared memory", schedule);
}

/* Every built-in that threads exchange values with, against what it means. */
__global__ void k_votes(int *wrong)
{
    const int lane = static_cast<int>(threadIdx.x % 32), half = lane / 16 * 16;
    int bad = 0;
    bad += __shfl_sync(0xffffffffu, lane * 3, 5) != 15;
    bad += __shfl_sync(0xffffffffu, lane, 3, 8) != lane / 8 * 8 + 3;
    bad += __shfl_xor_sync(0xffffffffu, lane, 9) != (lane ^ 9);
    bad += __shfl_up_sync(0xffffffffu, lane, 2, 16) != (lane - half >= 2 ? lane - 2 : lane);
    bad += __shfl_down_sync(0xffffffffu, lane, 3u, 16) != (lane - half + 3 < 16 ? lane + 3 : lane);
    bad += __shfl_xor_sync(0xffffffffu, static_cast<double>(lane), 1) != static_cast<double>(lane ^ 1);
    bad += __ballot_sync(0xffffffffu, lane % 3 == 0) != 0x49249249u;
    if (lane < 16) /* two groups of one warp apart from each other */
        bad += __ballot_sync(0x0000ffffu, 1) != 0x0000ffffu;
    else
        bad += __ballot_sync(0xffff0000u, lane % 2) != 0xaaaa0000u;
    bad += __any_sync(0xffffffffu, lane == 17) != 1 || __any_sync(0xffffffffu, 0) != 0;
    bad += __all_sync(0xffffffffu, lane < 32) != 1 || __all_sync(0xffffffffu, lane != 4) != 0;
    bad += __syncthreads_count(threadIdx.x % 5 == 0) != static_cast<int>((blockDim.x + 4) / 5);
    bad += __syncthreads_or(threadIdx.x == 50) != 1 || __syncthreads_or(0) != 0;
    bad += __syncthreads_and(1) != 1 || __syncthreads_and(threadIdx.x != 3) != 0;
    atomicAdd(wrong, bad);
}

void test_votes(int schedule)
{
    int wrong = 0;
    check(CNN_LAUNCH(k_votes, 3, THREADS, 0, nullptr, &wrong) == cudaSuccess, "launch", schedule);
    check(wrong == 0, "shuffles and votes", schedule);
}

/* Threads and blocks are numbered x fastest, each runs once. */
__global__ void k_numbers(int *count)
{
    unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    count[block * blockDim.x * blockDim.y * blockDim.z + thread] += static_cast<int>(block * 1000 + thread) + 1;
}

void test_numbers(int schedule)
{
    std::vector<int> count(3 * 2 * 2 * 5 * 4 * 2);
    check(CNN_LAUNCH(k_numbers, dim3(3, 2, 2), dim3(5, 4, 2), 0, nullptr, count.data()) == cudaSuccess, "launch",
          schedule);
    for (size_t i = 0; i < count.size(); i++)
        check(count[i] == static_cast<int>(i / 40 * 1000 + i % 40) + 1, "numbers of threads", schedule);
}

/* One 16x8 product, fragments filled by the layout in cuda.cuh, d = 1 before. */
template <typename T> __global__ void k_mma(const T *a, const T *b, float *d)
{
    const unsigned group = threadIdx.x / 4, pair = threadIdx.x % 4;
    uint32_t fragment_a[4], fragment_b[2];
    float sums[4] = {1, 1, 1, 1};
    for (unsigned i = 0; i < 4; i++)
        memcpy(&fragment_a[i], a + (group + i % 2 * 8) * 16 + 2 * pair + i / 2 * 8, 4);
    for (unsigned i = 0; i < 2; i++)
        memcpy(&fragment_b[i], b + group * 16 + 2 * pair + i * 8, 4);
    if (std::is_same<T, __half>::value)
        cnn_mma_m16n8k16_f16(sums, fragment_a, fragment_b);
    else
        cnn_mma_m16n8k16_bf16(sums, fragment_a, fragment_b);
    for (unsigned i = 0; i < 4; i++)
        d[(group + i / 2 * 8) * 8 + 2 * pair + i % 2] = sums[i];
}

template <typename T> void test_mma(int schedule)
{
    T a[16 * 16], b[8 * 16]; /* b by columns */
    float d[16 * 8];
    for (int i = 0; i < 256; i++)
        a[i] = cnn_from_float<T>(static_cast<float>(i * 37 % 19 - 9));
    for (int i = 0; i < 128; i++)
        b[i] = cnn_from_float<T>(static_cast<float>(i * 53 % 23 - 11));
    check(CNN_LAUNCH(k_mma<T>, 1, 32, 0, nullptr, a, b, d) == cudaSuccess, "launch", schedule);
    for (int row = 0; row < 16; row++)
        for (int column = 0; column < 8; column++) {
            float want = 1;
            for (int k = 0; k < 16; k++)
                want += cnn_to_float(a[row * 16 + k]) * cnn_to_float(b[column * 16 + k]);
            check(d[row * 8 + column] == want, "mma", schedule);
        }
}

void test_intrinsics()
{
    check(__dp4a(static_cast<int>(0x80FF017Fu), 0x7F02FF01, 5) == 5 - 128 * 127 - 2 - 1 + 127, "dp4a", 0);
    check(__float2int_rn(2.5f) == 2 && __float2int_rn(3e9f) == INT32_MAX && __float2int_rn(NAN) == 0, "float2int", 0);
    unsigned counter = 0;
    check(atomicInc(&counter, 1) == 0 && atomicInc(&counter, 1) == 1 && counter == 0, "atomicInc", 0);
    check(__clz(1) == 31 && __clz(0) == 32 && __ffs(8) == 4 && __popc(0xF0u) == 4, "bits", 0);
}

void test_limits()
{
    int *none = nullptr;
    check(CNN_LAUNCH(k_overrun_device, 1, 1025, 0, nullptr, none, 0) == cudaErrorInvalidConfiguration, "threads", 0);
    check(CNN_LAUNCH(k_overrun_device, 0, 32, 0, nullptr, none, 0) == cudaErrorInvalidConfiguration, "no block", 0);
    check(CNN_LAUNCH(k_overrun_device, dim3(1, 65536), 32, 0, nullptr, none, 0) == cudaErrorInvalidConfiguration,
          "grid", 0);
    check(CNN_LAUNCH(k_overrun_shared, 1, 32, 49153, nullptr, none, 0) == cudaErrorInvalidValue, "shared memory", 0);
    check(CNN_ALLOW_SHARED(k_overrun_shared, 100000) == cudaSuccess, "more shared memory", 0);
    int dst[32];
    check(CNN_LAUNCH(k_overrun_shared, 1, 32, 100000, nullptr, dst, 0) == cudaSuccess && dst[31] == 1,
          "launch with much shared memory", 0);
}

/* ---- What must be caught ---- */

/* Runs body in a process of its own and returns what it wrote to stderr, "" when it ended well. */
std::string death_of(void (*body)(), int schedule)
{
    int ends[2];
    fflush(stdout);
    if (pipe(ends) != 0)
        return "";
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        simt_set_schedule(schedule);
        body();
        _exit(0);
    }
    close(ends[1]);
    std::string text;
    char part[512];
    for (ssize_t got; (got = read(ends[0], part, sizeof part)) > 0;)
        text.append(part, static_cast<size_t>(got));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "" : text + " ";
}

void check_death(void (*body)(), const char *sentence, const char *what)
{
    for (int schedule = 0; schedule < SIMT_SCHEDULES; schedule++) {
        std::string text = death_of(body, schedule);
        check(text.find(sentence) != std::string::npos, what, schedule);
        if (text.find(sentence) == std::string::npos)
            printf("    it said: %.300s\n", text.c_str());
    }
}

int scratch[256];

#define LAUNCHED(kernel, shared_bytes, ...) [] { (void)CNN_LAUNCH(kernel, 2, 64, shared_bytes, nullptr, __VA_ARGS__); }

void test_faults()
{
    check_death(LAUNCHED(k_early_exit, 0, scratch), "thread (40,0,0) has left the kernel", "a thread leaves early");
    check_death(LAUNCHED(k_two_barriers, 0, scratch), "divergent barrier", "two barriers");
    check_death(LAUNCHED(k_exited_lane, 0, scratch), "lane 31", "exited lane in a mask");
    check_death(LAUNCHED(k_foreign_lane, 0, scratch), "reads lane 20, which is not in the mask", "lane outside");
    check_death(LAUNCHED(k_not_in_mask, 0, scratch), "is not in its own mask", "lane not in its own mask");
    check_death(LAUNCHED(k_deadlock, 0, scratch), "waits at __syncthreads", "deadlock");
#ifndef SIMT_ASAN
    check_death(LAUNCHED(k_overrun_shared, 256, scratch, 1), "behind the 256 bytes of dynamic shared memory",
                "write behind dynamic shared memory");
#else
    check_death(LAUNCHED(k_overrun_shared, 256, scratch, 1), "buffer-overflow", "write behind dynamic shared memory");
    check_death([] { (void)CNN_LAUNCH(k_overrun_device, 2, 64, 0, nullptr, static_cast<int *>(malloc(256)), 1); },
                "heap-buffer-overflow", "write out of bounds");
#endif
}

/* Under which schedules a kernel gives a wrong result, as bits. */
unsigned wrong_schedules(bool (*right)())
{
    unsigned wrong = 0;
    for (int schedule = 0; schedule < SIMT_SCHEDULES; schedule++) {
        simt_set_schedule(schedule);
        if (!right())
            wrong |= 1u << schedule;
    }
    return wrong;
}

template <fault FAULT> bool reverses()
{
    const int tiles = 3;
    int src[THREADS * tiles], dst[THREADS * tiles];
    for (int i = 0; i < THREADS * tiles; i++)
        src[i] = i;
    (void)CNN_LAUNCH(k_reverse<FAULT>, 1, THREADS, 0, nullptr, src, dst, tiles);
    for (int i = 0; i < THREADS * tiles; i++)
        if (dst[i] != i / THREADS * THREADS + THREADS - 1 - i % THREADS)
            return false;
    return true;
}

/* dst = the sum of what all blocks leave, each by its last thread. Without tickets a block adds that need not be the
 * last. */
template <fault FAULT> __global__ void k_grid_sum(int *parts, int *dst, unsigned *ticket)
{
    if (threadIdx.x == blockDim.x - 1)
        parts[blockIdx.x] = static_cast<int>(blockIdx.x) + 1;
    if (FAULT == NO_TICKET ? blockIdx.x != 0 : !cnn_last_block(ticket, gridDim.x))
        return;
    if (threadIdx.x == 0)
        for (unsigned i = 0; i < gridDim.x; i++)
            *dst += parts[i];
}

/* Twice: the counter is ready for the next kernel, of another number of blocks. */
template <fault FAULT> bool adds_blocks()
{
    unsigned ticket = 0;
    bool right = true;
    for (int blocks = 5; blocks < 7; blocks++) {
        int parts[6] = {}, got = 0;
        (void)CNN_LAUNCH(k_grid_sum<FAULT>, static_cast<unsigned>(blocks), THREADS, 0, nullptr, parts, &got, &ticket);
        right = right && got == blocks * (blocks + 1) / 2 && ticket == 0;
    }
    return right;
}

template <bool RACE> bool adds()
{
    int src[THREADS], sum = 0, got = 0;
    for (int i = 0; i < THREADS; i++)
        sum += src[i] = i + 1;
    (void)CNN_LAUNCH(k_block_sum<RACE>, 1, THREADS, 0, nullptr, src, &got);
    return got == sum;
}

void test_races()
{
    const unsigned every = (1u << SIMT_SCHEDULES) - 1;
    check(wrong_schedules(reverses<NONE>) == 0, "both barriers", -1);
    check(wrong_schedules(reverses<NO_BARRIER>) == every, "a missing barrier shows under every schedule", -1);
    check(wrong_schedules(reverses<NO_SECOND_BARRIER>) == every, "a missing second barrier shows", -1);
    check(wrong_schedules(adds<false>) == 0, "no race", -1);
    unsigned wrong = wrong_schedules(adds<true>);
    check(wrong >> SIMT_GREEDY & 1, "the race shows when a warp runs ahead", -1);
    check(!(wrong >> SIMT_ROUNDS & 1), "the race does not show when threads run in rounds", -1);
    check(wrong_schedules(adds_blocks<NONE>) == 0, "the last block adds", -1);
    wrong = wrong_schedules(adds_blocks<NO_TICKET>);
    check(wrong >> SIMT_ROUNDS & 1, "a block that adds before the others are done shows", -1);
    check(!(wrong >> SIMT_REVERSE & 1), "it does not show when that block comes last", -1);
}

} // namespace

int main()
{
    for (int schedule = 0; schedule < SIMT_SCHEDULES; schedule++) {
        simt_set_schedule(schedule);
        test_reverse(schedule);
        test_block_sum(schedule);
        test_poison(schedule);
        test_votes(schedule);
        test_numbers(schedule);
        test_mma<__half>(schedule);
        test_mma<__nv_bfloat16>(schedule);
    }
    test_intrinsics();
    test_limits();
    test_faults();
    test_races();
    printf("simt: %d failures\n", failures);
    return failures != 0;
}
