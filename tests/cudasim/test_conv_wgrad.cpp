/* Weight gradients on tensor cores: pixels that only fill up a tile read nothing. An infinity in x, which 0 times would
 * be NaN, comes into the sums of its own tap alone, on every schedule. And what ldmatrix gives to which lane. */
#include "kernels/cuda/cuda.cuh"
#include "kernels/cuda/kernels.h"
#include "tests/cudasim/cudasim.h"

#include <cstdio>
#include <vector>

/* ---- The runtime, as far as launches need it ---- */

cudaError_t cudasim_enqueue(cudaStream_t, std::function<void()> work)
{
    work();
    return cudaSuccess;
}

cudaError_t cudasim_fail(cudaError_t error)
{
    return error;
}

static int failed;

static void check(bool good, const char *what, int schedule)
{
    if (!good) {
        printf("schedule %d: %s\n", schedule, what);
        failed++;
    }
}

/* ---- An infinity ---- */

/* x of ones with an infinity in a corner, dy of ones: 3 x 3 pixels of 16 are a step's. */
static void check_infinity(int schedule)
{
    enum { SIDE = 5, OUT = 3, CHANNELS = 8, TAPS = 9 };
    const uint16_t one = 0x3C00, infinity = 0x7C00;
    std::vector<uint16_t> x(SIDE * SIDE * CHANNELS, one), dy(OUT * OUT * CHANNELS, one);
    std::vector<float> dw(CHANNELS * TAPS * CHANNELS, -1.0f);
    cnn_op_desc desc = {};
    desc.op = CNN_OP_CONV_WGRAD;
    desc.stride = 1;
    desc.arg[CNN_ARG_SRC] = cnn_desc(CNN_F16, 1, SIDE, SIDE, CHANNELS);
    desc.arg[CNN_ARG_SRC2] = cnn_desc(CNN_F16, 1, OUT, OUT, CHANNELS);
    desc.arg[CNN_ARG_DST] = cnn_desc(CNN_F32, CHANNELS, OUT, OUT, CHANNELS);
    x[0] = infinity;
    void *arg[CNN_ARG_COUNT] = {};
    arg[CNN_ARG_SRC] = x.data();
    arg[CNN_ARG_SRC2] = dy.data();
    arg[CNN_ARG_DST] = dw.data();
    std::vector<cnn_vec<float, 4>> workspace(cnn_cuda_conv_wgrad_mma_workspace(&desc) / 16 + 1);
    unsigned tickets[CNN_CUDA_TICKETS] = {};
    const cnn_cuda_queue queue = {nullptr, tickets};
    simt_set_schedule(schedule);
    check(cnn_cuda_conv_wgrad_mma(&desc, arg, workspace.data(), &queue) == cudaSuccess, "launch", schedule);
    for (int k = 0; k < CHANNELS; k++)
        for (int tap = 0; tap < TAPS; tap++)
            for (int c = 0; c < CHANNELS; c++) {
                const float want = tap == 0 && c == 0 ? INFINITY : 9.0f;
                check(dw[static_cast<size_t>((k * TAPS + tap) * CHANNELS + c)] == want, "a sum beside an infinity",
                      schedule);
            }
}

/* ---- Fragments ---- */

/* Element (row, column) of matrix m is 256 m + 16 row + column. */
__global__ void k_load(uint32_t *got)
{
    __shared__ cnn_vec<uint16_t, 8> rows[32];
    uint32_t fragment[4];
    for (unsigned column = 0; column < 8; column++)
        rows[threadIdx.x].at[column] = static_cast<uint16_t>(threadIdx.x / 8 * 256 + threadIdx.x % 8 * 16 + column);
    __syncwarp();
    cnn_load_transposed(fragment, rows[threadIdx.x].at);
    for (unsigned m = 0; m < 4; m++)
        got[threadIdx.x * 4 + m] = fragment[m];
}

static void check_load(int schedule)
{
    uint32_t got[32 * 4];
    simt_set_schedule(schedule);
    check(CNN_LAUNCH(k_load, 1, 32, 0, nullptr, got) == cudaSuccess, "launch", schedule);
    for (uint32_t lane = 0; lane < 32; lane++)
        for (uint32_t m = 0; m < 4; m++) {
            const uint32_t lower = m * 256 + lane % 4 * 2 * 16 + lane / 4;
            check(got[lane * 4 + m] == (lower | (lower + 16) << 16), "ldmatrix", schedule);
        }
}

int main()
{
    for (int schedule = 0; schedule < SIMT_SCHEDULES; schedule++) {
        check_infinity(schedule);
        check_load(schedule);
    }
    printf("conv_wgrad: %d failures\n", failed);
    return failed != 0;
}
